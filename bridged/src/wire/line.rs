//! What a connection and its requests tell each other: who still uses it, and whether it is HTTP any more.
//!
//! A `Line` belongs to one connection. Each request holds a `Use` of it until its reply is sent, a socket or tunnel
//! until it ends. Invariant: a connection is unused only when nothing that came over it is still going on.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};

use crate::activity::Activity;

/// One connection, as its requests know it.
#[derive(Clone, Debug, Default)]
pub struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    uses: AtomicUsize,
    /// When a use last began or ended.
    activity: Activity,
    switched: AtomicBool,
    upgradable: AtomicBool,
}

impl Line {
    /// Begins to use the connection.
    pub fn begin(&self) -> Use {
        self.0.uses.fetch_add(1, Ordering::Relaxed);
        self.0.activity.note();
        Use(self.clone())
    }

    /// Lets whoever serves `request` take the connection over.
    pub fn offer<B>(&self, request: &mut Request<B>) {
        self.0.upgradable.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Switch(self.begin()));
    }

    pub(super) fn is_unused(&self) -> bool {
        self.0.uses.load(Ordering::Acquire) == 0
    }

    pub(super) fn is_switched(&self) -> bool {
        self.0.switched.load(Ordering::Acquire)
    }

    /// Whether it was ever offered to be taken over. hyper keeps such an offer until the connection ends.
    pub(super) fn is_upgradable(&self) -> bool {
        self.0.upgradable.load(Ordering::Relaxed)
    }

    /// Waits until the connection has not been used for `span`.
    pub async fn unused_for(&self, span: Duration) {
        loop {
            self.0.activity.silent_for(span).await;
            if self.is_unused() {
                return;
            }
            tokio::time::sleep(span).await;
        }
    }
}

/// One that uses a connection, as long as it lives.
#[derive(Debug)]
pub struct Use(Line);

impl Use {
    /// Keeps the use until the reply's body has been sent.
    pub fn until_sent<B>(self, response: Response<B>) -> Response<InUse<B>> {
        response.map(|body| InUse { body, _use: self })
    }
}

impl Clone for Use {
    fn clone(&self) -> Use {
        self.0.begin()
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.0.activity.note();
        self.0.0.uses.fetch_sub(1, Ordering::Release);
    }
}

/// In a request that may take the connection over: tells that it has, and that it goes on.
#[derive(Clone, Debug)]
pub struct Switch(Use);

impl Switch {
    /// What follows on an HTTP/1 connection is no HTTP.
    pub fn turn(&self) {
        self.0.0.0.switched.store(true, Ordering::Release);
    }
}

/// A body that uses the connection until it is sent.
#[derive(Debug)]
pub struct InUse<B> {
    body: B,
    _use: Use,
}

impl<B: Body + Unpin> Body for InUse<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_line_is_unused_a_span_after_its_last_use_ends() {
        let (line, span) = (Line::default(), Duration::from_millis(40));
        let long = line.begin();
        let reply = line.begin().until_sent(Response::new(String::new()));
        let ends = async {
            tokio::time::sleep(span * 3).await;
            drop(reply);
            tokio::time::sleep(span / 2).await;
            drop(long);
            Instant::now()
        };
        let unused = async {
            line.unused_for(span).await;
            Instant::now()
        };
        let (unused, ended) = tokio::join!(unused, ends);
        assert!(unused >= ended + span - Duration::from_millis(2));
    }
}
