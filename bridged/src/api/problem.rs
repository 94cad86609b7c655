//! Errors of the API: `application/problem+json` (RFC 9457). The one place where they become bytes.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use serde::Serialize;

use crate::identity::IdentityError;
use crate::store::StoreError;

/// An error of the API.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    /// Seconds after which it may be asked again.
    #[serde(skip)]
    wait: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or_default();
        Problem {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            problems: Vec::new(),
            wait: None,
        }
    }

    /// Too much at once.
    pub(super) fn crowded(detail: &str) -> Problem {
        Problem {
            wait: Some(WAIT),
            ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    /// A parameter that cannot be used.
    pub(super) fn parameter(field: &str, detail: impl Into<String>) -> Problem {
        Problem {
            field: Some(field.to_owned()),
            ..Problem::new(StatusCode::BAD_REQUEST, detail)
        }
    }

    /// A configuration that cannot run, with all that is wrong with it.
    pub(super) fn unusable(problems: Vec<String>) -> Problem {
        let detail = "the configuration cannot be used; nothing has changed";
        Problem {
            problems,
            ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
    }

    pub(super) fn not_found(detail: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn method_not_allowed() -> Problem {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this resource has no such method")
    }

    pub(super) fn forbidden(detail: &str) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn conflict(detail: &str) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    pub(super) fn unauthenticated(error: &IdentityError) -> Problem {
        let status = match error {
            IdentityError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        };
        Problem::new(status, error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the API cannot read the store"
        );
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the record store cannot be read",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind: [(HeaderName, HeaderValue); 1] =
            [(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (status, kind, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"Causeway\"");
            response
                .headers_mut()
                .insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.wait {
            response.headers_mut().insert(RETRY_AFTER, wait.into());
        }
        response
    }
}

/// Seconds after which a stream may have ended.
const WAIT: u32 = 10;
