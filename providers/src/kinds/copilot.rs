//! GitHub Copilot: all APIs on one host, always with the user's own GitHub token.

use http::Method;

use super::{Extent, Methods, Pass, allowed, bridged, engine_model, pass};
use crate::api::{Api, Endpoint};
use crate::error::ErrorShape;
use crate::kind::{KeyHeader, Kind};

/// The kind `copilot`.
#[derive(Debug)]
pub(crate) struct Copilot;

const BRIDGED: &[(&str, Api)] = &[
    ("/chat/completions", Api::ChatCompletions),
    ("/responses", Api::Responses),
    ("/v1/messages", Api::Messages),
    ("/embeddings", Api::Embeddings),
    ("/responses/compact", Api::Compact),
    ("/v1/messages/count_tokens", Api::CountTokens),
];

const PASSES: &[Pass] = &[
    pass(Methods::Read, "/models", Extent::Tree),
    pass(Methods::Any, "/agents", Extent::Tree),
    pass(Methods::Any, "/mcp", Extent::Tree),
    pass(Methods::Read, "/.well-known", Extent::Tree),
];

impl Kind for Copilot {
    fn name(&self) -> &'static str {
        "copilot"
    }

    fn websocket_refusal(&self) -> u16 {
        501
    }

    fn endpoint(&self, method: &Method, path: &str) -> Endpoint {
        if *method == Method::POST && path.starts_with("/v1/engines/") && engine_model(path).is_some() {
            return Endpoint::Bridged(Api::Completions);
        }
        bridged(BRIDGED, method, path)
    }

    fn passes(&self, method: &Method, path: &str) -> bool {
        allowed(PASSES, method, path)
    }

    fn key_header(&self) -> KeyHeader {
        KeyHeader::None
    }

    fn error_shape(&self, endpoint: Endpoint) -> ErrorShape {
        ErrorShape::of(endpoint)
    }
}
