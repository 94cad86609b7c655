//! A provider that exists only in this program: it answers every API, for demos and tests.

use http::Method;

use super::{allowed, bridged, engine_model, openai};
use crate::api::{Api, Endpoint};
use crate::error::ErrorShape;
use crate::kind::{KeyHeader, Kind, Transport};
use crate::path;

/// The kind `simulated`.
#[derive(Debug)]
pub(crate) struct Simulated;

const BRIDGED: &[(&str, Api)] = &[
    ("/chat/completions", Api::ChatCompletions),
    ("/responses", Api::Responses),
    ("/messages", Api::Messages),
    ("/completions", Api::Completions),
    ("/embeddings", Api::Embeddings),
    ("/responses/compact", Api::Compact),
    ("/messages/count_tokens", Api::CountTokens),
];

impl Kind for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn endpoint(&self, method: &Method, asked: &str) -> Endpoint {
        let rest = path::below(asked, "/v1").unwrap_or(asked);
        if *method == Method::POST && rest.starts_with("/engines/") && engine_model(rest).is_some() {
            return Endpoint::Bridged(Api::Completions);
        }
        bridged(BRIDGED, method, rest)
    }

    fn passes(&self, method: &Method, asked: &str) -> bool {
        allowed(openai::PASSES, method, path::below(asked, "/v1").unwrap_or(asked))
    }

    fn key_header(&self) -> KeyHeader {
        KeyHeader::None
    }

    fn error_shape(&self, endpoint: Endpoint) -> ErrorShape {
        ErrorShape::of(endpoint)
    }

    fn transport(&self) -> Transport {
        Transport::Simulated
    }

    fn versioned_base(&self) -> bool {
        true
    }
}
