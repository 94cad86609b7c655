//! The bridge's metrics (Prometheus, prefix `causeway_`) and the OpenTelemetry GenAI names.
//!
//! Handles are resolved once per label set and kept; the request path only adds to them. Labels are closed
//! sets: instance names and kinds come from the configuration, clients from a fixed list, and model names pass
//! through `ModelLabels`, which turns what is past its bound into `other`. Users are never labels.

mod call;
mod govern;
mod labels;
mod sinks;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use providers::Api;

use crate::breaker::BreakerMetrics;
pub(crate) use call::operation;
pub use call::{CallEnd, CallMetrics};
use call::{CallHandles, CallKey};
pub use govern::{BudgetMetrics, ConfigMetrics};
use labels::ModelLabels;
pub use sinks::SinkMetrics;

/// All metrics of a process.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    models: ModelLabels,
    calls: RwLock<HashMap<CallKey, Arc<CallHandles>>>,
    counters: RwLock<HashMap<CounterKey, Counter>>,
    /// Replies that are read on after their clients have left.
    pub drains: Gauge,
    /// The record queue and its writer.
    pub record: Arc<RecordMetrics>,
    /// What connections are closed for.
    pub wire: Arc<WireMetrics>,
    /// Budgets that run out.
    pub budget: BudgetMetrics,
    /// The configuration's file, and whether the process keeps up.
    pub config: ConfigMetrics,
}

/// A counter with at most two labels, looked up by what tells it from its siblings.
type CounterKey = (&'static str, Arc<str>, Label);

/// The second label of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Label {
    Code(u16),
    Word(&'static str),
}

/// The record queue and its writer.
#[derive(Clone)]
pub struct RecordMetrics {
    /// Starts that were to be recorded.
    pub started: Counter,
    /// Ends that were to be recorded.
    pub ended: Counter,
    /// Events in the queue.
    pub queued: Gauge,
    /// Events committed to the store.
    pub written: Counter,
    /// Events put into the spool.
    pub spooled: Counter,
    /// Events of an earlier process found in the spool.
    pub recovered: Counter,
    /// Events in the spool.
    pub in_spool: Gauge,
    /// Bytes of the spool on disk.
    pub spool_bytes: Gauge,
    /// 1 while neither store nor spool take records.
    pub full: Gauge,
    /// Events of requests that were refused because they could not be recorded.
    pub refused: Counter,
    /// Events lost.
    pub lost: Counter,
    /// Events that are in none of these places. Never anything but zero.
    pub unaccounted: Gauge,
    /// Links of the chains of records that the search index has not read yet: two an interception.
    pub unindexed: Gauge,
}

/// Refusals below the level of requests.
#[derive(Clone)]
pub struct WireMetrics {
    /// Heads that two readers could read differently.
    pub malformed: Counter,
    /// Heads that did not end in time.
    pub slow: Counter,
    /// HTTP/2 connections with too many idle frames.
    pub flood: Counter,
}

impl fmt::Debug for WireMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WireMetrics")
    }
}

impl fmt::Debug for RecordMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordMetrics")
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Fresh metrics, all at zero.
    ///
    /// # Errors
    /// Never in practice: the exporter refuses empty bucket lists, and ours are constants.
    pub fn new() -> Result<Metrics, metrics_exporter_prometheus::BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Full("gen_ai_client_token_usage".to_owned()),
                &TOKEN_BUCKETS,
            )?
            .set_buckets_for_metric(
                Matcher::Full("causeway_overhead_seconds".to_owned()),
                &OVERHEAD_BUCKETS,
            )?
            .set_buckets(&SECONDS_BUCKETS)?
            .build_recorder();
        let handle = recorder.handle();
        let (record, wire, drains, budget, config) = metrics::with_local_recorder(&recorder, || {
            describe();
            let refusals = |reason: &'static str| counter!("causeway_refusals_total", "reason" => reason);
            let record = RecordMetrics {
                started: counter!("causeway_records_started_total"),
                ended: counter!("causeway_records_ended_total"),
                queued: gauge!("causeway_records_queued"),
                written: counter!("causeway_records_written_total"),
                spooled: counter!("causeway_records_spooled_total"),
                recovered: counter!("causeway_records_recovered_total"),
                in_spool: gauge!("causeway_records_in_spool"),
                spool_bytes: gauge!("causeway_spool_bytes"),
                full: gauge!("causeway_records_full"),
                refused: counter!("causeway_records_refused_total"),
                lost: counter!("causeway_records_lost_total"),
                unaccounted: gauge!("causeway_records_unaccounted"),
                unindexed: gauge!("causeway_records_unindexed"),
            };
            let wire = WireMetrics {
                malformed: refusals("malformed_request"),
                slow: refusals("head_too_slow"),
                flood: refusals("http2_flood"),
            };
            (
                Arc::new(record),
                Arc::new(wire),
                gauge!("causeway_drains"),
                BudgetMetrics::new(),
                ConfigMetrics::new(),
            )
        });
        Ok(Metrics {
            recorder,
            handle,
            models: ModelLabels::default(),
            calls: RwLock::default(),
            counters: RwLock::default(),
            drains,
            record,
            wire,
            budget,
            config,
        })
    }

    /// Makes handles: within `make` the `metrics` macros speak to this recorder.
    pub fn resolve<T>(&self, make: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.recorder, make)
    }

    /// The metrics of calls with these labels.
    pub fn call(
        &self,
        provider: &Arc<str>,
        api: Api,
        model: Option<&str>,
        client: &'static str,
    ) -> CallMetrics {
        let key = CallKey {
            provider: provider.clone(),
            api,
            model: self.models.label(model),
            client,
        };
        let known = self
            .calls
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        let handles = known.unwrap_or_else(|| {
            let made = Arc::new(self.resolve(|| CallHandles::new(&key)));
            let mut calls = self.calls.write().unwrap_or_else(PoisonError::into_inner);
            calls.entry(key).or_insert(made).clone()
        });
        CallMetrics::new(handles)
    }

    /// Counts an upstream's answer.
    pub fn upstream_response(&self, provider: &Arc<str>, code: u16) {
        self.count("causeway_upstream_responses_total", provider, Label::Code(code));
    }

    /// Counts an upstream that did not answer.
    pub fn upstream_error(&self, provider: &Arc<str>, kind: &'static str) {
        self.count("causeway_upstream_errors_total", provider, Label::Word(kind));
    }

    /// Counts a request that is passed through unrecorded.
    pub fn passthrough(&self, provider: &Arc<str>, status: u16) {
        let class = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.count("causeway_passthrough_total", provider, Label::Word(class));
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: &'static str) {
        self.resolve(|| counter!("causeway_refusals_total", "reason" => reason))
            .increment(1);
    }

    /// Counts a trouble that a client had on its way to an instance, or to none.
    pub fn trouble(&self, provider: Option<&str>, reason: &'static str) {
        let provider = provider.unwrap_or("none").to_owned();
        self.resolve(|| counter!("causeway_troubles_total", "provider" => provider, "reason" => reason))
            .increment(1);
    }

    /// The metrics of one circuit breaker.
    pub fn breaker(&self, provider: &str, endpoint: &'static str, model: &str) -> BreakerMetrics {
        let labels = [
            ("provider", provider.to_owned()),
            ("endpoint", endpoint.to_owned()),
            ("model", model.to_owned()),
        ];
        self.resolve(|| BreakerMetrics {
            state: gauge!("causeway_circuit_breaker_state", &labels),
            trips: counter!("causeway_circuit_breaker_trips_total", &labels),
            rejects: counter!("causeway_circuit_breaker_rejects_total", &labels),
        })
    }

    /// A model's name as a label.
    pub fn model_label(&self, model: &str) -> Arc<str> {
        self.models.label(Some(model))
    }

    /// Publishes how many of a provider's keys are in which state.
    pub fn keys(&self, provider: &str, state: &'static str, count: usize) {
        let labels = [("provider", provider.to_owned()), ("state", state.to_owned())];
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 keys")]
        self.resolve(|| gauge!("causeway_key_state", &labels))
            .set(count as f64);
    }

    /// The metrics of the sink of this name.
    pub fn sink(&self, name: &Arc<str>) -> SinkMetrics {
        self.resolve(|| SinkMetrics::new(name))
    }

    /// The WebSockets of a provider that are open.
    pub fn websockets_open(&self, provider: &Arc<str>) -> Gauge {
        self.resolve(|| gauge!("causeway_websockets_open", "provider" => provider.to_string()))
    }

    /// Publishes what an instance is; `is_so` is false for what it was once.
    pub fn provider_info(&self, provider: &str, kind: &'static str, status: &'static str, is_so: bool) {
        let labels = [
            ("provider", provider.to_owned()),
            ("kind", kind.to_owned()),
            ("status", status.to_owned()),
        ];
        self.resolve(|| gauge!("causeway_provider_info", &labels))
            .set(if is_so { 1.0 } else { 0.0 });
    }

    /// The text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds histogram samples together; to be called every few seconds so that they do not pile up.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn count(&self, name: &'static str, provider: &Arc<str>, label: Label) {
        let key = (name, provider.clone(), label);
        if let Some(counter) = self
            .counters
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            counter.increment(1);
            return;
        }
        let (second, text) = match (name, label) {
            ("causeway_passthrough_total", Label::Word(word)) => ("status_class", word.to_owned()),
            (_, Label::Word(word)) => ("kind", word.to_owned()),
            (_, Label::Code(code)) => ("code", code.to_string()),
        };
        let made = self.resolve(|| counter!(name, "provider" => provider.to_string(), second => text));
        made.increment(1);
        self.counters
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, made);
    }
}

const SECONDS_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 40.96, 81.92,
];
const OVERHEAD_BUCKETS: [f64; 12] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0,
];
const TOKEN_BUCKETS: [f64; 13] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

fn describe() {
    describe_upstreams();
    describe_counter!("causeway_interceptions_total", "Bridged requests that have ended");
    describe_gauge!(
        "causeway_interceptions_inflight",
        "Bridged requests that have not ended"
    );
    describe_histogram!(
        "causeway_request_duration_seconds",
        "From the request's head to the reply's end"
    );
    describe_histogram!(
        "causeway_overhead_seconds",
        "Time not spent waiting for the upstream"
    );
    describe_histogram!(
        "causeway_time_to_first_token_seconds",
        "From the request's head to the first content"
    );
    describe_counter!("causeway_tokens_total", "Tokens, reported or estimated");
    describe_counter!(
        "causeway_cost_micros_total",
        "Cost in millionths of the price table's currency"
    );
    describe_counter!(
        "causeway_unpriced_total",
        "Replies whose tokens are known and have no price"
    );
    describe_counter!(
        "causeway_usage_total",
        "Replies by where their count of tokens comes from"
    );
    describe_counter!("causeway_prompts_total", "User prompts");
    describe_counter!("causeway_tool_calls_total", "Tool calls that models asked for");
    describe_counter!(
        "causeway_passthrough_total",
        "Requests to claimed hosts that are not bridged"
    );
    describe_counter!(
        "causeway_upstream_responses_total",
        "Answers of upstreams by status"
    );
    describe_counter!("causeway_upstream_errors_total", "Upstreams that did not answer");
    describe_counter!(
        "causeway_refusals_total",
        "Requests that the gateway answered itself"
    );
    describe_gauge!("causeway_websockets_open", "WebSockets that are open");
    describe_troubles();
    describe_gauge!(
        "causeway_drains",
        "Replies that are read on after their clients have left"
    );
    govern::describe();
    sinks::describe();
    describe_records();
    describe_gauge!("causeway_provider_info", "Configured provider instances");
    describe_histogram!("gen_ai_client_token_usage", "Tokens of an operation");
    describe_histogram!("gen_ai_server_time_to_first_token", "Time to the first token");
    describe_histogram!("gen_ai_client_operation_duration", "Duration of an operation");
}

fn describe_troubles() {
    describe_counter!(
        "causeway_troubles_total",
        "Connections of clients that failed, by what was noticed"
    );
}

/// started + ended + recovered = written + lost + refused + queued + in the spool, and what the writer holds.
fn describe_records() {
    describe_counter!(
        "causeway_records_started_total",
        "Starts that were to be recorded"
    );
    describe_counter!("causeway_records_ended_total", "Ends that were to be recorded");
    describe_gauge!("causeway_records_queued", "Record events waiting for the writer");
    describe_counter!(
        "causeway_records_written_total",
        "Record events committed to the store"
    );
    describe_counter!(
        "causeway_records_spooled_total",
        "Record events put into the spool while the store was away"
    );
    describe_counter!(
        "causeway_records_recovered_total",
        "Record events of an earlier process found in the spool"
    );
    describe_gauge!("causeway_records_in_spool", "Record events waiting in the spool");
    describe_gauge!("causeway_spool_bytes", "Bytes of the spool");
    describe_gauge!(
        "causeway_records_full",
        "1 while neither store nor spool take records"
    );
    describe_counter!(
        "causeway_records_refused_total",
        "Record events of requests refused because they could not be recorded"
    );
    describe_counter!("causeway_records_lost_total", "Record events lost");
    describe_gauge!(
        "causeway_records_unaccounted",
        "Record events that are nowhere; anything but 0 is a defect"
    );
    describe_gauge!(
        "causeway_records_unindexed",
        "Record events of the store that the search index has not read yet"
    );
}

fn describe_upstreams() {
    describe_gauge!(
        "causeway_circuit_breaker_state",
        "0 closed, 0.5 half-open, 1 open; `*` is the instance's own"
    );
    describe_counter!(
        "causeway_circuit_breaker_trips_total",
        "Times that a circuit breaker opened"
    );
    describe_counter!(
        "causeway_circuit_breaker_rejects_total",
        "Requests that a circuit breaker refused"
    );
    describe_gauge!("causeway_key_state", "The gateway's own keys by state");
}
