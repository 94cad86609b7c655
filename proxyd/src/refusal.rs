//! What the proxy answers to a request that it does not serve, and the one place where that becomes a response.
//!
//! The reason is in `x-causeway-reason` as one word and in the body as a sentence. Inner errors are logged,
//! never sent.

use std::io;

use bridged::headers;
use bridged::identity::IdentityError;
use http::header::{CONNECTION, HeaderValue, PROXY_AUTHENTICATE};
use http::{Response, StatusCode, Version};

use crate::authority::AuthorityError;
use crate::reply::Reply;
use crate::slots::SlotError;
use crate::upstream_proxy::ChainError;

/// Why a request is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refusal {
    /// The target cannot be read.
    #[error(transparent)]
    Target(#[from] AuthorityError),
    /// The target has the wrong form for its method.
    #[error("CONNECT takes HOST:PORT and nothing else")]
    Form,
    /// CONNECT has no body.
    #[error("CONNECT has no body")]
    Body,
    /// The body is encoded in a way that cannot be forwarded.
    #[error("the only transfer coding taken here is chunked")]
    Coding,
    /// Neither `http://` nor CONNECT.
    #[error("only http:// URLs are forwarded; for anything else use CONNECT")]
    Scheme,
    /// The port is not on the list.
    #[error("this port is not allowed")]
    Port,
    /// The sender is not known.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Policy denies hosts that are not on the list.
    #[error("this host is not allowed")]
    Host,
    /// The operator denies this host.
    #[error("this host is denied")]
    Denied,
    /// A provider claims the host.
    #[error("this is the host of an AI provider: use https://, so that no key goes in clear")]
    InClear,
    /// The address is private.
    #[error("this address is not allowed")]
    Address,
    /// The address is our own.
    #[error("this address is the gateway itself: reach it without the proxy (NO_PROXY)")]
    Loop,
    /// There are too many tunnels.
    #[error(transparent)]
    Slots(#[from] SlotError),
    /// The name has no address.
    #[error("the host cannot be found")]
    Resolve(#[source] io::Error),
    /// Nothing answers there.
    #[error("the host cannot be reached")]
    Dial(#[source] io::Error),
    /// What answers is not HTTP, or broke off.
    #[error("the host did not answer in HTTP")]
    Broken(#[source] hyper::Error),
    /// It answered with another protocol.
    #[error("the host changed the protocol unasked")]
    Switched,
    /// Nothing answered in time.
    #[error("the host did not answer in time")]
    Slow,
    /// The organisation's own proxy is in the way.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refusal::Target(_) | Refusal::Form | Refusal::Body | Refusal::Coding | Refusal::Scheme => {
                StatusCode::BAD_REQUEST
            }
            Refusal::Identity(IdentityError::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Identity(_) => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Refusal::Port | Refusal::Host | Refusal::Denied | Refusal::InClear | Refusal::Address => {
                StatusCode::FORBIDDEN
            }
            Refusal::Loop => StatusCode::LOOP_DETECTED,
            Refusal::Slots(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Resolve(_) | Refusal::Dial(_) | Refusal::Broken(_) | Refusal::Switched => {
                StatusCode::BAD_GATEWAY
            }
            Refusal::Slow => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Chain(error) => error.status(),
        }
    }

    /// One stable word.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Refusal::Target(_) | Refusal::Form => "bad_target",
            Refusal::Body => "connect_with_body",
            Refusal::Coding => "bad_transfer_coding",
            Refusal::Scheme => "scheme_not_forwarded",
            Refusal::Port => "port_not_allowed",
            Refusal::Identity(IdentityError::Missing) => "token_missing",
            Refusal::Identity(IdentityError::Unknown) => "token_unknown",
            Refusal::Identity(IdentityError::Unavailable) => "identity_unavailable",
            Refusal::Host => "host_not_allowed",
            Refusal::Denied => "host_denied",
            Refusal::InClear => "claimed_host_in_clear",
            Refusal::Address => "address_not_allowed",
            Refusal::Loop => "loop",
            Refusal::Slots(SlotError::All) => "too_many_tunnels",
            Refusal::Slots(SlotError::Caller) => "too_many_tunnels_of_user",
            Refusal::Resolve(_) => "host_not_found",
            Refusal::Dial(_) => "host_unreachable",
            Refusal::Broken(_) | Refusal::Switched => "host_broken",
            Refusal::Slow => "host_timeout",
            Refusal::Chain(error) => error.code(),
        }
    }

    /// The response on the wire.
    pub(crate) fn respond(&self, version: Version) -> Response<Reply> {
        let text = format!("Causeway: {self}\n").into_bytes();
        let mut response = Reply::text(self.status(), "text/plain; charset=utf-8", text);
        let head = response.headers_mut();
        head.insert(headers::REASON, HeaderValue::from_static(self.code()));
        if self.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            head.insert(
                PROXY_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"Causeway\""),
            );
        }
        // Where a request may not mean to the client what it means here, nothing after it is believed.
        if self.status() == StatusCode::BAD_REQUEST && version != Version::HTTP_2 {
            head.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
