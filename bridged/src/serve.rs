//! Listeners: accepting connections and speaking HTTP on them, for every port of both daemons.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::app::{App, StartError};
use crate::body::ReplyBody;
use crate::wire::{self, Guarded};

/// Largest request head, in bytes. Above it the answer is 431.
pub const HEAD_LIMIT: usize = 64 << 10;
/// Most header fields of a request.
const FIELDS_LIMIT: usize = 200;
/// How long a connection may be silent before and between requests. Longer than clients keep idle
/// connections, so that a client never sends into a connection that is just being closed. A head that has
/// begun must end sooner: see `wire`.
pub const IDLE: Duration = Duration::from_secs(120);
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

/// The HTTP/1.1 settings of every listener; `head` is the deadline for a request's head.
pub fn http1(head: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head)
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
    if tokio::time::timeout(IDLE, tcp.peek(&mut [0])).await.is_err() {
        return;
    }
    if let Ok(Ok(protocol)) = tokio::time::timeout(wire::HEAD, protocol(&tcp)).await {
        speak(app, tcp, protocol, service).await;
    }
}

/// Speaks HTTP until either side ends. When the app stops, what is in flight may end.
pub async fn speak<IO, S, F>(app: &Arc<App>, io: IO, protocol: Protocol, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let ended = match protocol {
        // Boxed, so that a connection takes the memory of its own protocol only.
        Protocol::Http1 => Box::pin(speak_http1(app, io, service)).await,
        Protocol::Http2 => Box::pin(speak_http2(app, io, service)).await,
    };
    if let Err(error) = ended {
        // Clients drop connections they no longer need: nothing to worry anyone.
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended");
    }
}

async fn speak_http1<IO, S, F>(app: &Arc<App>, io: IO, service: S) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let io = Guarded::http1(io, app.metrics.wire.clone());
    let switch = io.switch();
    let service = service_fn(move |mut request: Request<Incoming>| {
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(switch.clone());
        }
        // HTTP/1.1 keeps room for this future as long as the connection lives: boxed, it is a pointer.
        let answer = Box::pin(service(request));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1(IDLE).serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection.with_upgrades());
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn speak_http2<IO, S, F>(app: &Arc<App>, io: IO, service: S) -> hyper::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let io = Guarded::http2(io, app.metrics.wire.clone());
    let service = service_fn(move |request| {
        let answer = Box::pin(service(request));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = std::pin::pin!(http2().serve_connection(TokioIo::new(io), service));
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = app.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Looks at a connection's first bytes without taking them: HTTP/2 begins with `PRI ` (RFC 9113 section 3.4).
async fn protocol(tcp: &TcpStream) -> std::io::Result<Protocol> {
    let mut start = [0_u8; 4];
    loop {
        let count = tcp.peek(&mut start).await?;
        let seen = start.get(..count).unwrap_or_default();
        if count == 0 || !b"PRI ".starts_with(seen) {
            return Ok(Protocol::Http1);
        }
        if count == start.len() {
            return Ok(Protocol::Http2);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
