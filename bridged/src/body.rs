//! The bodies that pass through the gateway.
//!
//! `collect` buffers a request within its limit; `RequestBody` goes to upstreams; `ReplyBody` goes to clients
//! and is the one body type of every listener.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

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
    Broken(#[source] Option<hyper::Error>),
}

/// Buffers a request body of at most `limit` bytes. Trailers are left out, as RFC 9110 section 6.5.1 allows: the
/// body goes on with a length, and no AI API has any.
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
        let frame = tokio::time::timeout(CLIENT_SILENCE, body.frame())
            .await
            .map_err(|_| CollectError::TooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame
            .map_err(|error| CollectError::Broken(Some(error)))?
            .into_data()
        else {
            continue;
        };
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

/// Why a request body that streams through broke off.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The client's connection broke, or the body is malformed.
    #[error("the request body broke off")]
    Broken(#[source] hyper::Error),
    /// The client stopped sending.
    #[error("the client stopped sending its request body")]
    Silent,
}

/// A body on its way to an upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// A buffered one.
    Full(Full<Bytes>),
    /// One that streams through.
    Streaming(Streaming),
}

/// A request body that streams through, as long as the client sends.
#[derive(Debug)]
pub struct Streaming {
    body: Incoming,
    /// Runs while the client is being waited for.
    silence: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    breach: Breach,
}

/// Tells that a client did not send its whole body; the error that the upstream's connection reports says less.
#[derive(Clone, Debug, Default)]
pub struct Breach(Arc<AtomicU8>);

const STALLED: u8 = 1;
const BROKEN: u8 = 2;

impl Breach {
    /// What happened, if anything did.
    pub fn error(&self) -> Option<CollectError> {
        match self.0.load(Ordering::Relaxed) {
            STALLED => Some(CollectError::TooSlow),
            BROKEN => Some(CollectError::Broken(None)),
            _ => None,
        }
    }

    fn note(&self, what: u8) {
        self.0.store(what, Ordering::Relaxed);
    }
}

impl Streaming {
    /// Streams `body`; `breach` tells whether the client sent all of it.
    pub fn new(body: Incoming, breach: Breach) -> Streaming {
        Streaming {
            body,
            silence: None,
            waiting: false,
            breach,
        }
    }

    /// Waits for the client until it has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<RequestError> {
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(CLIENT_SILENCE)));
        if !std::mem::replace(&mut self.waiting, true) {
            silence.as_mut().reset(Instant::now() + CLIENT_SILENCE);
        }
        ready!(silence.as_mut().poll(cx));
        self.breach.note(STALLED);
        Poll::Ready(RequestError::Silent)
    }
}

impl Body for Streaming {
    type Data = Bytes;
    type Error = RequestError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            let broken = |error| {
                this.breach.note(BROKEN);
                RequestError::Broken(error)
            };
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        this.poll_silence(cx).map(|error| Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestError>>> {
        match self.get_mut() {
            RequestBody::Full(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            RequestBody::Streaming(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Full(body) => body.is_end_stream(),
            RequestBody::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Full(body) => body.size_hint(),
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
    Full(Full<Bytes>),
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
        ReplyBody::Full(Full::default())
    }
}

impl From<Bytes> for ReplyBody {
    fn from(bytes: Bytes) -> ReplyBody {
        ReplyBody::Full(Full::new(bytes))
    }
}

impl From<Vec<u8>> for ReplyBody {
    fn from(bytes: Vec<u8>) -> ReplyBody {
        ReplyBody::Full(Full::from(bytes))
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
            ReplyBody::Full(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            ReplyBody::Api(body) => Pin::new(body).poll_frame(cx).map_err(|_| ReplyError::Api),
            ReplyBody::Passed(body) => Pin::new(&mut **body).poll_frame(cx),
            ReplyBody::Tapped(relay) => Pin::new(&mut **relay).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Full(body) => body.is_end_stream(),
            ReplyBody::Api(body) => body.is_end_stream(),
            ReplyBody::Passed(body) => body.is_end_stream(),
            ReplyBody::Tapped(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Full(body) => body.size_hint(),
            ReplyBody::Api(body) => body.size_hint(),
            ReplyBody::Passed(body) => body.size_hint(),
            ReplyBody::Tapped(relay) => relay.size_hint(),
        }
    }
}
