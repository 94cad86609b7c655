//! What comes in beside the query string: the id in a path, and bodies. Both end in a `Problem` when they are not
//! what they should be; a body is bounded in length and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::problem::Problem;

/// Longest body, in bytes.
const LONGEST: usize = 16 << 10;
/// Longest wait for a body.
const PATIENCE: Duration = Duration::from_secs(10);

/// The `{id}` of a path.
#[derive(Debug)]
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::parameter("id", "a text in UTF-8"))?;
        if text.contains('\0') {
            return Err(Problem::parameter("id", "a text without NUL"));
        }
        Ok(Id(text))
    }
}

impl Id {
    /// The same, where it must be a UUID.
    pub(super) fn uuid(&self) -> Result<Uuid, Problem> {
        Uuid::parse_str(&self.0).map_err(|_| Problem::parameter("id", "a UUID"))
    }
}

/// Reads a body that must be a JSON object.
///
/// It must say that it is JSON: then no page of another site can make a browser send it.
pub(super) async fn object(headers: &HeaderMap, body: Body) -> Result<Map<String, Value>, Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::media("the body must be application/json"));
    }
    let read = tokio::time::timeout(PATIENCE, collect(body)).await;
    let bytes = read.unwrap_or_else(|_| Err(Problem::too_slow()))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Problem::parameter("body", "a JSON object")),
        Err(error) => Err(Problem::parameter(
            "body",
            format!("JSON (line {}, column {})", error.line(), error.column()),
        )),
    }
}

async fn collect(mut body: Body) -> Result<Bytes, Problem> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::parameter("body", "a whole body"))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > LONGEST {
            return Err(Problem::too_long(LONGEST));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}
