//! Any server that speaks OpenAI's APIs: vLLM, Ollama, LiteLLM, OpenRouter and many more.
//!
//! Many of them serve Anthropic's messages beside it, under the same version prefix, so that is recognised too.

use http::Method;

use super::{allowed, bridged, openai};
use crate::api::{Api, Endpoint};
use crate::error::ErrorShape;
use crate::kind::{KeyHeader, Kind};

/// The kind `openai-compatible`.
#[derive(Debug)]
pub(crate) struct OpenAiCompatible;

const BRIDGED: &[(&str, Api)] = &[
    ("/chat/completions", Api::ChatCompletions),
    ("/responses", Api::Responses),
    ("/completions", Api::Completions),
    ("/messages", Api::Messages),
    ("/embeddings", Api::Embeddings),
    ("/responses/compact", Api::Compact),
    ("/messages/count_tokens", Api::CountTokens),
];

impl Kind for OpenAiCompatible {
    fn name(&self) -> &'static str {
        "openai-compatible"
    }

    fn endpoint(&self, method: &Method, path: &str) -> Endpoint {
        bridged(BRIDGED, method, path)
    }

    fn passes(&self, method: &Method, path: &str) -> bool {
        allowed(openai::PASSES, method, path)
    }

    fn takes_include_usage(&self) -> bool {
        true
    }

    fn key_header(&self) -> KeyHeader {
        KeyHeader::Bearer
    }

    fn error_shape(&self, endpoint: Endpoint) -> ErrorShape {
        ErrorShape::of(endpoint)
    }

    fn versioned_base(&self) -> bool {
        true
    }
}
