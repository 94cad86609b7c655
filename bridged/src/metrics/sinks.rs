//! The metrics of sinks.

use std::fmt;
use std::sync::Arc;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// One sink.
#[derive(Clone)]
pub struct SinkMetrics {
    /// Interceptions that arrived.
    pub delivered: Counter,
    /// Attempts that failed.
    pub failed: Counter,
    /// Interceptions that are still to be delivered.
    pub lag: Gauge,
}

impl SinkMetrics {
    pub(super) fn new(sink: &Arc<str>) -> SinkMetrics {
        let labels = [("sink", sink.to_string())];
        SinkMetrics {
            delivered: counter!("causeway_sink_delivered_total", &labels),
            failed: counter!("causeway_sink_failed_total", &labels),
            lag: gauge!("causeway_sink_lag", &labels),
        }
    }
}

impl fmt::Debug for SinkMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkMetrics")
    }
}

pub(super) fn describe() {
    describe_counter!(
        "causeway_sink_delivered_total",
        "Interceptions that were delivered to a sink"
    );
    describe_counter!(
        "causeway_sink_failed_total",
        "Failed attempts to deliver to a sink"
    );
    describe_gauge!(
        "causeway_sink_lag",
        "Ended interceptions that a sink has not got yet"
    );
}
