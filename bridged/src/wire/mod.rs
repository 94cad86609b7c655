//! What stands between a client's bytes and hyper: refuses requests that two readers could read differently,
//! and clients that are too slow or send what only costs.
//!
//! `Guarded` is the connection that hyper reads from. For HTTP/1 it reads along with `http1::Inspector`; a head
//! that is unsound reaches hyper only up to its fault, with a NUL in the fault's place, which makes hyper answer
//! 400 in its turn (after the replies to requests before it) and close. For HTTP/2 it counts idle frames. In
//! both a head that has begun must end in time. Invariant: hyper never gets a whole unsound head. What follows a
//! CONNECT is held back until it is refused; after an accepted upgrade (`Switch`) the bytes are no HTTP any more
//! and pass unread.
//!
//! An HTTP/1 connection that rests between two requests is parked: hyper is told that it has ended, lets go of its
//! buffers and gives the connection back, which then waits for the next request without any.

mod http1;
mod http2;
mod line;
mod overlong;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::metrics::WireMetrics;
use crate::prefixed::Prefixed;
use http1::{Connects, Fault};
pub use line::{InUse, Line, Switch, Use};
use overlong::Overlong;

/// Longest time from the first byte of a head to its end, and for the preface of HTTP/2.
pub(crate) const HEAD: Duration = Duration::from_secs(10);

/// How much is read away at a time.
const SKIPPED: usize = 4 << 10;

/// A client's connection, with a guard on what is read from it.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: Prefixed<IO>,
    metrics: Arc<WireMetrics>,
    guard: Guard,
    line: Line,
    limits: Limits,
    stage: Stage,
    /// What is being waited for.
    wait: Option<Wait>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the last write has not gone through.
    unsent: bool,
    /// Who wants to read what is held back after a CONNECT.
    reader: Option<Waker>,
    /// A request whose target is too long.
    overlong: Option<Box<Overlong>>,
}

#[derive(Debug)]
enum Guard {
    Http1(http1::Inspector),
    Http2(http2::Follower, http2::Allowance),
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    head: Duration,
    /// How long a connection rests before it is parked, if it may be.
    rest: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Parked,
    /// What is left of a head is read away.
    Skipping,
    /// After a fault, nothing more is read.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Until,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// The end of the head with this number.
    HeadEnds(u64),
    /// The connection has rested for long enough.
    Rested,
}

impl<IO> Guarded<IO> {
    /// HTTP/1 behind the proxy port: to be parked after `rest` (see `Guarded::unpark`).
    pub(crate) fn http1(
        io: Prefixed<IO>,
        metrics: Arc<WireMetrics>,
        line: Line,
        rest: Duration,
    ) -> Guarded<IO> {
        let guard = Guard::Http1(http1::Inspector::new(Connects::Refuse));
        let rest = Some(rest);
        Guarded::new(io, metrics, line, guard, Limits { head: HEAD, rest })
    }

    /// HTTP/1 on the proxy port, where CONNECT is taken; `head` is the deadline for a head.
    pub fn proxy_http1(
        io: Prefixed<IO>,
        metrics: Arc<WireMetrics>,
        line: Line,
        head: Duration,
    ) -> Guarded<IO> {
        let guard = Guard::Http1(http1::Inspector::new(Connects::Judge));
        Guarded::new(io, metrics, line, guard, Limits { head, rest: None })
    }

    /// HTTP/2.
    pub fn http2(io: Prefixed<IO>, metrics: Arc<WireMetrics>, line: Line) -> Guarded<IO> {
        let allowance = http2::Allowance::full(Instant::now());
        let guard = Guard::Http2(http2::Follower::new(), allowance);
        let limits = Limits {
            head: HEAD,
            rest: None,
        };
        let mut guarded = Guarded::new(io, metrics, line, guard, limits);
        guarded.watch();
        guarded
    }

    fn new(
        io: Prefixed<IO>,
        metrics: Arc<WireMetrics>,
        line: Line,
        guard: Guard,
        limits: Limits,
    ) -> Guarded<IO> {
        Guarded {
            io,
            metrics,
            guard,
            line,
            limits,
            stage: Stage::Open,
            wait: None,
            timer: None,
            unsent: false,
            reader: None,
            overlong: None,
        }
    }

    /// The connection, with what was held back.
    pub fn into_inner(self) -> Prefixed<IO> {
        self.io
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.stage == Stage::Parked
    }

    /// Judges what has been read into `into` after `before`; what hyper may not see is taken out again.
    fn judge(&mut self, into: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let new = into.filled().get(before..).unwrap_or_default();
        match &mut self.guard {
            Guard::Http1(inspector) => match inspector.follow(new) {
                Ok(count) => {
                    let held = new.get(count..).unwrap_or_default();
                    self.io.unread(Bytes::copy_from_slice(held));
                    into.set_filled(before + count);
                }
                Err(stop) => self.stop(stop, into, before),
            },
            Guard::Http2(follower, allowance) => {
                let idle = follower.follow(new);
                if idle > 0 && !allowance.take(idle, Instant::now()) {
                    self.metrics.flood.increment(1);
                    tracing::info!(reason = "http2_flood", "a client sends too many idle frames");
                    return Err(io::Error::other("too many idle frames"));
                }
            }
        }
        self.watch();
        Ok(())
    }

    fn stop(&mut self, stop: http1::Stop, into: &mut ReadBuf<'_>, before: usize) {
        self.stage = Stage::Ended;
        self.metrics.malformed.increment(1);
        tracing::info!(
            reason = "malformed_request",
            error = &stop.fault as &dyn std::error::Error,
            "request refused"
        );
        let mut is_over = true;
        if stop.fault == Fault::TargetTooLong {
            let rest = into.filled().get(before + stop.at..).unwrap_or_default();
            is_over = self.overlong.insert(Box::new(Overlong::new())).skip(rest);
        }
        into.set_filled(before + stop.at);
        if !is_over {
            self.stage = Stage::Skipping;
        } else if stop.in_head {
            refuse(into);
        }
    }

    /// Notes when a wait begins.
    fn watch(&mut self) {
        let until = match &self.guard {
            _ if self.stage == Stage::Skipping => Some(Until::HeadEnds(u64::MAX)),
            Guard::Http1(inspector) => match inspector.open_head() {
                Some(number) => Some(Until::HeadEnds(number)),
                None => self.may_park(inspector).then_some(Until::Rested),
            },
            Guard::Http2(follower, _) => follower.in_preface().then_some(Until::HeadEnds(0)),
        };
        if until != self.wait.map(|wait| wait.until) {
            self.wait = until.map(|until| Wait {
                until,
                deadline: Instant::now() + self.limit(until),
            });
        }
    }

    fn limit(&self, until: Until) -> Duration {
        match until {
            Until::HeadEnds(_) => self.limits.head,
            Until::Rested => self.limits.rest.unwrap_or_default(),
        }
    }

    /// Whether nothing is under way, in either direction.
    fn may_park(&self, inspector: &http1::Inspector) -> bool {
        self.limits.rest.is_some()
            && inspector.is_between_requests()
            && self.line.is_unused()
            && !self.unsent
            && !self.line.is_upgradable()
    }

    /// Nothing has come: waits for more of a head until its deadline, or for the connection to have rested.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch();
        let Some(wait) = self.wait else {
            return Poll::Pending;
        };
        ready!(self.poll_timer(cx, wait.deadline));
        if wait.until == Until::Rested {
            self.stage = Stage::Parked;
            return Poll::Ready(Ok(()));
        }
        self.metrics.slow.increment(1);
        tracing::info!(
            reason = "head_too_slow",
            "a client did not finish a request's head"
        );
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// After a reply hyper may not read again before there is something to read: it must be woken to be parked.
    fn rest(&mut self, cx: &mut Context<'_>) {
        self.watch();
        if let Some(wait) = self.wait
            && wait.until == Until::Rested
        {
            let _ = self.poll_timer(cx, wait.deadline);
        }
    }

    /// A timer that ends too early is set again: that is rare, and to set it for each request would cost more.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        if timer.deadline() < deadline {
            timer.as_mut().reset(deadline);
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    fn wrote<T>(&mut self, outcome: Poll<T>) -> Poll<T> {
        self.unsent = outcome.is_pending();
        outcome
    }

    /// A reply begins. If a CONNECT was asked for and nobody has taken the connection over, it is refused.
    fn reply_begins(&mut self) {
        if let Guard::Http1(inspector) = &mut self.guard
            && inspector.awaits_verdict()
            && !self.line.is_switched()
        {
            inspector.refuse_connect();
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    fn awaits_verdict(&self) -> bool {
        matches!(&self.guard, Guard::Http1(inspector) if inspector.awaits_verdict())
    }

    /// Whether the bytes are no HTTP any more.
    fn is_switched(&self) -> bool {
        matches!(self.guard, Guard::Http1(_)) && self.line.is_switched()
    }
}

impl<IO: AsyncRead + Unpin> Guarded<IO> {
    /// Waits, without a buffer, until a request begins; false if the client has ended instead.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn unpark(&mut self) -> io::Result<bool> {
        (self.timer, self.wait, self.stage) = (None, None, Stage::Open);
        Ok(!self.io.ahead().is_empty() || poll_fn(|cx| self.io.poll_ahead(cx)).await? > 0)
    }

    /// Reads away what is left of a head, then lets hyper refuse it.
    fn poll_skip(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut buffer = [0; SKIPPED];
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            if Pin::new(&mut self.io).poll_read(cx, &mut read)?.is_pending() {
                return self.poll_wait(cx);
            }
            let read = read.filled();
            let is_over = self.overlong.as_mut().is_none_or(|overlong| overlong.skip(read));
            if is_over || read.is_empty() {
                self.stage = Stage::Ended;
                refuse(into);
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Holds back what follows a CONNECT, and notices a client that leaves instead.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reader = Some(cx.waker().clone());
        if self.io.ahead().is_empty() && ready!(self.io.poll_ahead(cx))? == 0 {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_switched() {
            return Pin::new(&mut this.io).poll_read(cx, into);
        }
        if this.stage == Stage::Skipping {
            return this.poll_skip(cx, into);
        }
        if this.stage != Stage::Open {
            return Poll::Ready(Ok(()));
        }
        if this.awaits_verdict() {
            return this.poll_held(cx);
        }
        let before = into.filled().len();
        if Pin::new(&mut this.io).poll_read(cx, into)?.is_pending() {
            return this.poll_wait(cx);
        }
        this.judge(into, before)?;
        if this.stage == Stage::Skipping && into.filled().len() == before {
            return this.poll_skip(cx, into);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.reply_begins();
        let this = &mut *self;
        let written = match &mut this.overlong {
            Some(overlong) => overlong.poll_write(&mut this.io, cx, from),
            None => Pin::new(&mut this.io).poll_write(cx, from),
        };
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        let flushed = self.wrote(flushed);
        self.rest(cx);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_parked() {
            // Only hyper has ended.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.overlong.is_some() {
            let first = from.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| slice));
        }
        self.reply_begins();
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, from);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Ends a head at its fault, as far as there is room: with a NUL, which is invalid everywhere in a head, and with what
/// may be its end, without which hyper does not look again at a head that came in portions.
fn refuse(into: &mut ReadBuf<'_>) {
    let end = b"\0\n\n";
    into.put_slice(end.get(..into.remaining()).unwrap_or(end));
}

/// How many bytes of an HTTP/1 connection, which comes in `portions`, a sound reader would take.
pub fn sound_until<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> usize {
    let mut inspector = http1::Inspector::new(Connects::Refuse);
    let mut read = 0;
    for portion in portions {
        match inspector.follow(portion) {
            Ok(count) => read += count,
            Err(stop) => return read + stop.at,
        }
    }
    read
}
