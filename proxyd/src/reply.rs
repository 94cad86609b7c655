//! What the proxy port answers with: words of its own, or a forwarded reply as it streams by.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::task::{AbortHandle, JoinHandle};

use crate::slots::Slot;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// One made here.
    Own(Option<Bytes>),
    /// A host's.
    Forwarded(Box<Forwarded>),
}

/// A host's reply with what must live as long.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) body: Incoming,
    /// A client that leaves ends the request.
    pub(crate) _connection: EndOnDrop,
    pub(crate) _slot: Slot,
}

impl Reply {
    /// A body with nothing in it.
    pub(crate) fn empty() -> Reply {
        Reply::Own(None)
    }

    /// A whole answer.
    pub(crate) fn text(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Reply> {
        let mut response = Response::new(Reply::Own(Some(bytes.into())));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Reply::Own(bytes) => Poll::Ready(
                bytes
                    .take()
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| Ok(Frame::data(bytes))),
            ),
            Reply::Forwarded(reply) => Pin::new(&mut reply.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Reply::Forwarded(reply) => reply.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Reply::Forwarded(reply) => reply.body.size_hint(),
        }
    }
}

/// Ends a task when dropped.
#[derive(Debug)]
pub(crate) struct EndOnDrop(AbortHandle);

impl<T> From<JoinHandle<T>> for EndOnDrop {
    fn from(task: JoinHandle<T>) -> EndOnDrop {
        EndOnDrop(task.abort_handle())
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
