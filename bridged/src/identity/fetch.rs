//! One small JSON document over HTTPS, for the identity provider's keys.
//!
//! A connection of its own each time: it happens every few hours. The whole has one deadline and one size limit;
//! redirects are not followed.

use std::time::Duration;

use http::header::{ACCEPT, HOST, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use providers::{BaseUrl, Target};
use tokio_util::task::TaskTracker;

use crate::body::RequestBody;
use crate::upstream::{DialError, Trust, connect_once};

/// Deadline for the whole.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest document, in bytes.
const LARGEST: usize = 1 << 20;

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum FetchError {
    /// The URL has no form that can be asked for.
    #[error("the URL cannot be used")]
    Url,
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The exchange broke off.
    #[error("the answer broke off")]
    Broken(#[from] hyper::Error),
    /// It took too long.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Slow,
    /// The answer is no success.
    #[error("the answer has status {}", .0.as_u16())]
    Status(StatusCode),
    /// The answer is too long or breaks off.
    #[error("the answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not the JSON that was asked for.
    #[error("the answer is not the document that was asked for")]
    Json(#[from] serde_json::Error),
}

/// Fetches `url` and reads it as `T`.
///
/// # Errors
/// There is no such document.
pub(super) async fn json<T: serde::de::DeserializeOwned>(
    url: &BaseUrl,
    trust: &Trust,
    tracker: &TaskTracker,
) -> Result<T, FetchError> {
    let target = Target {
        scheme: url.scheme,
        host: url.host.clone(),
        port: url.port,
        path_and_query: if url.path.is_empty() {
            "/".to_owned()
        } else {
            url.path.clone()
        },
    };
    tokio::time::timeout(TIMEOUT, get(&target, trust, tracker))
        .await
        .unwrap_or(Err(FetchError::Slow))
}

async fn get<T: serde::de::DeserializeOwned>(
    target: &Target,
    trust: &Trust,
    tracker: &TaskTracker,
) -> Result<T, FetchError> {
    let host = HeaderValue::from_str(&target.authority()).map_err(|_| FetchError::Url)?;
    let request = Request::get(&target.path_and_query)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .body(RequestBody::Full(Full::default()))
        .map_err(|_| FetchError::Url)?;
    let mut sender = connect_once(target, TIMEOUT, trust, tracker).await?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let bytes = body.map_err(FetchError::Body)?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}
