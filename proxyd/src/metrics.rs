//! The proxy's metrics.

use std::fmt;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// The proxy's metrics.
pub(crate) struct Metrics {
    pub(crate) intercepted: Counter,
    pub(crate) tunnelled: Counter,
    pub(crate) forwarded: Counter,
    pub(crate) refused: Counter,
    pub(crate) tunnels_open: Gauge,
    pub(crate) bytes_up: Counter,
    pub(crate) bytes_down: Counter,
    pub(crate) handshakes_done: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) handshakes_slow: Counter,
    pub(crate) leaf_hits: Counter,
    pub(crate) leaf_minted: Counter,
    pub(crate) ca_expiry: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Resolves the handles; must run inside `bridged::metrics::Metrics::resolve`.
    pub(crate) fn new() -> Metrics {
        describe_counter!(
            "causeway_connects_total",
            "Requests to the proxy port, by what became of them"
        );
        describe_gauge!("causeway_tunnels_open", "Tunnels that are open");
        describe_counter!(
            "causeway_tunnel_bytes_total",
            "Bytes through tunnels and forwarded requests"
        );
        describe_counter!("causeway_tls_handshakes_total", "TLS handshakes with clients");
        describe_counter!("causeway_leaf_cache_total", "Look-ups of a host's certificate");
        describe_gauge!("causeway_ca_expiry_seconds", "Time until the CA expires");
        let connects = |kind: &'static str| counter!("causeway_connects_total", "kind" => kind);
        let bytes =
            |direction: &'static str| counter!("causeway_tunnel_bytes_total", "direction" => direction);
        let handshakes = |result: &'static str| counter!("causeway_tls_handshakes_total", "result" => result);
        let leaves = |result: &'static str| counter!("causeway_leaf_cache_total", "result" => result);
        Metrics {
            intercepted: connects("intercepted"),
            tunnelled: connects("tunnelled"),
            forwarded: connects("forwarded"),
            refused: connects("refused"),
            tunnels_open: gauge!("causeway_tunnels_open"),
            bytes_up: bytes("up"),
            bytes_down: bytes("down"),
            handshakes_done: handshakes("done"),
            handshakes_failed: handshakes("failed"),
            handshakes_slow: handshakes("timeout"),
            leaf_hits: leaves("hit"),
            leaf_minted: leaves("minted"),
            ca_expiry: gauge!("causeway_ca_expiry_seconds"),
        }
    }
}
