//! What the fake provider answers: a status, headers and a body of frames, each of which may wait for the
//! test's permit.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame};
use tokio::sync::{Semaphore, mpsc};

/// What the fake answers on a path.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    frames: Vec<Bytes>,
    gate: Option<Gate>,
    head: Option<Arc<Semaphore>>,
}

impl Reply {
    /// A JSON body with its length.
    pub(crate) fn json(body: &'static [u8]) -> Self {
        Self::of("application/json", body)
    }

    /// A body of some type, in one piece.
    pub(crate) fn of(content_type: &'static str, body: &'static [u8]) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", content_type)],
            frames: vec![Bytes::from_static(body)],
            gate: None,
            head: None,
        }
    }

    /// A stream of events, one frame for each.
    pub(crate) fn sse(body: &'static [u8]) -> Self {
        let headers = vec![
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
        ];
        Self {
            status: 200,
            headers,
            frames: events(body),
            gate: None,
            head: None,
        }
    }

    /// A stream of events in one piece, under a content encoding.
    pub(crate) fn encoded(body: Vec<u8>, encoding: &'static str) -> Self {
        let headers = vec![
            ("content-type", "text/event-stream"),
            ("content-encoding", encoding),
        ];
        Self {
            status: 200,
            headers,
            frames: vec![body.into()],
            gate: None,
            head: None,
        }
    }

    /// With another status.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With the first `count` frames as one.
    pub(crate) fn together(mut self, count: usize) -> Self {
        let first: Vec<u8> = self.frames.drain(..count).flatten().collect();
        self.frames.insert(0, first.into());
        self
    }

    /// Held back: after the first frame, each waits for the gate.
    pub(crate) fn gated(mut self) -> (Self, Gate) {
        let gate = Gate {
            permits: Arc::new(Semaphore::new(0)),
            sent: Arc::default(),
            over: Arc::default(),
        };
        self.gate = Some(gate.clone());
        (self, gate)
    }

    /// Without a head until the semaphore has a permit for it.
    pub(crate) fn held(mut self) -> (Self, Arc<Semaphore>) {
        let head = Arc::new(Semaphore::new(0));
        self.head = Some(Arc::clone(&head));
        (self, head)
    }

    pub(super) async fn wait_for_its_head(&self) {
        if let Some(head) = &self.head {
            head.acquire().await.unwrap().forget();
        }
    }

    /// The body's frames.
    pub(crate) fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    /// The reply on the wire.
    pub(super) fn response(self) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(*name, *value);
        }
        let body = match (self.gate, <[Bytes; 1]>::try_from(self.frames)) {
            (None, Ok([whole])) => Full::new(whole).boxed_unsync(),
            (gate, Ok(frame)) => paced(frame.into(), gate),
            (gate, Err(frames)) => paced(frames, gate),
        };
        response.body(body).unwrap()
    }
}

/// Lets the frames of a reply out one by one.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    sent: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Gate {
    /// Lets one more frame out.
    pub(crate) fn let_one_out(&self) {
        self.permits.add_permits(1);
    }

    /// Waits for its turn, unless it is the first.
    async fn pass(&self, index: usize) {
        if index > 0 {
            self.permits.acquire().await.unwrap().forget();
        }
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether nobody reads the reply any more: it has ended, or its reader has left.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// How many frames have been let out so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

/// A body whose frames are sent by a task of their own.
struct Paced {
    frames: mpsc::Receiver<Bytes>,
    over: Option<Arc<AtomicBool>>,
}

impl Drop for Paced {
    fn drop(&mut self) {
        if let Some(over) = &self.over {
            over.store(true, Ordering::SeqCst);
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames
            .poll_recv(context)
            .map(|frame| frame.map(|data| Ok(Frame::data(data))))
    }
}

fn paced(frames: Vec<Bytes>, gate: Option<Gate>) -> UnsyncBoxBody<Bytes, Infallible> {
    let (sender, receiver) = mpsc::channel(1);
    let over = gate.clone().map(|gate| gate.over);
    tokio::spawn(async move {
        for (index, frame) in frames.into_iter().enumerate() {
            if let Some(gate) = &gate {
                gate.pass(index).await;
            }
            if sender.send(frame).await.is_err() {
                // The client has left.
                return;
            }
        }
    });
    let paced = Paced {
        frames: receiver,
        over,
    };
    paced.boxed_unsync()
}

/// Cuts a stream's text after each blank line.
fn events(body: &'static [u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\n\n") {
        let (event, after) = rest.split_at(at + 2);
        frames.push(Bytes::from_static(event));
        rest = after;
    }
    assert!(rest.is_empty(), "the fixture ends with a whole event");
    frames
}
