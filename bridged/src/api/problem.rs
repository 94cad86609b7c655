//! Errors of the API: `application/problem+json` (RFC 9457). The one place where they become bytes.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::identity::IdentityError;
use crate::store::StoreError;

/// Characters of an unknown name that are repeated.
const LONGEST_NAME: usize = 64;

/// An error of the API.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status says which kind of error it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, or for a field what it should be.
    detail: String,
    /// The parameter or field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    field: Option<String>,
    /// All that is wrong, where it is more than one thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
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

    /// What may work a little later.
    pub(super) fn later(detail: &str) -> Problem {
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

    /// A parameter or field that there is not; those that there are are `known`.
    pub(super) fn unknown(name: &str, known: &[&str]) -> Problem {
        // Somebody else's text is not repeated at length.
        let name: String = name.chars().take(LONGEST_NAME).collect();
        let detail = if known.is_empty() {
            "there are no parameters here".to_owned()
        } else {
            format!("not known here; there are {}", known.join(", "))
        };
        Problem::parameter(&name, detail)
    }

    /// A configuration that cannot run, with all that is wrong with it.
    pub(super) fn unusable(problems: Vec<String>) -> Problem {
        let detail = "the configuration cannot be used; nothing has changed";
        Problem {
            problems,
            ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        }
    }

    /// A body that is not of the media type that it must be of.
    pub(super) fn media(detail: &str) -> Problem {
        Problem {
            field: Some("content-type".to_owned()),
            ..Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
        }
    }

    /// A body of more than `limit` bytes.
    pub(super) fn too_long(limit: usize) -> Problem {
        Problem {
            field: Some("body".to_owned()),
            ..Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a body of at most {limit} bytes"),
            )
        }
    }

    /// A body that does not come.
    pub(super) fn too_slow() -> Problem {
        Problem {
            field: Some("body".to_owned()),
            ..Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
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

/// Seconds after which it may.
const WAIT: u32 = 10;
