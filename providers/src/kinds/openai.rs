//! OpenAI itself: `api.openai.com`, and ChatGPT's Codex back end, which speaks the same responses API.

use http::Method;

use super::{Extent, Methods, Pass, allowed, bridged, pass};
use crate::api::{Api, Endpoint};
use crate::error::ErrorShape;
use crate::kind::{KeyHeader, Kind};

/// The kind `openai`.
#[derive(Debug)]
pub(crate) struct OpenAi;

const BRIDGED: &[(&str, Api)] = &[
    ("/chat/completions", Api::ChatCompletions),
    ("/responses", Api::Responses),
    ("/completions", Api::Completions),
    ("/embeddings", Api::Embeddings),
    ("/responses/compact", Api::Compact),
    ("/responses/input_tokens", Api::CountTokens),
];

pub(super) const PASSES: &[Pass] = &[
    pass(Methods::Read, "/models", Extent::Tree),
    pass(Methods::Any, "/conversations", Extent::Tree),
    pass(Methods::Any, "/responses", Extent::Below),
];

impl Kind for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn endpoint(&self, method: &Method, path: &str) -> Endpoint {
        bridged(BRIDGED, method, path)
    }

    fn passes(&self, method: &Method, path: &str) -> bool {
        allowed(PASSES, method, path)
    }

    fn takes_include_usage(&self) -> bool {
        true
    }

    fn key_header(&self) -> KeyHeader {
        KeyHeader::Bearer
    }

    fn error_shape(&self, _endpoint: Endpoint) -> ErrorShape {
        ErrorShape::OpenAi
    }

    fn versioned_base(&self) -> bool {
        true
    }

    fn prefixes(&self) -> &'static [&'static str] {
        &["/v1", "/backend-api/codex"]
    }
}
