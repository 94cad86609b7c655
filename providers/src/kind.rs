//! A kind knows one provider's protocol: which paths are which API, how a key is sent, how errors look.
//!
//! Kinds are stateless and static; instances ([`crate::Instance`]) give them a name, a base URL and hosts. The
//! table below is the only place that lists them.

use std::fmt;

use http::Method;
use http::header::HeaderName;

use crate::api::Endpoint;
use crate::error::ErrorShape;
use crate::kinds;

/// The protocol of one sort of provider.
pub trait Kind: fmt::Debug + Send + Sync + 'static {
    /// The name used in configuration, labels and records.
    fn name(&self) -> &'static str;

    /// What `path` is: it lies below the base URL, begins with `/` and has no query. Only POST is bridged.
    fn endpoint(&self, method: &Method, path: &str) -> Endpoint;

    /// Whether base-URL mode lets this request through unrecorded, where a central key may be attached to it.
    fn passes(&self, method: &Method, path: &str) -> bool;

    /// How a central key is sent.
    fn key_header(&self) -> KeyHeader;

    /// The shape of error bodies that this endpoint's clients can read.
    fn error_shape(&self, endpoint: Endpoint) -> ErrorShape;

    /// Where requests go.
    fn transport(&self) -> Transport {
        Transport::Network
    }

    /// The status on which this kind's clients fall back from a WebSocket to plain requests at once.
    fn websocket_refusal(&self) -> u16 {
        426
    }

    /// Whether its streams of choices report their usage when `stream_options.include_usage` asks for it, and only
    /// then.
    fn takes_include_usage(&self) -> bool {
        false
    }

    /// Whether clients put the version into their base URL, so that a leading `/v1` in base-URL mode is theirs.
    fn versioned_base(&self) -> bool {
        false
    }

    /// Prefixes under which a claimed host is known to serve this API, tried after the instance's base path.
    ///
    /// They keep recognition alive when an operator redirects a claimed host to a base URL with another path.
    fn prefixes(&self) -> &'static [&'static str] {
        &["/v1"]
    }
}

/// The header that carries a central key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHeader {
    /// `Authorization: Bearer …`.
    Bearer,
    /// `x-api-key: …`.
    XApiKey,
    /// A header that the operator names, such as Azure's `api-key: …`.
    Named(HeaderName),
    /// This kind never takes a central key.
    None,
}

/// Where an instance's requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// To the target's host.
    Network,
    /// Nowhere: [`crate::simulate`] makes the reply.
    Simulated,
}

/// Every kind there is.
static KINDS: &[&dyn Kind] = &[
    &kinds::OpenAi,
    &kinds::Anthropic,
    &kinds::Copilot,
    &kinds::OpenAiCompatible,
    &kinds::AnthropicCompatible,
    &kinds::Simulated,
];

/// The kind of that name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static dyn Kind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}

/// The names of all kinds, for messages and documents.
pub fn kind_names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_findable() {
        let names: Vec<_> = kind_names().collect();
        for name in &names {
            assert_eq!(kind(name).map(Kind::name), Some(*name));
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
        assert!(kind("no-such-kind").is_none());
    }
}
