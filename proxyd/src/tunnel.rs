//! Blind tunnels: dial the host itself, then carry bytes both ways until both sides have ended.
//!
//! Nothing is read into: a server may speak first, and one direction may end before the other (half-close).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::authority::Authority;
use crate::front::Client;
use crate::guard::Guard;
use crate::proxy::Proxy;
use crate::refusal::Refusal;

/// Deadline for look-up and connection together.
const DIAL: Duration = Duration::from_secs(10);
/// Bytes read at once, a direction.
const BUFFER: usize = 16 << 10;

/// Connects to the target; the guard judges each address before it is dialled.
pub(crate) async fn dial(guard: &Guard, target: &Authority) -> Result<TcpStream, Refusal> {
    tokio::time::timeout(DIAL, connect(guard, target)).await.unwrap_or(Err(Refusal::Slow))
}

async fn connect(guard: &Guard, target: &Authority) -> Result<TcpStream, Refusal> {
    let port = target.port.get();
    let addresses: Vec<SocketAddr> = match target.address {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => tokio::net::lookup_host((&*target.host, port)).await.map_err(Refusal::Resolve)?.collect(),
    };
    let mut last = Refusal::Address;
    for address in addresses.into_iter().filter(|address| guard.allows(address.ip())) {
        match TcpStream::connect(address).await.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp)) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = Refusal::Dial(error),
        }
    }
    Err(last)
}

/// Carries bytes both ways until both sides have ended, or nothing has moved for the idle limit.
pub(crate) async fn splice(proxy: &Proxy, client: Client, upstream: TcpStream) {
    let activity = Arc::new(Activity { since: Instant::now(), last: AtomicU64::new(0) });
    let metrics = &proxy.metrics;
    let mut client = Watched { io: client, read: metrics.bytes_up.clone(), activity: activity.clone() };
    let mut upstream = Watched { io: upstream, read: metrics.bytes_down.clone(), activity: activity.clone() };
    metrics.tunnels_open.increment(1.0);
    tokio::select! {
        ended = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => {
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "a tunnel broke");
            }
        }
        () = activity.silent_for(proxy.config.tunnel_idle) => tracing::debug!("a tunnel fell silent"),
        () = proxy.app.stopping.cancelled() => {}
    }
    metrics.tunnels_open.decrement(1.0);
}

/// When something last moved.
#[derive(Debug)]
struct Activity {
    since: Instant,
    last: AtomicU64,
}

impl Activity {
    fn note(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    async fn silent_for(&self, span: Duration) {
        loop {
            let last = self.since + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if last.elapsed() >= span {
                return;
            }
            tokio::time::sleep_until(last + span).await;
        }
    }
}

/// A side of a tunnel: counts what is read from it.
struct Watched<IO> {
    io: IO,
    read: Counter,
    activity: Arc<Activity>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        self.read.increment((into.filled().len() - before) as u64);
        self.activity.note();
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
