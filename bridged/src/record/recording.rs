//! One request's open record.
//!
//! Made when the start is recorded, ended once: by `finish`, or as aborted when dropped (the client left, the
//! task was cancelled). It also carries the request's clock: overhead is all the time that was not spent
//! waiting for the upstream.

use std::sync::Arc;
use std::time::Duration;

use providers::{Api, ReplyFacts};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Answerer, Ended, Outcome, Pricing, Recorder};
use crate::admission::{Admitted, Usage};
use crate::clock::{Clock, Micros};
use crate::config::Content;
use crate::metrics::{CallEnd, CallMetrics};
use crate::upstream::CallWatch;

/// How a request ended, as far as the one who ends it knows.
#[derive(Debug)]
pub struct Finish {
    /// The outcome.
    pub outcome: Outcome,
    /// What went wrong, in one word.
    pub error_kind: Option<String>,
    /// What went wrong, for a person.
    pub error_message: Option<String>,
    /// What the tap learned.
    pub facts: Option<ReplyFacts>,
}

impl Finish {
    /// An end without a reply.
    pub fn failed(outcome: Outcome, kind: &str, message: String) -> Finish {
        Finish {
            outcome,
            error_kind: Some(kind.to_owned()),
            error_message: Some(message),
            facts: None,
        }
    }
}

/// One request's open record.
#[derive(Debug)]
pub struct Recording {
    recorder: Recorder,
    clock: Clock,
    metrics: CallMetrics,
    pricing: Option<Pricing>,
    request_text: Option<usize>,
    id: Uuid,
    api: Api,
    started: Instant,
    /// When the client left, if it did not wait for the end.
    left: Option<(Micros, Duration)>,
    waited: Duration,
    first_token: Option<(Micros, Duration)>,
    status: Option<u16>,
    response_bytes: u64,
    retries: u32,
    answerer: Option<Answerer>,
    /// Learns how the model is doing.
    watch: Option<CallWatch>,
    open: bool,
    admitted: Admitted,
}

impl Recording {
    /// Opens the record of a request that began at `started` and whose start has been recorded.
    pub fn open(
        recorder: Recorder,
        clock: Clock,
        mut metrics: CallMetrics,
        (id, api): (Uuid, Api),
        started: Instant,
    ) -> Recording {
        metrics.began();
        Recording {
            recorder,
            clock,
            metrics,
            pricing: None,
            request_text: None,
            id,
            api,
            started,
            left: None,
            waited: Duration::ZERO,
            first_token: None,
            status: None,
            response_bytes: 0,
            retries: 0,
            answerer: None,
            watch: None,
            open: true,
            admitted: Admitted::default(),
        }
    }

    /// Takes what the call holds of limits and budgets, to be settled at its end.
    pub fn admitted(&mut self, admitted: Admitted) {
        self.admitted = admitted;
    }

    /// Says whose prices apply; without this the call ends unpriced.
    pub fn priced_by(&mut self, pricing: Pricing) {
        self.pricing = Some(pricing);
    }

    /// Says how many bytes of text the request holds: what nobody reports can be estimated then.
    pub fn asked_in(&mut self, bytes: usize) {
        self.request_text = Some(bytes);
    }

    /// Bytes of text in the request, if that is known.
    pub fn request_text(&self) -> Option<usize> {
        self.request_text
    }

    /// How much text is kept of the call.
    pub fn content(&self) -> Content {
        self.recorder.config().content
    }

    /// Notes that the client is gone: for it the call ends now, whatever the record still waits for.
    pub fn client_left(&mut self) {
        self.left = Some((self.clock.micros(), self.started.elapsed()));
    }

    /// The interception's id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The API that was called.
    pub fn api(&self) -> Api {
        self.api
    }

    /// Notes time spent waiting for the upstream.
    pub fn waited(&mut self, span: Duration) {
        self.waited += span;
    }

    /// Notes upstream attempts beyond the first.
    pub fn retried(&mut self) {
        self.retries += 1;
    }

    /// Notes who is asked now, if that is not who was asked at the start: another instance (whose metrics `metrics`
    /// makes), or the same with another key.
    pub(crate) fn moved(&mut self, provider: &Arc<str>, hint: &str, metrics: impl FnOnce() -> CallMetrics) {
        if self
            .answerer
            .as_ref()
            .is_none_or(|before| before.provider != *provider)
        {
            self.metrics = metrics();
            self.metrics.began();
            if let Some(pricing) = &mut self.pricing {
                pricing.provider = provider.clone();
            }
        }
        self.answerer = Some(Answerer {
            provider: provider.clone(),
            credential_hint: hint.to_owned(),
        });
    }

    /// Tells `watch` how the reply goes on.
    pub(crate) fn watch(&mut self, watch: CallWatch) {
        self.watch = Some(watch);
    }

    /// Notes that the reply has begun, where it has no head of its own.
    pub(crate) fn begun(&mut self) {
        self.watch = self.watch.take().map(CallWatch::answered);
    }

    /// Notes that the upstream failed the call with this status, and may have asked for a wait.
    pub(crate) fn upstream_failed(&mut self, status: u16, wait: Option<Duration>) {
        if let Some(watch) = self.watch.take() {
            watch.failed_later(status, wait);
        }
    }

    /// Notes that the upstream went away before the reply had begun.
    pub(crate) fn deserted(&mut self, kind: &'static str) {
        if let Some(watch) = self.watch.take() {
            watch.failed(kind, None, None);
        }
    }

    /// Notes the status that the client gets.
    pub fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// Notes bytes of the reply's body.
    pub fn passed(&mut self, bytes: usize) {
        self.response_bytes = self.response_bytes.saturating_add(bytes as u64);
    }

    /// Notes that the reply's first content passed. Later calls change nothing.
    pub fn first_token(&mut self) {
        if self.first_token.is_none() {
            self.first_token = Some((self.clock.micros(), self.started.elapsed()));
            if let Some(watch) = &mut self.watch {
                watch.began();
            }
        }
    }

    /// Whether the first content has passed.
    pub fn has_first_token(&self) -> bool {
        self.first_token.is_some()
    }

    /// Ends the record. The result resolves when it is committed (strict durability only). Only the first call
    /// counts.
    pub fn finish(&mut self, finish: Finish) -> Option<oneshot::Receiver<()>> {
        if !std::mem::replace(&mut self.open, false) {
            return None;
        }
        if let Some(watch) = self.watch.take() {
            let error = finish.facts.as_ref().and_then(|facts| facts.error.as_ref());
            watch.ended(
                finish.outcome == Outcome::Completed,
                error.map(|error| error.kind.as_str()),
            );
        }
        let (ended_at, total) = self
            .left
            .unwrap_or_else(|| (self.clock.micros(), self.started.elapsed()));
        let overhead = total.saturating_sub(self.waited);
        let first_token = self.first_token.map(|(_, after)| after);
        let pricing = self.pricing.as_ref().zip(finish.facts.as_ref());
        let cost_micros = pricing.and_then(|(pricing, facts)| pricing.cost(facts, self.clock.now()));
        let used = used(finish.facts.as_ref(), cost_micros);
        std::mem::take(&mut self.admitted).settle(used);
        self.metrics.ended(&CallEnd {
            outcome: finish.outcome,
            total,
            overhead,
            first_token,
            facts: finish.facts.as_ref(),
            cost_micros,
        });
        self.recorder.end(Ended {
            id: self.id,
            outcome: finish.outcome,
            status: self.status,
            error_kind: finish.error_kind,
            error_message: finish.error_message,
            first_token_at: self.first_token.map(|(at, _)| at),
            ended_at,
            overhead_us: u64::try_from(overhead.as_micros()).unwrap_or(u64::MAX),
            response_bytes: self.response_bytes,
            retries: self.retries,
            answerer: self.answerer.take(),
            facts: finish.facts,
            cost_micros,
        })
    }
}

/// What a call has used, as far as is known.
fn used(facts: Option<&ReplyFacts>, cost_micros: Option<i64>) -> Usage {
    let Some(usage) = facts.and_then(|facts| facts.usage.as_ref()) else {
        return Usage::default();
    };
    // Reasoning is part of the output.
    let counts = [usage.input, usage.cache_read, usage.cache_write, usage.output];
    Usage {
        tokens: counts.into_iter().fold(0, u64::saturating_add),
        micros: cost_micros
            .and_then(|cost| u64::try_from(cost).ok())
            .unwrap_or_default(),
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.open {
            let message = "the client closed the connection before the reply began".to_owned();
            self.finish(Finish::failed(Outcome::Aborted, "client_closed", message));
        }
    }
}
