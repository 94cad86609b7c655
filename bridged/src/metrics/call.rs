//! The metrics of bridged calls, one set of handles per provider, API, model and client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use providers::{Api, ReplyFacts, Usage, UsageSource};

use crate::record::Outcome;

/// What tells one set of handles from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallKey {
    pub(super) provider: Arc<str>,
    pub(super) api: Api,
    pub(super) model: Arc<str>,
    pub(super) client: &'static str,
}

/// The handles of one label set.
pub(super) struct CallHandles {
    inflight: Gauge,
    outcomes: [(Outcome, Counter); 4],
    duration: Histogram,
    overhead: Histogram,
    first_token: Histogram,
    tokens: [Counter; 5],
    sources: [(UsageSource, Counter); 4],
    cost: Counter,
    unpriced: Counter,
    prompts: Counter,
    tool_calls: Counter,
    gen_ai: GenAi,
}

/// The OpenTelemetry names (semantic conventions for generative AI, status Development).
struct GenAi {
    input: Histogram,
    output: Histogram,
    first_token: Histogram,
    duration: Histogram,
}

impl CallHandles {
    /// Resolves the handles; must run inside `Metrics::resolve`.
    pub(super) fn new(key: &CallKey) -> CallHandles {
        let provider = || key.provider.to_string();
        let model = || key.model.to_string();
        let api = key.api.as_str();
        let outcome = |outcome: Outcome| {
            let counter = counter!("causeway_interceptions_total", "provider" => provider(), "api" => api,
                "model" => model(), "client" => key.client, "outcome" => outcome.as_str());
            (outcome, counter)
        };
        let tokens = |kind: &'static str| counter!("causeway_tokens_total", "provider" => provider(), "model" => model(), "type" => kind);
        let source = |source: UsageSource| {
            let counter =
                counter!("causeway_usage_total", "provider" => provider(), "source" => source.as_str());
            (source, counter)
        };
        CallHandles {
            inflight: gauge!("causeway_interceptions_inflight", "provider" => provider()),
            outcomes: [
                Outcome::Completed,
                Outcome::Failed,
                Outcome::Refused,
                Outcome::Aborted,
            ]
            .map(outcome),
            duration: histogram!("causeway_request_duration_seconds", "provider" => provider(), "api" => api),
            overhead: histogram!("causeway_overhead_seconds", "provider" => provider(), "api" => api),
            first_token: histogram!("causeway_time_to_first_token_seconds", "provider" => provider(), "api" => api),
            tokens: ["input", "output", "cache_read", "cache_write", "reasoning"].map(tokens),
            sources: UsageSource::ALL.map(source),
            cost: counter!("causeway_cost_micros_total", "provider" => provider(), "model" => model()),
            unpriced: counter!("causeway_unpriced_total", "provider" => provider(), "model" => model()),
            prompts: counter!("causeway_prompts_total", "provider" => provider(), "client" => key.client),
            tool_calls: counter!("causeway_tool_calls_total", "provider" => provider()),
            gen_ai: GenAi::new(key),
        }
    }
}

impl GenAi {
    fn new(key: &CallKey) -> GenAi {
        let labels = || {
            [
                ("gen_ai_operation_name", operation(key.api).to_owned()),
                ("gen_ai_provider_name", key.provider.to_string()),
                ("gen_ai_request_model", key.model.to_string()),
            ]
        };
        let usage = |kind: &str| {
            let mut labels = labels().to_vec();
            labels.push(("gen_ai_token_type", kind.to_owned()));
            histogram!("gen_ai_client_token_usage", &labels)
        };
        GenAi {
            input: usage("input"),
            output: usage("output"),
            first_token: histogram!("gen_ai_server_time_to_first_token", &labels()),
            duration: histogram!("gen_ai_client_operation_duration", &labels()),
        }
    }
}

/// The convention's name of what an API does; counting tokens has none there.
pub(crate) const fn operation(api: Api) -> &'static str {
    match api {
        Api::ChatCompletions | Api::Responses | Api::Messages | Api::Compact => "chat",
        Api::Completions => "text_completion",
        Api::Embeddings => "embeddings",
        Api::CountTokens => "count_tokens",
    }
}

/// How a call ended.
#[derive(Debug)]
pub struct CallEnd<'a> {
    /// The outcome.
    pub outcome: Outcome,
    /// From the request's head to the end.
    pub total: Duration,
    /// The part of it that the gateway itself took.
    pub overhead: Duration,
    /// From the request's head to the first content.
    pub first_token: Option<Duration>,
    /// What the tap learned.
    pub facts: Option<&'a ReplyFacts>,
    /// What the tokens cost, if they have a price.
    pub cost_micros: Option<i64>,
}

/// One call's view of its metrics: keeps the in-flight gauge right whatever happens.
pub struct CallMetrics {
    handles: Arc<CallHandles>,
    inflight: bool,
}

impl fmt::Debug for CallMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallMetrics")
    }
}

impl CallMetrics {
    pub(super) fn new(handles: Arc<CallHandles>) -> CallMetrics {
        CallMetrics {
            handles,
            inflight: false,
        }
    }

    /// The call began.
    pub fn began(&mut self) {
        self.inflight = true;
        self.handles.inflight.increment(1.0);
    }

    /// A user prompt was seen.
    pub fn prompted(&self) {
        self.handles.prompts.increment(1);
    }

    /// The call ended.
    pub fn ended(&self, end: &CallEnd<'_>) {
        let handles = &self.handles;
        increment(&handles.outcomes, end.outcome);
        handles.duration.record(end.total);
        handles.overhead.record(end.overhead);
        handles.gen_ai.duration.record(end.total);
        if let Some(after) = end.first_token {
            handles.first_token.record(after);
            handles.gen_ai.first_token.record(after);
        }
        if let Some(facts) = end.facts {
            handles.tool_calls.increment(facts.tool_calls.len() as u64);
        }
        match end
            .facts
            .and_then(|facts| Some((facts.usage.as_ref()?, facts.usage_source)))
        {
            Some((usage, source)) => {
                increment(&handles.sources, source);
                self.used(usage);
                self.paid(end.cost_micros);
            }
            None if matches!(end.outcome, Outcome::Completed | Outcome::Aborted) => {
                increment(&handles.sources, UsageSource::Unknown);
            }
            None => {}
        }
    }

    fn paid(&self, cost_micros: Option<i64>) {
        match cost_micros {
            Some(cost) => self.handles.cost.increment(cost.unsigned_abs()),
            None => self.handles.unpriced.increment(1),
        }
    }

    fn used(&self, usage: &Usage) {
        let counts = [
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write,
            usage.reasoning,
        ];
        for (counter, count) in self.handles.tokens.iter().zip(counts) {
            counter.increment(count);
        }
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        {
            let input = usage.input + usage.cache_read + usage.cache_write;
            let gen_ai = &self.handles.gen_ai;
            // What has no output, or uses no tokens at all, is no operation with zero of them.
            for (histogram, count) in [(&gen_ai.input, input), (&gen_ai.output, usage.output)] {
                if count > 0 {
                    histogram.record(count as f64);
                }
            }
        }
    }
}

/// Counts one more of `which`.
fn increment<T: Copy + PartialEq>(counters: &[(T, Counter)], which: T) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == which) {
        counter.increment(1);
    }
}

impl Drop for CallMetrics {
    fn drop(&mut self) {
        if self.inflight {
            self.handles.inflight.decrement(1.0);
        }
    }
}
