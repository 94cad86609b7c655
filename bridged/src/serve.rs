//! Listeners: accepting connections and speaking HTTP on them, for every port of both daemons.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::app::{App, StartError};
use crate::body::ReplyBody;

/// Largest request head, in bytes. Above it the answer is 431.
pub const HEAD_LIMIT: usize = 64 << 10;
/// Most header fields of a request.
const FIELDS_LIMIT: usize = 200;
/// How long a connection may be silent before and between requests. Longer than clients keep idle
/// connections, so that a client never sends into a connection that is just being closed.
pub const IDLE: Duration = Duration::from_secs(120);
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens a listener.
///
/// # Errors
/// The address cannot be listened on.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
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
                tracing::warn!(error = &error as &dyn std::error::Error, "a connection cannot be accepted");
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
        .max_buf_size(HEAD_LIMIT)
        .max_headers(FIELDS_LIMIT)
        .preserve_header_case(true)
        // Replies carry the upstream's date or none.
        .auto_date_header(false);
    builder
}

/// The HTTP/2 settings of every listener.
pub fn http2() -> http2::Builder<TokioExecutor> {
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
        .auto_date_header(false);
    builder
}

/// Speaks HTTP/1.1 or HTTP/2, as the client begins, until either side ends.
pub async fn speak_any<IO, S, F>(io: IO, stopping: &CancellationToken, service: S)
where
    IO: Read + Write + Unpin + Send + 'static,
    S: Fn(Request<Incoming>) -> F + Send + Clone + 'static,
    F: Future<Output = Response<ReplyBody>> + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(FIELDS_LIMIT)
        .preserve_header_case(true)
        .auto_date_header(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_LIMIT).unwrap_or(u32::MAX))
        .max_concurrent_streams(200)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .auto_date_header(false);
    let service = service_fn(move |request| {
        let answer = service(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error, "a connection ended");
    }
}
