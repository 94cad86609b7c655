//! Any server that speaks Anthropic's messages API.

use http::Method;

use super::{allowed, anthropic, bridged};
use crate::api::{Api, Endpoint};
use crate::error::ErrorShape;
use crate::kind::{KeyHeader, Kind};

/// The kind `anthropic-compatible`.
#[derive(Debug)]
pub(crate) struct AnthropicCompatible;

impl Kind for AnthropicCompatible {
    fn name(&self) -> &'static str {
        "anthropic-compatible"
    }

    fn endpoint(&self, method: &Method, path: &str) -> Endpoint {
        bridged(anthropic::BRIDGED, method, path)
    }

    fn passes(&self, method: &Method, path: &str) -> bool {
        allowed(anthropic::PASSES, method, path)
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
