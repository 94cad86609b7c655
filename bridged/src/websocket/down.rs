//! From the provider to the client: every byte as it came, with the records' ends beside it.
//!
//! In come the provider's bytes; they go on at once, but for those with which a response ends: in strict durability
//! these wait until the record's end is committed, and so does what comes behind them, because the order of a
//! socket's bytes is part of what they say. Between two messages of the provider's the gateway may put a word of
//! its own. Bytes that are no frames end the reading of frames, not the relay.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::calls::{Commit, Observed, lane_of};
use super::frames::{self, Frames, Opcode, Part};
use super::relay::{End, Shared, committed};

/// Bytes of one message that are read; of a longer one only so much.
const MESSAGE: usize = 16 << 20;

/// What the gateway itself says to a client.
#[derive(Debug)]
pub(super) struct Word {
    frame: Vec<u8>,
    /// The socket is over with it.
    end: Option<End>,
}

impl Word {
    /// A message.
    pub(super) fn event(text: &[u8]) -> Word {
        Word {
            frame: frames::text(text),
            end: None,
        }
    }

    /// The end, because the process is to end.
    pub(super) fn going_away() -> Word {
        Word {
            frame: frames::close(1001, "the gateway is going away"),
            end: Some(End::Stopping),
        }
    }

    /// The end, because what the client sent is no frame.
    pub(super) fn protocol_error(error: &str) -> Word {
        Word {
            frame: frames::close(1002, error),
            end: Some(End::Unreadable),
        }
    }
}

/// The direction from the provider to the client.
pub(super) struct Down<'a, R, W> {
    upstream: &'a mut R,
    client: &'a mut W,
    shared: &'a Shared<'a>,
    words: mpsc::Receiver<Word>,
    frames: Frames,
    gathered: Gathered,
    readable: bool,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Down<'a, R, W> {
    pub(super) fn new(
        upstream: &'a mut R,
        client: &'a mut W,
        shared: &'a Shared<'a>,
        words: mpsc::Receiver<Word>,
    ) -> Down<'a, R, W> {
        Down {
            upstream,
            client,
            shared,
            words,
            frames: Frames::default(),
            gathered: Gathered::default(),
            readable: true,
        }
    }

    /// Carries bytes until the provider has ended.
    ///
    /// # Errors
    /// The socket is over for both directions.
    pub(super) async fn run(mut self) -> Result<(), End> {
        loop {
            tokio::select! {
                biased;
                Some(word) = self.words.recv(), if self.may_speak() => self.say(word).await?,
                chunk = self.shared.read(self.upstream) => {
                    let chunk = chunk.map_err(|_| End::Broken)?;
                    if chunk.is_empty() {
                        break;
                    }
                    self.pass(&chunk).await?;
                }
            }
        }
        self.shared.end_calls(&End::Upstream(None, String::new())).await;
        self.client.shutdown().await.map_err(gone)
    }

    /// Whether a message of the gateway's own would stand between two of the provider's. Where that cannot be told
    /// any more, it is not said but ends the socket.
    fn may_speak(&self) -> bool {
        !self.readable || self.frames.is_between_messages()
    }

    async fn say(&mut self, word: Word) -> Result<(), End> {
        if !self.readable {
            return Err(word.end.unwrap_or(End::Broken));
        }
        self.client.write_all(&word.frame).await.map_err(gone)?;
        self.client.flush().await.map_err(gone)?;
        word.end.map_or(Ok(()), Err)
    }

    /// Hands a chunk on; where responses end in it, in pieces.
    async fn pass(&mut self, chunk: &[u8]) -> Result<(), End> {
        let (mut sent, mut rest) = (0, chunk);
        while self.readable {
            let before = chunk.len() - rest.len();
            let part = match self.frames.next(&mut rest) {
                Ok(Some(part)) => part,
                Ok(None) => break,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        "an upstream's frames cannot be read; the socket is not recorded further"
                    );
                    self.readable = false;
                    break;
                }
            };
            let commits = self.observe(&part).await;
            if !commits.is_empty() {
                self.write(chunk.get(sent..before)).await?;
                sent = before;
                committed(commits).await;
            }
        }
        self.write(chunk.get(sent..)).await
    }

    /// Reads a part; returns the commits that its bytes are to wait for.
    async fn observe(&mut self, part: &Part<'_>) -> Vec<Commit> {
        let Some(message) = self.gathered.whole(part) else {
            return Vec::new();
        };
        if part.opcode == Opcode::Close {
            let (code, reason) = frames::closing(message);
            return self.shared.calls().end_all(&End::Upstream(code, reason));
        }
        let Observed { mut commits, unasked } = self.shared.calls().observe(message);
        if unasked {
            begin_unasked(self.shared, message).await;
            commits.extend(self.shared.calls().observe(message).commits);
        }
        commits
    }

    async fn write(&mut self, bytes: Option<&[u8]>) -> Result<(), End> {
        let Some(bytes @ [_, ..]) = bytes else {
            return Ok(());
        };
        self.client.write_all(bytes).await.map_err(gone)?;
        self.client.flush().await.map_err(gone)
    }
}

/// Puts a response on record that the provider begins by itself, in answer to input that the client has added.
async fn begin_unasked(shared: &Shared<'_>, message: &[u8]) {
    let (caller, lane) = (&shared.caller, lane_of(message));
    let asked = shared.calls().unasked(lane.as_deref());
    let model = asked.model.clone();
    // It cannot be refused any more. Where it cannot be recorded, that is counted.
    if let Ok(recording) = caller.record_unasked(asked).await {
        shared
            .calls()
            .begin(lane.as_deref(), model.as_deref(), Some(recording));
    }
}

/// The client is not there any more.
fn gone(_: io::Error) -> End {
    End::Client
}

/// A message whose bytes come in several parts.
#[derive(Debug, Default)]
struct Gathered {
    message: Vec<u8>,
    control: Vec<u8>,
}

impl Gathered {
    /// The payload of the message or the close frame that ends with `part`, or as much of it as is read.
    fn whole<'b>(&'b mut self, part: &Part<'b>) -> Option<&'b [u8]> {
        let is_close = part.opcode == Opcode::Close;
        if part.opcode.is_control() && !is_close {
            return None;
        }
        let buffer = if is_close {
            &mut self.control
        } else {
            &mut self.message
        };
        if part.begins && part.opcode != Opcode::Continuation {
            *buffer = Vec::new();
            if let Some(payload) = part.clear().filter(|_| part.ends && part.is_final) {
                // Most messages come in one piece and are not copied.
                return Some(payload);
            }
        }
        if buffer.len().saturating_add(part.len()) <= MESSAGE {
            part.unmask_into(buffer);
        }
        (part.ends && part.is_final).then_some(buffer.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_gathered_from_its_frames_around_others() {
        let mut wire = [
            &[0x01, 0x03][..],
            b"one",
            &[0x89, 0x02],
            b"hi",
            &[0x80, 0x04],
            b", tw",
            &[0x82, 0x01],
            b"o",
            &[0x88, 0x02, 0x03, 0xe8],
        ]
        .concat();
        wire.extend(frames::text(&vec![b'x'; 70_000]));
        for size in [1, 2, 3, 7, 1000, wire.len()] {
            let (mut frames, mut gathered, mut whole) = (Frames::default(), Gathered::default(), Vec::new());
            for mut chunk in wire.chunks(size) {
                while let Some(part) = frames.next(&mut chunk).unwrap() {
                    whole.extend(gathered.whole(&part).map(<[u8]>::to_vec));
                }
            }
            let want = [&b"one, tw"[..], b"o", &[0x03, 0xe8], &vec![b'x'; 70_000]];
            assert_eq!(whole, want, "in portions of {size}");
        }
    }
}
