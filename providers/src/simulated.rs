//! A provider without a network: deterministic replies in each API's full format, for demos and tests.

use std::time::SystemTime;

use bytes::Bytes;

use crate::api::Api;
use crate::inspect::Inspection;

/// A reply made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedReply {
    /// The status code.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// One frame for each event of a stream, or the one body.
    pub frames: Vec<Bytes>,
}

/// Answers a request.
#[must_use]
pub fn simulate(
    _api: Api,
    _inspection: &Inspection,
    _body: &[u8],
    _reply_id: &str,
    _now: SystemTime,
) -> SimulatedReply {
    SimulatedReply {
        status: 200,
        content_type: "application/json",
        frames: Vec::new(),
    }
}
