//! From the client to the provider: whole messages, each call on record before it goes on.
//!
//! In come the client's bytes. A message is held until it has come whole, within the limit of a request's body,
//! because a call that is refused must not have left in part; then it goes on as it stood on the wire. Pings and
//! pongs do not wait for it. Invariants: no call goes upstream without a record, and what cannot be read goes
//! nowhere: too long a message is answered by an error event, bytes that are no frames end the socket.

use std::future::pending;
use std::io;

use bytes::Bytes;
use providers::{Asked, ClientEvent};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::caller::Arrival;
use super::down::Word;
use super::frames::{self, FrameError, Frames, Opcode, Part};
use super::relay::{End, Shared};
use crate::body::CollectError;
use crate::record::Recording;
use crate::refusal::Refusal;

/// The direction from the client to the provider.
pub(super) struct Up<'a, R, W> {
    client: &'a mut R,
    upstream: &'a mut W,
    shared: &'a Shared<'a>,
    words: mpsc::Sender<Word>,
    frames: Frames,
    /// A control frame that has not come whole.
    control: Vec<u8>,
    message: Message,
}

/// A message that has not come whole, as it stands on the wire.
#[derive(Debug, Default)]
struct Message {
    wire: Vec<u8>,
    arrival: Option<Arrival>,
    /// It is too long; what comes of it is dropped.
    dropped: bool,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Up<'a, R, W> {
    pub(super) fn new(
        client: &'a mut R,
        upstream: &'a mut W,
        shared: &'a Shared<'a>,
        words: mpsc::Sender<Word>,
    ) -> Up<'a, R, W> {
        Up {
            client,
            upstream,
            shared,
            words,
            frames: Frames::default(),
            control: Vec::new(),
            message: Message::default(),
        }
    }

    /// Carries messages until the client has ended.
    ///
    /// # Errors
    /// The socket is over for both directions.
    pub(super) async fn run(mut self) -> Result<(), End> {
        loop {
            let chunk = self.shared.read(self.client).await.map_err(|_| End::Client)?;
            if chunk.is_empty() {
                break;
            }
            let mut rest = chunk.as_slice();
            loop {
                match self.frames.next(&mut rest) {
                    Ok(None) => break,
                    Ok(Some(part)) => self.take(&part).await?,
                    Err(error) => return self.unreadable(error).await,
                }
            }
            self.upstream.flush().await.map_err(broken)?;
        }
        self.shared.end_calls(&End::Client).await;
        self.upstream.shutdown().await.map_err(broken)
    }

    async fn take(&mut self, part: &Part<'_>) -> Result<(), End> {
        if !part.opcode.is_control() {
            return self.gather(part).await;
        }
        self.control.extend_from_slice(part.wire);
        if !part.ends {
            return Ok(());
        }
        if part.opcode == Opcode::Close {
            self.shared.end_calls(&End::Client).await;
        }
        let frame = std::mem::take(&mut self.control);
        self.upstream.write_all(&frame).await.map_err(broken)
    }

    async fn gather(&mut self, part: &Part<'_>) -> Result<(), End> {
        if part.begins && part.opcode != Opcode::Continuation {
            self.message = Message {
                arrival: Some(self.shared.caller.arrival()),
                ..Message::default()
            };
        }
        if !self.message.dropped {
            self.message.wire.extend_from_slice(part.wire);
            let left = usize::try_from(part.left).unwrap_or(usize::MAX);
            let limit = self.shared.caller.app.snapshot().config.max_body;
            if self.message.wire.len().saturating_add(left) > limit {
                self.message.dropped = true;
                self.message.wire = Vec::new();
                self.refuse(&Refusal::Body(CollectError::TooLong { limit }), None)
                    .await;
            }
        }
        if !part.ends_message() || self.message.dropped {
            return Ok(());
        }
        let message = std::mem::take(&mut self.message);
        let arrival = message.arrival.unwrap_or_else(|| self.shared.caller.arrival());
        self.judge(message.wire, arrival).await
    }

    /// Decides on a message that has come whole.
    async fn judge(&mut self, wire: Vec<u8>, arrival: Arrival) -> Result<(), End> {
        let payload = Bytes::from(frames::payload(&wire));
        let event = providers::client_event(&payload);
        match event.asked {
            Asked::Other => {}
            Asked::Cancel => self.shared.calls().cancel(&event),
            Asked::Steer => {
                let inspection = self.shared.caller.inspect(&payload);
                self.shared.calls().steer(event.lane.as_deref(), inspection);
            }
            Asked::Create => {
                if let Err(refusal) = self.call(&event, &payload, arrival).await {
                    self.refuse(&refusal, event.lane.as_deref()).await;
                    return Ok(());
                }
            }
        }
        self.upstream.write_all(&wire).await.map_err(broken)
    }

    /// Admits a call and puts it on record.
    async fn call(
        &mut self,
        event: &ClientEvent<'_>,
        payload: &Bytes,
        arrival: Arrival,
    ) -> Result<(), Refusal> {
        if self.shared.stopping.is_cancelled() {
            // It would be cut off. The client is about to hear that the socket ends, and calls elsewhere.
            pending::<()>().await;
        }
        let caller = &self.shared.caller;
        let asked = caller.inspect(payload);
        let open = self.shared.calls().len();
        caller.admit(&asked, open)?;
        let (warm_up, model) = (asked.warm_up, asked.model.clone());
        let recording: Option<Recording> = match warm_up {
            true => None,
            false => Some(caller.record(asked, arrival, payload.clone()).await?),
        };
        let lane = event.lane.as_deref();
        self.shared.calls().begin(lane, model.as_deref(), recording);
        Ok(())
    }

    async fn refuse(&mut self, refusal: &Refusal, lane: Option<&str>) {
        let event = self.shared.caller.refuse(refusal, lane);
        // Nobody listens any more where this fails.
        let _ = self.words.send(Word::event(&event)).await;
    }

    /// Has the client told, and waits for the end that follows.
    async fn unreadable(&mut self, error: FrameError) -> Result<(), End> {
        let _ = self.words.send(Word::protocol_error(&error.to_string())).await;
        pending().await
    }
}

/// The upstream is not there any more.
fn broken(_: io::Error) -> End {
    End::Broken
}
