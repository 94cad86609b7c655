//! An upstream's reply body. It holds its connection and gives it back once it has ended; dropped before that,
//! it cancels the reply upstream (HTTP/2: reset of the stream; HTTP/1.1: the connection is closed).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::InFlight;
use super::dial::Http1Sender;
use super::pool::Lease;
use crate::body::ReplyError;

/// An upstream's reply body.
#[derive(Debug)]
pub struct UpstreamBody(Source, Option<InFlight>);

#[derive(Debug)]
enum Source {
    Network {
        body: Incoming,
        lease: Option<Lease>,
    },
    /// On a connection of its own, which ends with the reply.
    Alone {
        body: Incoming,
        _sender: Http1Sender,
    },
    Simulated {
        frames: VecDeque<Bytes>,
        pause: bool,
    },
}

impl UpstreamBody {
    pub(super) fn network(body: Incoming, lease: Lease) -> UpstreamBody {
        let source = Source::Network {
            body,
            lease: Some(lease),
        };
        let mut body = UpstreamBody(source, None);
        body.release_at_end();
        body
    }

    pub(super) fn alone(body: Incoming, sender: Http1Sender) -> UpstreamBody {
        let source = Source::Alone {
            body,
            _sender: sender,
        };
        UpstreamBody(source, None)
    }

    /// Counts the reply as under way until it is dropped.
    pub(super) fn counted(mut self, in_flight: InFlight) -> UpstreamBody {
        self.1 = Some(in_flight);
        self
    }

    pub(super) fn simulated(frames: Vec<Bytes>) -> UpstreamBody {
        let source = Source::Simulated {
            frames: frames.into(),
            pause: false,
        };
        UpstreamBody(source, None)
    }

    fn release_at_end(&mut self) {
        if let Source::Network { body, lease } = &mut self.0
            && body.is_end_stream()
            && let Some(lease) = lease.take()
        {
            lease.release();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let frame = match &mut self.0 {
            Source::Network { body, lease } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                // After trailers nobody need ask again.
                let ended = match &frame {
                    None => true,
                    Some(Ok(frame)) => frame.is_trailers(),
                    Some(Err(_)) => false,
                };
                if ended && let Some(lease) = lease.take() {
                    lease.release();
                }
                frame.map(|frame| frame.map_err(ReplyError::Upstream))
            }
            Source::Alone { body, .. } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                frame.map(|frame| frame.map_err(ReplyError::Upstream))
            }
            Source::Simulated { frames, pause } => {
                // Each frame is a wake-up of its own, as it is when it comes from a network.
                *pause = !*pause;
                if *pause {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                frames.pop_front().map(|frame| Ok(Frame::data(frame)))
            }
        };
        self.release_at_end();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Network { body, .. } | Source::Alone { body, .. } => body.is_end_stream(),
            Source::Simulated { frames, .. } => frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Network { body, .. } | Source::Alone { body, .. } => body.size_hint(),
            Source::Simulated { frames, .. } => match frames.front() {
                Some(only) if frames.len() == 1 => SizeHint::with_exact(only.len() as u64),
                // A stream, whose length no real provider knows either.
                _ => SizeHint::default(),
            },
        }
    }
}
