//! What the gateway answers itself, and the one place where that becomes bytes on the wire.
//!
//! A refusal has a status, a stable code (also in `x-causeway-reason` and the metric's `reason`) and a message
//! in the provider's own error shape, so that the client shows it as it would show the provider's. Inner errors
//! are logged, never sent.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE};
use http::{Response, StatusCode};
use providers::{ErrorFacts, ErrorShape};
use uuid::Uuid;

use crate::admission::{self, Denied};
use crate::body::{CollectError, ReplyBody};
use crate::headers;
use crate::identity::IdentityError;
use crate::record::RecordError;
use crate::upstream::{Upstream, UpstreamError};

/// Why the gateway answers in the provider's place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No instance has this name.
    #[error(
        "no provider is named in this path: it begins with /<provider>/, e.g. /openai/v1/chat/completions"
    )]
    UnknownProvider,
    /// The instance has no such route.
    #[error("provider `{provider}` has no such route in base-URL mode")]
    UnknownRoute {
        /// The instance.
        provider: String,
    },
    /// The sender is not known.
    #[error(transparent)]
    Unauthenticated(IdentityError),
    /// The sender's proof has ended or was revoked while the connection was open.
    #[error("your gateway token has ended or was revoked: connect again with another")]
    Ended,
    /// Policy, a limit or a budget is in the way.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The request names another host than the one that the client connected to.
    #[error("the request's host is not the one of this connection")]
    Misdirected,
    /// A CONNECT that is not for the proxy port.
    #[error("CONNECT is for the proxy port only")]
    Connect,
    /// The system gives no random numbers.
    #[error("the gateway has no random numbers")]
    NoRandomness,
    /// WebSockets are not relayed.
    #[error("WebSockets are not available here: use plain requests")]
    WebSocket {
        /// The status on which the client falls back.
        status: u16,
    },
    /// A WebSocket has too many responses under way.
    #[error("this WebSocket has {limit} responses under way: wait for one to end")]
    TooManyResponses {
        /// The limit.
        limit: usize,
    },
    /// The request body cannot be taken.
    #[error(transparent)]
    Body(CollectError),
    /// There is no credential for the upstream.
    #[error("provider `{provider}` needs a credential of your own: the gateway holds no key for it")]
    NoCredential {
        /// The instance.
        provider: String,
    },
    /// Every key of the gateway's has met a limit.
    #[error(
        "every key that the gateway holds for provider `{provider}` has met a limit: try again in {} s",
        whole_seconds(.wait)
    )]
    KeysResting {
        /// The instance.
        provider: String,
        /// Until the first of them is back.
        wait: Duration,
    },
    /// The provider knows none of the gateway's keys.
    #[error("provider `{provider}` rejects every key that the gateway holds for it: tell its operator")]
    KeysRejected {
        /// The instance.
        provider: String,
    },
    /// The user's own credential is out of quota.
    #[error(
        "provider `{provider}` has said that your credential is out of quota: try again in {} s",
        whole_seconds(.wait)
    )]
    QuotaSpent {
        /// The instance.
        provider: String,
        /// Until it is back.
        wait: Duration,
    },
    /// The instance, or the model, has failed too often.
    #[error(
        "{} has failed too often and is left alone for now: try again in {} s",
        subject(.provider, .model.as_deref()),
        whole_seconds(.wait)
    )]
    CircuitOpen {
        /// The instance.
        provider: String,
        /// The model, unless it is the instance as a whole.
        model: Option<String>,
        /// Until it is tried again.
        wait: Duration,
    },
    /// The request cannot be recorded.
    #[error("the gateway cannot record requests at the moment")]
    Unrecordable(RecordError),
    /// The upstream gave no reply.
    #[error("provider `{provider}` cannot be reached: {error}")]
    Upstream {
        /// The instance.
        provider: String,
        /// The reason.
        error: UpstreamError,
    },
}

impl Refusal {
    /// A model's breaker is open.
    pub(crate) fn model_is_left_alone(upstream: &Upstream, model: Option<&str>, wait: Duration) -> Refusal {
        Refusal::CircuitOpen {
            provider: upstream.name.to_string(),
            model: Some(model.unwrap_or("unknown").to_owned()),
            wait,
        }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::UnknownProvider | Refusal::UnknownRoute { .. } => 404,
            Refusal::Unauthenticated(IdentityError::Unavailable) => 503,
            Refusal::Unauthenticated(_) => 401,
            Refusal::Denied(denied) => denied.status(),
            Refusal::Misdirected => 421,
            Refusal::Connect => 400,
            Refusal::WebSocket { status } => *status,
            Refusal::Body(CollectError::TooLong { .. }) => 413,
            Refusal::Body(CollectError::TooSlow) => 408,
            Refusal::TooManyResponses { .. } => 429,
            // Every client shows a 400 as it is and none repeats it.
            Refusal::Body(CollectError::Broken(_))
            | Refusal::NoCredential { .. }
            | Refusal::KeysRejected { .. }
            | Refusal::Ended => 400,
            Refusal::KeysResting { .. } | Refusal::QuotaSpent { .. } => 429,
            Refusal::Unrecordable(_) | Refusal::NoRandomness | Refusal::CircuitOpen { .. } => 503,
            Refusal::Upstream { error, .. } if error.is_timeout() => 504,
            Refusal::Upstream { .. } => 502,
        }
    }

    /// One stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::UnknownProvider => "unknown_provider",
            Refusal::UnknownRoute { .. } => "unknown_route",
            Refusal::Unauthenticated(IdentityError::Missing) => "token_missing",
            Refusal::Unauthenticated(IdentityError::Unknown) => "token_unknown",
            Refusal::Unauthenticated(IdentityError::Unavailable) => "identity_unavailable",
            Refusal::Ended => "token_ended",
            Refusal::Denied(denied) => denied.code(),
            Refusal::Misdirected => "misdirected",
            Refusal::Connect => "connect_inside",
            Refusal::NoRandomness => "no_randomness",
            Refusal::WebSocket { .. } => "websocket_unavailable",
            Refusal::TooManyResponses { .. } => "too_many_responses",
            Refusal::Body(CollectError::TooLong { .. }) => "body_too_long",
            Refusal::Body(CollectError::TooSlow) => "body_too_slow",
            Refusal::Body(CollectError::Broken(_)) => "body_broken",
            Refusal::NoCredential { .. } => "no_credential",
            Refusal::KeysResting { .. } => "keys_resting",
            Refusal::KeysRejected { .. } => "keys_rejected",
            Refusal::QuotaSpent { .. } => "quota_spent",
            Refusal::CircuitOpen { .. } => "circuit_open",
            Refusal::Unrecordable(_) => "records_unavailable",
            Refusal::Upstream { error, .. } if error.is_timeout() => "upstream_timeout",
            Refusal::Upstream { .. } => "upstream_unreachable",
        }
    }

    /// How long the client should wait before it asks again.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::KeysResting { wait, .. }
            | Refusal::QuotaSpent { wait, .. }
            | Refusal::CircuitOpen { wait, .. } => Some(*wait),
            Refusal::Denied(denied) => denied.retry_after(),
            Refusal::Unrecordable(_) | Refusal::Unauthenticated(IdentityError::Unavailable) => {
                Some(Duration::from_secs(5))
            }
            _ => None,
        }
    }

    /// Whether the connection cannot be used further: the rest of the request is still on it.
    fn ends_connection(&self) -> bool {
        matches!(self, Refusal::Body(_) | Refusal::Ended)
    }

    /// The response on the wire.
    pub fn respond(&self, shape: ErrorShape, request_id: Uuid) -> Response<ReplyBody> {
        let status = self.status();
        let body = self.facts(request_id, |facts| providers::error_body(shape, facts));
        let mut response = Response::new(ReplyBody::from(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let head = response.headers_mut();
        head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        head.insert(headers::REASON, HeaderValue::from_static(self.code()));
        match self {
            // RFC 9110 section 15.5.22 wants the protocol named.
            Refusal::WebSocket { status: 426 } => {
                head.insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"));
            }
            Refusal::Unauthenticated(_) if status == 401 => {
                head.insert(
                    http::header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"Causeway\""),
                );
            }
            _ => {}
        }
        if let Some(wait) = self.retry_after() {
            head.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(&wait)));
        }
        if self.ends_connection() {
            head.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The text of the error event that answers a call on a WebSocket, in the lane of that call.
    pub(crate) fn event(&self, shape: ErrorShape, request_id: Uuid, lane: Option<&str>) -> Vec<u8> {
        self.facts(request_id, |facts| providers::error_event(shape, facts, lane))
    }

    fn facts<T>(&self, request_id: Uuid, encode: impl FnOnce(&ErrorFacts<'_>) -> T) -> T {
        encode(&ErrorFacts {
            status: self.status(),
            code: self.code(),
            message: &format!("Causeway: {self}"),
            retry_after: self.retry_after().map(|wait| whole_seconds(&wait)),
            request_id: &request_id.to_string(),
        })
    }
}

/// A wait in whole seconds, never too short and never nothing.
fn whole_seconds(wait: &Duration) -> u64 {
    admission::seconds(*wait).max(1)
}

fn subject(provider: &str, model: Option<&str>) -> String {
    match model {
        Some(model) => format!("the model `{model}` of provider `{provider}`"),
        None => format!("provider `{provider}`"),
    }
}
