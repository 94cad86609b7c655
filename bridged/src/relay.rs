//! A reply on its way from the upstream to the client, with a tap on it.
//!
//! Frames pass in the order and form in which they come. The tap reads each one before it is handed on; when the
//! reply has ended (its last frame, or the provider's own end mark inside a stream) the record is ended, and in
//! strict durability that one frame waits for the commit. Whatever happens to tap or record, the bytes go on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use providers::{ReplyFacts, Tap};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::body::ReplyError;
use crate::record::{Finish, Outcome, Recording};
use crate::upstream::UpstreamBody;

/// Longest time that the end of a reply waits for its record.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// A reply on its way.
#[derive(Debug)]
pub struct Relay {
    body: UpstreamBody,
    tap: Option<Tap>,
    recording: Recording,
    /// Whether the status says that the upstream did what was asked.
    succeeded: bool,
    began: Instant,
    last_frame: Instant,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    /// What is handed on once the record is committed.
    held: Option<Held>,
}

type Item = Option<Result<Frame<Bytes>, ReplyError>>;

#[derive(Debug)]
struct Held {
    item: Item,
    committed: oneshot::Receiver<()>,
}

impl Relay {
    /// A reply whose head has come. `succeeded` says whether its status is a success.
    pub fn new(body: UpstreamBody, tap: Tap, recording: Recording, succeeded: bool, idle: Duration) -> Relay {
        let began = Instant::now();
        let silence = Box::pin(tokio::time::sleep_until(began + idle));
        Relay {
            body,
            tap: Some(tap),
            recording,
            succeeded,
            began,
            last_frame: began,
            idle,
            silence,
            held: None,
        }
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Poll::Ready(item) = Pin::new(&mut self.body).poll_frame(cx) {
            self.last_frame = Instant::now();
            return Poll::Ready(item);
        }
        // The timer is moved only when it fires: most frames come long before.
        while self.silence.as_mut().poll(cx).is_ready() {
            let deadline = self.last_frame + self.idle;
            if deadline <= Instant::now() {
                return Poll::Ready(Some(Err(ReplyError::Silent(self.idle))));
            }
            self.silence.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Reads what passes; true when the reply has ended with it.
    fn observe(&mut self, item: &Item) -> bool {
        match item {
            None | Some(Err(_)) => true,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.recording.passed(data.len());
                    self.read(data);
                }
                frame.is_trailers()
                    || self.body.is_end_stream()
                    || self.tap.as_ref().is_some_and(Tap::is_terminal)
            }
        }
    }

    fn read(&mut self, data: &Bytes) {
        let Some(tap) = &mut self.tap else { return };
        tap.push(data);
        if !self.recording.has_first_token() && tap.saw_output() {
            self.recording.first_token();
        }
    }

    /// Ends the record, once.
    fn finish(&mut self, item: &Item) -> Option<oneshot::Receiver<()>> {
        let tap = self.tap.take()?;
        self.recording.waited(self.began.elapsed());
        let broken = match item {
            Some(Err(error)) => Some(error),
            _ => None,
        };
        let facts = tap.finish(broken.is_none());
        let finish = conclude(facts, broken, self.succeeded);
        self.recording.finish(finish)
    }

    /// Ends the record of a reply that the client did not wait for.
    fn abandon(&mut self) {
        let Some(tap) = self.tap.take() else { return };
        self.recording.waited(self.began.elapsed());
        let facts = tap.finish(false);
        self.recording.finish(Finish {
            outcome: Outcome::Aborted,
            error_kind: Some("client_closed".to_owned()),
            error_message: Some("the client closed the connection before the reply had ended".to_owned()),
            facts: Some(facts),
        });
    }
}

/// The outcome of a reply that has ended.
pub(crate) fn conclude(facts: ReplyFacts, broken: Option<&ReplyError>, succeeded: bool) -> Finish {
    if let Some(error) = broken {
        let kind = match error {
            ReplyError::Upstream(_) => "upstream_broken",
            ReplyError::Silent(_) => "upstream_silent",
            ReplyError::Api => "internal",
        };
        return Finish {
            facts: Some(facts),
            ..Finish::failed(Outcome::Failed, kind, error.to_string())
        };
    }
    let reported = facts
        .error
        .as_ref()
        .map(|error| (error.kind.clone(), error.message.clone()));
    let outcome = if succeeded && reported.is_none() {
        Outcome::Completed
    } else {
        Outcome::Failed
    };
    let (error_kind, error_message) = match reported {
        Some((kind, message)) => (Some(kind), Some(message)),
        None if !succeeded => (Some("upstream_status".to_owned()), None),
        None => (None, None),
    };
    Finish {
        outcome,
        error_kind,
        error_message,
        facts: Some(facts),
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        let relay = self.get_mut();
        if let Some(held) = &mut relay.held {
            let committed = Pin::new(&mut held.committed).poll(cx).is_ready();
            if !committed && relay.silence.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            relay.silence.as_mut().reset(Instant::now() + relay.idle);
            return Poll::Ready(relay.held.take().and_then(|held| held.item));
        }
        let item = ready!(relay.poll_upstream(cx));
        if !relay.observe(&item) {
            return Poll::Ready(item);
        }
        let Some(committed) = relay.finish(&item) else {
            return Poll::Ready(item);
        };
        relay.silence.as_mut().reset(Instant::now() + COMMIT_WAIT);
        relay.held = Some(Held { item, committed });
        Pin::new(relay).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.tap.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.abandon();
    }
}
