//! What stands between a client's bytes and hyper: refuses requests that two readers could read differently,
//! and clients that are too slow or send what only costs.
//!
//! `Guarded` is the connection that hyper reads from. For HTTP/1 it reads along with `http1::Inspector`; a head
//! that is unsound reaches hyper only up to its fault, with a NUL in the fault's place, which makes hyper answer
//! 400 in its turn (after the replies to requests before it) and close. For HTTP/2 it counts idle frames. In
//! both a head that has begun must end in time. Invariant: hyper never gets a whole unsound head. After an
//! accepted upgrade (`Switch`) the bytes are no HTTP any more and pass unread.

mod http1;
mod http2;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::metrics::WireMetrics;

/// Longest time from the first byte of a head to its end, and for the preface of HTTP/2.
pub(crate) const HEAD: Duration = Duration::from_secs(10);

/// A client's connection, with a guard on what is read from it.
pub(crate) struct Guarded<IO> {
    io: IO,
    metrics: Arc<WireMetrics>,
    guard: Guard,
    switch: Switch,
    /// The head that is being waited for.
    open: Option<Open>,
    timer: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

enum Guard {
    Http1(http1::Inspector),
    Http2(http2::Follower, http2::Allowance),
}

/// A head that has begun and not ended.
#[derive(Clone, Copy)]
struct Open {
    number: u64,
    deadline: Instant,
}

/// Tells a connection that an upgrade has been accepted: its bytes are no HTTP from then on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Switch(Arc<AtomicBool>);

impl Switch {
    pub(crate) fn turn(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_turned(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl<IO> Guarded<IO> {
    pub(crate) fn http1(io: IO, metrics: Arc<WireMetrics>) -> Guarded<IO> {
        Guarded::new(io, metrics, Guard::Http1(http1::Inspector::new()))
    }

    pub(crate) fn http2(io: IO, metrics: Arc<WireMetrics>) -> Guarded<IO> {
        let allowance = http2::Allowance::full(Instant::now());
        let mut guarded = Guarded::new(io, metrics, Guard::Http2(http2::Follower::new(), allowance));
        guarded.watch_head();
        guarded
    }

    fn new(io: IO, metrics: Arc<WireMetrics>, guard: Guard) -> Guarded<IO> {
        Guarded {
            io,
            metrics,
            guard,
            switch: Switch::default(),
            open: None,
            timer: None,
            ended: false,
        }
    }

    pub(crate) fn switch(&self) -> Switch {
        self.switch.clone()
    }

    /// Judges what has been read into `into` after `before`; what hyper may not see is taken out again.
    fn judge(&mut self, into: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let new = into.filled().get(before..).unwrap_or_default();
        match &mut self.guard {
            Guard::Http1(inspector) => {
                if let Err(stop) = inspector.follow(new) {
                    self.stop(stop, into, before);
                }
            }
            Guard::Http2(follower, allowance) => {
                let idle = follower.follow(new);
                if idle > 0 && !allowance.take(idle, Instant::now()) {
                    self.metrics.flood.increment(1);
                    tracing::info!(reason = "http2_flood", "a client sends too many idle frames");
                    return Err(io::Error::other("too many idle frames"));
                }
            }
        }
        self.watch_head();
        Ok(())
    }

    fn stop(&mut self, stop: http1::Stop, into: &mut ReadBuf<'_>, before: usize) {
        self.ended = true;
        self.metrics.malformed.increment(1);
        tracing::info!(
            reason = "malformed_request",
            error = &stop.fault as &dyn std::error::Error,
            "request refused"
        );
        into.set_filled(before + stop.at);
        if stop.in_head {
            // Takes the place of the byte at fault. It is invalid everywhere in a head.
            into.put_slice(b"\0");
        }
    }

    /// Notes when a head begins.
    fn watch_head(&mut self) {
        let number = match &self.guard {
            Guard::Http1(inspector) => inspector.open_head(),
            Guard::Http2(follower, _) => follower.in_preface().then_some(0),
        };
        let known = self.open.map(|open| open.number);
        if number != known {
            self.open = number.map(|number| Open {
                number,
                deadline: Instant::now() + HEAD,
            });
        }
    }

    /// Waits for more of a head until its deadline.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(open) = self.open else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(open.deadline)));
        if timer.deadline() != open.deadline {
            timer.as_mut().reset(open.deadline);
        }
        ready!(timer.as_mut().poll(cx));
        self.metrics.slow.increment(1);
        tracing::info!(
            reason = "head_too_slow",
            "a client did not finish a request's head"
        );
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.switch.is_turned() {
            return Pin::new(&mut this.io).poll_read(cx, into);
        }
        if this.ended {
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        if Pin::new(&mut this.io).poll_read(cx, into)?.is_pending() {
            return this.poll_head(cx);
        }
        Poll::Ready(this.judge(into, before))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// How many bytes of an HTTP/1 connection, which comes in `portions`, a sound reader would take.
pub fn sound_until<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> usize {
    let mut inspector = http1::Inspector::new();
    let mut read = 0;
    for portion in portions {
        match inspector.follow(portion) {
            Ok(()) => read += portion.len(),
            Err(stop) => return read + stop.at,
        }
    }
    read
}
