//! The proxy's metrics.

use std::fmt;
use std::io;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use rustls::AlertDescription;

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
    handshakes_failed: Counter,
    handshakes_left: Counter,
    handshakes_refused: [(AlertDescription, Counter); ALERTS.len()],
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

/// What a client says when it does not trust the certificate, or finds nothing to agree on (RFC 8446 section 6.2).
const ALERTS: [(AlertDescription, &str); 9] = [
    (AlertDescription::UnknownCA, "unknown_ca"),
    (AlertDescription::BadCertificate, "bad_certificate"),
    (AlertDescription::CertificateUnknown, "certificate_unknown"),
    (AlertDescription::CertificateExpired, "certificate_expired"),
    (
        AlertDescription::UnsupportedCertificate,
        "unsupported_certificate",
    ),
    (AlertDescription::CertificateRevoked, "certificate_revoked"),
    (AlertDescription::HandshakeFailure, "handshake_failure"),
    (AlertDescription::ProtocolVersion, "protocol_version"),
    (AlertDescription::UserCanceled, "user_canceled"),
];

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
            handshakes_left: handshakes("client_left"),
            handshakes_refused: ALERTS.map(|(alert, name)| (alert, handshakes(name))),
            handshakes_slow: handshakes("timeout"),
            leaf_hits: leaves("hit"),
            leaf_minted: leaves("minted"),
            ca_expiry: gauge!("causeway_ca_expiry_seconds"),
        }
    }

    /// Counts a handshake that a client broke off, by the alert that it sent: the most useful number when clients
    /// do not trust the CA.
    pub(crate) fn handshake_failed(&self, error: &io::Error) {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let counter = match inner {
            Some(rustls::Error::AlertReceived(alert)) => {
                let known = self.handshakes_refused.iter().find(|(known, _)| known == alert);
                known.map_or(&self.handshakes_failed, |(_, counter)| counter)
            }
            None if error.kind() == io::ErrorKind::UnexpectedEof => &self.handshakes_left,
            _ => &self.handshakes_failed,
        };
        counter.increment(1);
    }

    /// Counts a handshake that the proxy could not go on with.
    pub(crate) fn handshake_impossible(&self) {
        self.handshakes_failed.increment(1);
    }
}
