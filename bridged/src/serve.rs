//! Listeners: accepting connections and speaking HTTP on them, for every port of both daemons.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::app::{App, StartError};
use crate::body::ReplyBody;
use crate::prefixed::Prefixed;
use crate::wire::{self, Guarded, InUse, Line};

/// Largest request head, in bytes. Above it the answer is 431.
pub const HEAD_LIMIT: usize = 64 << 10;
/// Most header fields of a request.
const FIELDS_LIMIT: usize = 200;
/// How long a connection may be without a request. Longer than clients keep idle connections, so that a client
/// never sends into a connection that is just being closed. A head that has begun must end sooner: see `wire`.
pub const IDLE: Duration = Duration::from_secs(120);
/// How long an HTTP/1 connection rests before its buffers are let go: longer than clients that go on at once take.
const REST: Duration = Duration::from_secs(2);
/// How long a client that is idle may take to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens a listener.
///
/// # Errors
/// The address cannot be listened on.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

/// Accepts connections until the app stops, and runs `handle` for each on the app's tracker.
pub async fn accept<H, F>(app: Arc<App>, listener: TcpListener, handle: H)
where
    H: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.stopping.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                // Without it, small frames wait for the peer's delayed acknowledgement (40 ms).
                if tcp.set_nodelay(true).is_ok() {
                    app.tracker.spawn(handle(tcp, peer));
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a connection cannot be accepted"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The HTTP/1.1 settings of every listener.
pub fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Guarded` sees to heads, `speak` to what is between them.
        .header_read_timeout(None)
        .max_header_size(HEAD_LIMIT)
        .max_buf_size(2 * HEAD_LIMIT)
        .max_headers(FIELDS_LIMIT)
        .preserve_header_case(true)
        // Replies carry the upstream's date or none.
        .auto_date_header(false);
    builder
}

/// The HTTP/2 settings of every listener.
fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_LIMIT).unwrap_or(u32::MAX))
        .max_concurrent_streams(200)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        // Small windows throttle long bodies: the defaults are 64 KiB.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(60))
        // WebSockets over HTTP/2 (RFC 8441): clients that see no offer and have no other way fail for good.
        .enable_connect_protocol()
        .auto_date_header(false);
    builder
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 and 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Speaks HTTP on a connection without TLS, in the version that the client begins with.
pub async fn speak_plain<S, F>(app: &Arc<App>, tcp: TcpStream, service: S)
where
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let begun = tokio::select! {
        begun = tokio::time::timeout(IDLE, tcp.readable()) => begun.is_ok(),
        () = app.stopping.cancelled() => false,
    };
    if !begun {
        return;
    }
    if let Ok(Ok((io, protocol))) = tokio::time::timeout(wire::HEAD, opening(tcp)).await {
        speak(app, io, Manner { protocol, idle: IDLE }, service).await;
    }
}

/// Reads ahead until it is clear which HTTP it is: HTTP/2 begins with `PRI ` (RFC 9113 section 3.4).
///
/// # Errors
/// The connection broke.
pub async fn opening(tcp: TcpStream) -> std::io::Result<(Prefixed<TcpStream>, Protocol)> {
    const PREFACE: &[u8] = b"PRI ";
    let mut io = Prefixed::from(tcp);
    loop {
        let count = poll_fn(|cx| io.poll_ahead(cx)).await?;
        if io.ahead().starts_with(PREFACE) {
            return Ok((io, Protocol::Http2));
        }
        if count == 0 || !PREFACE.starts_with(io.ahead()) {
            return Ok((io, Protocol::Http1));
        }
    }
}

/// How HTTP is spoken on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// In which version.
    pub protocol: Protocol,
    /// How long the connection may be without a request.
    pub idle: Duration,
}

/// Speaks HTTP until either side ends. When the app stops, what is in flight may end.
pub async fn speak<IO, S, F>(app: &Arc<App>, io: Prefixed<IO>, manner: Manner, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let ended = match manner.protocol {
        // Boxed, so that a connection takes the memory of its own protocol only.
        Protocol::Http1 => Box::pin(speak_http1(app, io, manner.idle, service)).await,
        Protocol::Http2 => Box::pin(speak_http2(app, io, manner.idle, service)).await,
    };
    if let Err(error) = ended {
        // Clients drop connections they no longer need: nothing to worry anyone.
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended");
    }
}

/// HTTP/1 in sessions: between them the connection rests, and is nothing but its stream.
async fn speak_http1<IO, S, F>(
    app: &Arc<App>,
    io: Prefixed<IO>,
    idle: Duration,
    service: S,
) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let (line, rest) = (Line::default(), REST.min(idle));
    let mut io = Box::new(Guarded::http1(io, app.metrics.wire.clone(), line.clone(), rest));
    let mut patience = idle;
    loop {
        let begun = tokio::select! {
            begun = tokio::time::timeout(patience, io.unpark()) => begun,
            () = app.stopping.cancelled() => Ok(Ok(false)),
        };
        if !matches!(begun, Ok(Ok(true))) {
            let _ = tokio::time::timeout(FAREWELL, io.shutdown()).await;
            return Ok(());
        }
        match Box::pin(session(app, io, &line, service.clone())).await? {
            Some(parked) => io = parked,
            None => return Ok(()),
        }
        patience = idle - rest;
    }
}

/// Serves requests until the connection ends, or rests and is given back.
async fn session<IO, S, F>(
    app: &App,
    io: Box<Guarded<IO>>,
    line: &Line,
    service: S,
) -> hyper::Result<Option<Box<Guarded<IO>>>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let line = line.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        if request.headers().contains_key(UPGRADE) {
            line.offer(&mut request);
        }
        // HTTP/1.1 keeps room for this future as long as the connection lives: boxed, it is a pointer.
        Box::pin(served(&line, &service, request))
    });
    let mut connection = http1()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    tokio::select! {
        ended = &mut connection => ended?,
        () = app.stopping.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await?;
        }
    }
    let io = connection.into_parts().map(|parts| parts.io.into_inner());
    Ok(io.filter(|io| io.is_parked()))
}

/// The answer to a request, which uses its connection until it is sent.
fn served<S, F>(
    line: &Line,
    service: &S,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<InUse<ReplyBody>>, Infallible>> + use<S, F>
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<ReplyBody>>,
{
    let using = line.begin();
    let answer = service(request);
    async move { Ok(using.until_sent(answer.await)) }
}

async fn speak_http2<IO, S, F>(
    app: &Arc<App>,
    io: Prefixed<IO>,
    idle: Duration,
    service: S,
) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let line = Line::default();
    let io = Guarded::http2(io, app.metrics.wire.clone(), line.clone());
    let uses = line.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        if *request.method() == Method::CONNECT {
            uses.offer(&mut request);
        }
        Box::pin(served(&uses, &service, request))
    });
    let mut connection = std::pin::pin!(http2().serve_connection(TokioIo::new(io), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = app.stopping.cancelled() => {}
        () = line.unused_for(idle) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
