//! The frames of a WebSocket (RFC 6455 section 5), read as they pass in any portions.
//!
//! In come the bytes of one direction; out come `Part`s, which cover every byte in its order and say what it
//! belongs to. Nothing is kept but the head of a frame that has not come whole. Who wants whole messages puts the
//! parts together, within a limit of their own. Invariant: the parts do not depend on how the bytes were cut, but
//! for their borders. Also here: the two frames that the gateway itself sends.

/// Longest payload of a control frame.
const CONTROL_LIMIT: u64 = 125;
/// Longest head: two bytes, a long length and a mask.
const HEAD: usize = 14;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of a message.
    Continuation,
    /// A message of text, or its beginning.
    Text,
    /// A message of bytes, or its beginning.
    Binary,
    /// The end of the socket.
    Close,
    /// A sign of life is asked for.
    Ping,
    /// A sign of life.
    Pong,
}

impl Opcode {
    fn of(first: u8) -> Option<Opcode> {
        match first & 0x0f {
            0 => Some(Opcode::Continuation),
            1 => Some(Opcode::Text),
            2 => Some(Opcode::Binary),
            8 => Some(Opcode::Close),
            9 => Some(Opcode::Ping),
            10 => Some(Opcode::Pong),
            _ => None,
        }
    }

    /// Whether such a frame may come between those of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// Why bytes are no frames. Nothing after that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A bit that only an extension gives a meaning.
    #[error("a frame uses an extension that was not agreed on")]
    Reserved,
    /// An opcode that the protocol does not define.
    #[error("a frame is of an unknown sort")]
    UnknownOpcode,
    /// A message begins inside another, or goes on without having begun.
    #[error("the frames of a message are out of order")]
    OutOfOrder,
    /// A control frame is fragmented or too long.
    #[error("a control frame is not whole and short")]
    BadControl,
    /// A length of 2^63 bytes or more.
    #[error("a frame is longer than any may be")]
    TooLong,
}

/// Some bytes of one frame.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// What the frame is.
    pub opcode: Opcode,
    /// The bytes as they stand on the wire.
    pub wire: &'a [u8],
    /// Whether they are the frame's first.
    pub begins: bool,
    /// Whether they are the frame's last.
    pub ends: bool,
    /// Whether the frame is its message's last. Control frames always are.
    pub is_final: bool,
    /// Bytes of the payload that follow in other parts; 0 while the head is not whole.
    pub left: u64,
    payload: &'a [u8],
    mask: u32,
}

impl<'a> Part<'a> {
    /// Whether a message ends with it.
    #[must_use]
    pub fn ends_message(&self) -> bool {
        self.ends && self.is_final && !self.opcode.is_control()
    }

    /// The payload, if it is readable as it stands.
    #[must_use]
    pub fn clear(&self) -> Option<&'a [u8]> {
        (self.mask == 0).then_some(self.payload)
    }

    /// Appends the payload without its mask.
    pub fn unmask_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.payload);
        if self.mask != 0 {
            unmask(out.get_mut(start..).unwrap_or_default(), self.mask);
        }
    }

    /// Bytes of the payload in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether no payload is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }
}

/// Reads the frames of one direction.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; HEAD],
    /// How much of `head` has come.
    filled: usize,
    /// The frame whose head has come whole.
    frame: Option<Frame>,
    /// A message has begun and its last frame has not ended.
    in_message: bool,
    broken: Option<FrameError>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    left: u64,
    /// For the next byte of the payload first.
    mask: u32,
}

impl Frames {
    /// Whether the bytes so far end where a message could begin.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.broken.is_none() && !self.in_message && self.frame.is_none() && self.filled == 0
    }

    /// Takes the next part off the front of `bytes`; none if there are no bytes left.
    ///
    /// # Errors
    /// The bytes are no frames. They stay so.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Part<'a>>, FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let part = self.read(bytes);
        self.broken = part.err();
        part
    }

    fn read<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Part<'a>>, FrameError> {
        let Some(next) = bytes.first() else {
            return Ok(None);
        };
        let begins = self.frame.is_none() && self.filled == 0;
        let head = if self.frame.is_none() {
            self.read_head(bytes)?
        } else {
            0
        };
        let Some(frame) = &mut self.frame else {
            // No frame yet: all that there was is part of its head.
            let first = if begins { *next } else { self.head[0] };
            return Ok(Some(Part {
                opcode: Opcode::of(first).ok_or(FrameError::UnknownOpcode)?,
                wire: std::mem::take(bytes),
                begins,
                ends: false,
                is_final: first & 0x80 != 0,
                left: 0,
                payload: &[],
                mask: 0,
            }));
        };
        let room = bytes.len().saturating_sub(head);
        let taken = usize::try_from(frame.left).map_or(room, |left| left.min(room));
        let (wire, rest) = bytes.split_at_checked(head + taken).unwrap_or((bytes, &[]));
        *bytes = rest;
        let mask = frame.mask;
        frame.left -= taken as u64;
        frame.mask = turn(mask, taken);
        let part = Part {
            opcode: frame.opcode,
            wire,
            begins,
            ends: frame.left == 0,
            is_final: frame.is_final,
            left: frame.left,
            payload: wire.get(head..).unwrap_or_default(),
            mask,
        };
        if part.ends {
            self.frame = None;
            if !part.opcode.is_control() {
                self.in_message = !part.is_final;
            }
        }
        Ok(Some(part))
    }

    /// Reads as much of a head as there is; returns how many bytes that was.
    fn read_head(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let mut taken = 0;
        for byte in bytes {
            taken += 1;
            if let Some(slot) = self.head.get_mut(self.filled) {
                *slot = *byte;
            }
            self.filled += 1;
            self.check()?;
            if self.filled >= 2 && self.filled == self.head_length() {
                self.frame = Some(self.frame()?);
                self.filled = 0;
                break;
            }
        }
        Ok(taken)
    }

    /// Looks at the byte that has just come.
    fn check(&self) -> Result<(), FrameError> {
        let [first, second, ..] = self.head;
        let opcode = Opcode::of(first).ok_or(FrameError::UnknownOpcode)?;
        match self.filled {
            1 if first & 0x70 != 0 => Err(FrameError::Reserved),
            1 if opcode.is_control() && first & 0x80 == 0 => Err(FrameError::BadControl),
            1 if !opcode.is_control() && self.in_message != (opcode == Opcode::Continuation) => {
                Err(FrameError::OutOfOrder)
            }
            2 if opcode.is_control() && u64::from(second & 0x7f) > CONTROL_LIMIT => {
                Err(FrameError::BadControl)
            }
            _ => Ok(()),
        }
    }

    fn head_length(&self) -> usize {
        let [_, second, ..] = self.head;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        mask + match second & 0x7f {
            127 => 10,
            126 => 4,
            _ => 2,
        }
    }

    fn frame(&self) -> Result<Frame, FrameError> {
        let [first, second, a, b, c, d, e, f, g, h, ..] = self.head;
        let left = match second & 0x7f {
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            126 => u64::from(u16::from_be_bytes([a, b])),
            short => u64::from(short),
        };
        if left >> 63 != 0 {
            return Err(FrameError::TooLong);
        }
        let mask = match (second & 0x80, self.head.get(..self.filled)) {
            (0, _) | (_, None) => 0,
            (_, Some(head)) => head.last_chunk::<4>().map_or(0, |mask| u32::from_le_bytes(*mask)),
        };
        Ok(Frame {
            opcode: Opcode::of(first).ok_or(FrameError::UnknownOpcode)?,
            is_final: first & 0x80 != 0,
            left,
            mask,
        })
    }
}

/// The payload of a message whose frames are all in `wire`.
#[must_use]
pub fn payload(mut wire: &[u8]) -> Vec<u8> {
    let mut frames = Frames::default();
    let mut out = Vec::with_capacity(wire.len());
    while let Ok(Some(part)) = frames.next(&mut wire) {
        part.unmask_into(&mut out);
    }
    out
}

/// The code and reason of a close frame's payload.
#[must_use]
pub fn closing(payload: &[u8]) -> (Option<u16>, String) {
    match payload {
        [high, low, reason @ ..] => (
            Some(u16::from_be_bytes([*high, *low])),
            String::from_utf8_lossy(reason).into_owned(),
        ),
        _ => (None, String::new()),
    }
}

/// A message of text as a server sends it.
#[must_use]
pub fn text(payload: &[u8]) -> Vec<u8> {
    server_frame(0x81, payload)
}

/// The end of a socket as a server sends it. The reason is at most 123 bytes long.
#[must_use]
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    server_frame(0x88, &payload)
}

fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(long)) => {
            frame.push(126);
            frame.extend_from_slice(&long.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The mask as it stands after so many bytes.
fn turn(mask: u32, bytes: usize) -> u32 {
    mask.rotate_right((bytes % 4) as u32 * 8)
}

fn unmask(bytes: &mut [u8], mask: u32) {
    let wide = u64::from(mask) | u64::from(mask) << 32;
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_le_bytes(*word) ^ wide).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
