//! Carries bytes both ways between two streams until both have ended, nothing moves any more, or the process is
//! to end.
//!
//! One direction may end before the other (half-close), which then has to keep moving. A TLS peer that leaves
//! without a word (no `close_notify`) has ended too: whatever else rests on these bytes has its own way to tell
//! the end. Nothing is read into.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::copy;

/// How long a splice may be silent once the process is to end.
const LAST_SILENCE: Duration = Duration::from_secs(1);
/// How long a splice may be silent once one of its directions has ended.
const HALF_CLOSED_SILENCE: Duration = Duration::from_secs(5);
/// How long either side may take to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// Splices `one` and `other`; `idle` is the longest time in which nothing may move.
pub(crate) async fn splice(
    one: impl AsyncRead + AsyncWrite + Unpin,
    other: impl AsyncRead + AsyncWrite + Unpin,
    idle: Duration,
    stopping: &CancellationToken,
) {
    let activity = Arc::new(Activity::default());
    let half_closed = Arc::new(Notify::new());
    let mut one = Watched {
        io: one,
        activity: activity.clone(),
        half_closed: half_closed.clone(),
    };
    let mut other = Watched {
        io: other,
        activity: activity.clone(),
        half_closed: half_closed.clone(),
    };
    let abandoned = async {
        half_closed.notified().await;
        activity.silent_for(HALF_CLOSED_SILENCE).await;
    };
    let stopped = async {
        stopping.cancelled().await;
        activity.silent_for(LAST_SILENCE).await;
    };
    tokio::select! {
        ended = copy::both_ways(&mut one, &mut other) => {
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "a splice broke");
            }
        }
        () = activity.silent_for(idle) => tracing::debug!("a splice fell silent"),
        () = abandoned => tracing::debug!("half a splice fell silent"),
        () = stopped => {}
    }
    // Whichever side is still there learns that this was the end, and not an attack on its TLS.
    let farewell = async { tokio::join!(one.shutdown(), other.shutdown()) };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// A side: notes when something is read from it.
struct Watched<IO> {
    io: IO,
    activity: Arc<Activity>,
    half_closed: Arc<Notify>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        match ready!(Pin::new(&mut self.io).poll_read(cx, into)) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Poll::Ready(Err(error)),
            _ => self.activity.note(),
        }
        if into.filled().len() == before {
            self.half_closed.notify_one();
        }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_silent_splice_ends_and_a_busy_one_does_not() {
        let idle = Duration::from_millis(200);
        let ((mut client, one), (other, mut server)) = (duplex(64), duplex(64));
        let stopping = CancellationToken::new();
        let start = Instant::now();
        let busy = async {
            for _ in 0..10 {
                tokio::time::sleep(idle / 4).await;
                client.write_all(b"x").await.unwrap();
                server.read_exact(&mut [0]).await.unwrap();
            }
            let last = Instant::now();
            // Then nothing: both sides are told.
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
            last
        };
        let (last, ()) = tokio::join!(busy, splice(one, other, idle, &stopping));
        assert!(last - start > idle * 2 && last.elapsed() > idle / 2);
    }
}
