//! A reply on its way from the upstream to the client, with a tap on it.
//!
//! Frames pass in the order and form in which they come. The tap reads each one before it is handed on; when the
//! reply has ended (its last frame, or the provider's own end mark inside a stream) the record is ended, and in
//! strict durability that one frame waits for the commit. Whatever happens to tap or record, the bytes go on; only
//! an event that the gateway itself has asked for is taken out. A relay that is dropped before the end is aborted:
//! its record ends, or its reply is read on by `drain`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use providers::{ReplyFacts, Tap, UsageChunkFilter};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::body::ReplyError;
use crate::drain::Drain;
use crate::record::{Finish, Outcome, Recording};
use crate::upstream::UpstreamBody;

/// Longest time that the end of a reply waits for its record.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// A reply on its way.
#[derive(Debug)]
pub struct Relay {
    /// Both are taken when the reply is read on without its client.
    body: Option<UpstreamBody>,
    recording: Option<Recording>,
    tap: Option<Tap>,
    terms: Terms,
    began: Instant,
    last_frame: Instant,
    silence: Pin<Box<Sleep>>,
    /// What is handed on once the record is committed.
    held: Option<Held>,
    /// What comes before anything else that the upstream sends.
    next: Option<Item>,
}

/// How a reply is relayed.
#[derive(Debug)]
pub struct Terms {
    /// Whether the status says that the upstream did what was asked.
    pub succeeded: bool,
    /// Longest silence of the upstream.
    pub idle: Duration,
    /// Takes out the event that the client did not ask for.
    pub hidden: Option<UsageChunkFilter>,
    /// How the reply is read on when its client leaves; `None`: not at all.
    pub drain: Option<Drain>,
}

type Item = Option<Result<Frame<Bytes>, ReplyError>>;

#[derive(Debug)]
struct Held {
    /// `None` if nothing of it is for the client.
    item: Option<Item>,
    committed: oneshot::Receiver<()>,
}

impl Relay {
    /// A reply whose head has come.
    pub fn new(body: UpstreamBody, tap: Tap, recording: Recording, terms: Terms) -> Relay {
        let began = Instant::now();
        let silence = Box::pin(tokio::time::sleep_until(began + terms.idle));
        Relay {
            body: Some(body),
            recording: Some(recording),
            tap: Some(tap),
            terms,
            began,
            last_frame: began,
            silence,
            held: None,
            next: None,
        }
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(item) = Pin::new(body).poll_frame(cx) {
            self.last_frame = Instant::now();
            return Poll::Ready(item);
        }
        // The timer is moved only when it fires: most frames come long before.
        while self.silence.as_mut().poll(cx).is_ready() {
            let deadline = self.last_frame + self.terms.idle;
            if deadline <= Instant::now() {
                return Poll::Ready(Some(Err(ReplyError::Silent(self.terms.idle))));
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
                    self.read(data);
                }
                frame.is_trailers()
                    || self.body.as_ref().is_none_or(Body::is_end_stream)
                    || self.tap.as_ref().is_some_and(Tap::is_terminal)
            }
        }
    }

    fn read(&mut self, data: &Bytes) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        recording.passed(data.len());
        let Some(tap) = &mut self.tap else { return };
        tap.push(data);
        if !recording.has_first_token() && tap.saw_output() {
            recording.first_token();
        }
    }

    /// What of an item is for the client now; `None` if nothing is. What was held back comes before an end.
    fn pass(&mut self, item: Item) -> Option<Item> {
        let Some(filter) = &mut self.terms.hidden else {
            return Some(item);
        };
        let data = match item {
            Some(Ok(frame)) => frame.into_data().map_err(|trailers| Some(Ok(trailers))),
            other => Err(other),
        };
        match data {
            Ok(data) => {
                let passed = filter.push(&data);
                (!passed.is_empty()).then(|| Some(Ok(Frame::data(passed))))
            }
            Err(end) => {
                let rest = filter.finish();
                if rest.is_empty() {
                    return Some(end);
                }
                self.next = Some(end);
                Some(Some(Ok(Frame::data(rest))))
            }
        }
    }

    /// Ends the record, once.
    fn finish(&mut self, item: &Item) -> Option<oneshot::Receiver<()>> {
        let (tap, recording) = (self.tap.take()?, self.recording.as_mut()?);
        recording.waited(self.began.elapsed());
        let broken = match item {
            Some(Err(error)) => Some(error),
            _ => None,
        };
        let facts = tap.finish(broken.is_none());
        let finish = conclude(facts, broken, self.terms.succeeded);
        recording.finish(finish)
    }

    /// Ends the record of a reply that the client did not wait for, or has it read on.
    fn abandon(&mut self) {
        if self.body.as_ref().is_some_and(Body::is_end_stream) {
            // Nobody asks for the body of an empty reply. It has ended all the same.
            self.finish(&None);
        }
        let (Some(tap), Some(mut recording)) = (self.tap.take(), self.recording.take()) else {
            return;
        };
        recording.waited(self.began.elapsed());
        recording.client_left();
        let drain = self.terms.drain.take().filter(|_| self.terms.succeeded);
        match (drain, self.body.take()) {
            (Some(drain), Some(body)) => drain.start(body, tap, recording),
            _ => end_aborted(tap, false, recording),
        }
    }
}

/// Ends the record of a reply whose client has left; `ended` tells whether the tap has read all of it.
pub(crate) fn end_aborted(tap: Tap, ended: bool, mut recording: Recording) {
    let facts = tap.finish(ended);
    recording.finish(Finish {
        outcome: Outcome::Aborted,
        error_kind: Some("client_closed".to_owned()),
        error_message: Some("the client closed the connection before the reply had ended".to_owned()),
        facts: Some(facts),
    });
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
        loop {
            if let Some(held) = &mut relay.held {
                let committed = Pin::new(&mut held.committed).poll(cx).is_ready();
                if !committed && relay.silence.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                relay.silence.as_mut().reset(Instant::now() + relay.terms.idle);
                if let Some(item) = relay.held.take().and_then(|held| held.item) {
                    return Poll::Ready(item);
                }
            }
            if let Some(next) = relay.next.take() {
                return Poll::Ready(next);
            }
            let item = ready!(relay.poll_upstream(cx));
            let committed = if relay.observe(&item) {
                relay.finish(&item)
            } else {
                None
            };
            let item = relay.pass(item);
            match (committed, item) {
                (Some(committed), item) => {
                    relay.silence.as_mut().reset(Instant::now() + COMMIT_WAIT);
                    relay.held = Some(Held { item, committed });
                }
                (None, Some(item)) => return Poll::Ready(item),
                (None, None) => {}
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // What the filter has held back comes when the end is asked for.
        self.held.is_none()
            && self.next.is_none()
            && self.tap.is_none()
            && self.terms.hidden.is_none()
            && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.body, &self.terms.hidden) {
            (Some(body), None) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.abandon();
    }
}
