//! The bodies that pass through the gateway.
//!
//! `collect` buffers a request within its limit; `RequestBody` goes to upstreams; `ReplyBody` goes to clients
//! and is the one body type of every listener.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::relay::Relay;
use crate::upstream::UpstreamBody;

/// Longest silence of a client inside its request body.
const CLIENT_SILENCE: Duration = Duration::from_secs(30);

/// Why a request body could not be buffered.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// It is longer than the limit.
    #[error("the request body is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The client stopped sending.
    #[error("the client stopped sending its request body")]
    TooSlow,
    /// The connection broke, or the body is malformed.
    #[error("the request body broke off")]
    Broken(#[source] hyper::Error),
}

/// Buffers a request body of at most `limit` bytes.
///
/// # Errors
/// The body is too long, too slow or broken.
pub async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, CollectError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(CollectError::TooLong { limit });
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(CLIENT_SILENCE, body.frame()).await.map_err(|_| CollectError::TooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(CollectError::Broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(CollectError::TooLong { limit });
        }
        if first.is_empty() {
            // A short body comes in one piece and is not copied.
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.saturating_sub(first.len()).max(data.len()));
        }
        rest.extend_from_slice(&data);
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

/// A body on its way to an upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// A buffered one, until it is sent.
    Full(Option<Bytes>),
    /// One that streams through.
    Streaming(Incoming),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            RequestBody::Full(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
            }
            RequestBody::Streaming(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            RequestBody::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            RequestBody::Streaming(body) => body.size_hint(),
        }
    }
}

/// Why a reply broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The upstream's connection broke.
    #[error("the upstream's reply broke off")]
    Upstream(#[source] hyper::Error),
    /// The upstream fell silent.
    #[error("the upstream sent nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// The API's own body broke off.
    #[error("the API's answer broke off")]
    Api,
}

/// A body on its way to a client.
#[derive(Debug)]
pub enum ReplyBody {
    /// One that the gateway made itself.
    Full(Option<Bytes>),
    /// One of the API's.
    Api(axum::body::Body),
    /// An upstream's, passed through.
    Passed(Box<UpstreamBody>),
    /// An upstream's, read by a tap as it passes.
    Tapped(Box<Relay>),
}

impl ReplyBody {
    /// A body with nothing in it.
    pub fn empty() -> ReplyBody {
        ReplyBody::Full(None)
    }
}

impl From<Bytes> for ReplyBody {
    fn from(bytes: Bytes) -> ReplyBody {
        ReplyBody::Full(Some(bytes))
    }
}

impl From<Vec<u8>> for ReplyBody {
    fn from(bytes: Vec<u8>) -> ReplyBody {
        ReplyBody::Full(Some(bytes.into()))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        match self.get_mut() {
            ReplyBody::Full(bytes) => {
                Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
            }
            ReplyBody::Api(body) => Pin::new(body).poll_frame(cx).map_err(|_| ReplyError::Api),
            ReplyBody::Passed(body) => Pin::new(&mut **body).poll_frame(cx),
            ReplyBody::Tapped(relay) => Pin::new(&mut **relay).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            ReplyBody::Api(body) => body.is_end_stream(),
            ReplyBody::Passed(body) => body.is_end_stream(),
            ReplyBody::Tapped(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            ReplyBody::Api(body) => body.size_hint(),
            ReplyBody::Passed(body) => body.size_hint(),
            ReplyBody::Tapped(relay) => relay.size_hint(),
        }
    }
}
