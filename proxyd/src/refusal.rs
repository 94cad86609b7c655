//! What the proxy answers to a CONNECT that it does not serve, and the one place where that becomes a response.
//!
//! The reason is in `x-causeway-reason` as one word and in the body as a sentence. Inner errors are logged,
//! never sent.

use std::io;

use bridged::body::ReplyBody;
use bridged::headers;
use bridged::identity::IdentityError;
use http::header::{CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::authority::AuthorityError;

/// Why a CONNECT is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Refusal {
    /// The target cannot be read.
    #[error(transparent)]
    Target(#[from] AuthorityError),
    /// CONNECT has no body.
    #[error("CONNECT has no body")]
    Body,
    /// The port is not on the list.
    #[error("this port is not allowed")]
    Port,
    /// The sender is not known.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Policy denies tunnels.
    #[error("this host is not allowed")]
    Host,
    /// The address is private.
    #[error("this address is not allowed")]
    Address,
    /// The name has no address.
    #[error("the host cannot be found")]
    Resolve(#[source] io::Error),
    /// Nothing answers there.
    #[error("the host cannot be reached")]
    Dial(#[source] io::Error),
    /// Nothing answered in time.
    #[error("the host did not answer in time")]
    Slow,
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Refusal::Target(_) | Refusal::Body => StatusCode::BAD_REQUEST,
            Refusal::Identity(_) => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Refusal::Port | Refusal::Host | Refusal::Address => StatusCode::FORBIDDEN,
            Refusal::Resolve(_) | Refusal::Dial(_) => StatusCode::BAD_GATEWAY,
            Refusal::Slow => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// One stable word.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Refusal::Target(_) => "bad_target",
            Refusal::Body => "connect_with_body",
            Refusal::Port => "port_not_allowed",
            Refusal::Identity(IdentityError::Missing) => "token_missing",
            Refusal::Identity(IdentityError::Unknown) => "token_unknown",
            Refusal::Host => "host_not_allowed",
            Refusal::Address => "address_not_allowed",
            Refusal::Resolve(_) => "host_not_found",
            Refusal::Dial(_) => "host_unreachable",
            Refusal::Slow => "host_timeout",
        }
    }

    /// The response on the wire.
    pub(crate) fn respond(&self) -> Response<ReplyBody> {
        let mut response = Response::new(ReplyBody::from(format!("Causeway: {self}\n").into_bytes()));
        *response.status_mut() = self.status();
        let head = response.headers_mut();
        head.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        head.insert(headers::REASON, HeaderValue::from_static(self.code()));
        if matches!(self, Refusal::Identity(_)) {
            head.insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Causeway\""));
        }
        response
    }
}
