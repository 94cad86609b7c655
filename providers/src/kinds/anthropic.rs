//! Anthropic itself. Clients put no version into their base URL, so paths keep their `/v1`.

use http::Method;

use super::{Extent, Methods, Pass, allowed, bridged, pass};
use crate::api::{Api, Endpoint};
use crate::error::ErrorShape;
use crate::kind::{KeyHeader, Kind};

/// The kind `anthropic`.
#[derive(Debug)]
pub(crate) struct Anthropic;

pub(super) const BRIDGED: &[(&str, Api)] = &[
    ("/v1/messages", Api::Messages),
    ("/v1/messages/count_tokens", Api::CountTokens),
    // The same models for clients that speak OpenAI's dialect.
    ("/v1/chat/completions", Api::ChatCompletions),
];

pub(super) const PASSES: &[Pass] = &[
    // Claude Code probes a custom base URL before it sends anything.
    pass(Methods::Read, "/", Extent::Exact),
    pass(Methods::Read, "/v1/models", Extent::Tree),
    pass(Methods::Any, "/api/event_logging", Extent::Below),
];

impl Kind for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn endpoint(&self, method: &Method, path: &str) -> Endpoint {
        bridged(BRIDGED, method, path)
    }

    fn passes(&self, method: &Method, path: &str) -> bool {
        allowed(PASSES, method, path)
    }

    fn key_header(&self) -> KeyHeader {
        KeyHeader::XApiKey
    }

    fn error_shape(&self, endpoint: Endpoint) -> ErrorShape {
        match endpoint {
            Endpoint::Bridged(Api::ChatCompletions) => ErrorShape::OpenAi,
            _ => ErrorShape::Anthropic,
        }
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &[]
    }
}
