//! Strict HTTP/1 framing: reads along with the bytes of a connection and stops at the first that is unsound.
//!
//! In come a client's bytes in any portions; out comes nothing, or the place and kind of a fault. Bodies are
//! skipped by `Content-Length` or chunk by chunk, only to find the next head. Invariants: the verdict does not
//! depend on how the bytes are portioned; a fault is found before the head that has it is complete, so that a
//! parser which gets only what comes before the fault never sees a whole head.
//!
//! Two readers of one request must never disagree where it ends (RFC 9112 section 11.2), so what they could read
//! differently is refused here, although hyper would settle it in one way or the other.

mod head;

use head::{Field, Framing, Head};

/// What is unsound about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the request line is malformed")]
    RequestLine,
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    #[error("CONNECT is for the proxy port only")]
    Connect,
    #[error("a line does not end with CR LF")]
    LineEnd,
    #[error("a control character stands in a field")]
    Control,
    #[error("a field name is malformed, or white space follows it")]
    Name,
    #[error("a field is folded over two lines")]
    Fold,
    #[error("Content-Length is not one plain number")]
    Length,
    #[error("Content-Length and Transfer-Encoding stand together")]
    LengthAndCoding,
    #[error("Transfer-Encoding is not exactly `chunked`")]
    Coding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    #[error("Host is missing")]
    HostMissing,
    #[error("Host stands there twice")]
    HostRepeated,
    #[error("a chunk is malformed")]
    Chunk,
    #[error("a framing field stands in the trailers")]
    Trailer,
}

/// Where a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Bytes of the portion that come before the fault.
    pub(crate) at: usize,
    /// What it is.
    pub(crate) fault: Fault,
    /// Whether it is in a head, rather than in a body.
    pub(crate) in_head: bool,
}

/// Reads along with one connection.
#[derive(Clone, Debug)]
pub(crate) struct Inspector {
    state: State,
    head: Head,
    heads: u64,
    connects: Connects,
}

/// What becomes of CONNECT requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connects {
    /// They are judged, and what follows them waits for the verdict: see `Inspector::awaits_verdict`.
    Judge,
    /// There is nothing to connect to.
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a request line, after so many empty lines.
    Start(u8),
    StartLf(u8),
    Method,
    /// After so many bytes of the target.
    Target(usize),
    Version,
    FieldStart(Section),
    Name(Section),
    /// Before a value's first byte.
    Space(Section),
    Value(Section),
    /// At the LF of a line; false for the request line.
    LineLf {
        section: Section,
        field: bool,
    },
    EndLf(Section),
    Body(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    ChunkExtension(u64),
    ChunkSizeLf(u64),
    ChunkData(u64),
    ChunkDataCr,
    ChunkDataLf,
    /// After a CONNECT: what follows is HTTP only if it is refused.
    Verdict,
    Failed(Fault),
}

/// Where fields stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Head,
    Trailers,
}

/// Longest request target, in bytes; hyper's URIs have room for little more.
pub(super) const TARGET: usize = 48 << 10;
/// Empty lines allowed before a request line (RFC 9112 section 2.2 wants at least one).
const BLANK_LINES: u8 = 2;
/// Digits of a chunk's size: enough for a `u64`.
const CHUNK_DIGITS: u8 = 16;

impl Inspector {
    /// At the beginning of a connection.
    pub(crate) fn new(connects: Connects) -> Inspector {
        Inspector {
            state: State::Start(0),
            head: Head::default(),
            heads: 0,
            connects,
        }
    }

    /// Reads the next portion and says how far: less than all of it only where a verdict is awaited. After a fault
    /// every portion is at fault from its first byte.
    ///
    /// # Errors
    /// A byte is unsound.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let mut at = 0;
        while let Some((first, rest)) = bytes.get(at..).and_then(<[u8]>::split_first) {
            if self.awaits_verdict() {
                break;
            }
            match self.step(*first, rest) {
                Ok(used) => at += used,
                Err(fault) => {
                    let in_head = self.in_head() || matches!(self.state, State::Start(_));
                    self.state = State::Failed(fault);
                    return Err(Stop { at, fault, in_head });
                }
            }
        }
        Ok(at)
    }

    /// The number of the head that has begun and not ended, if there is one.
    pub(crate) fn open_head(&self) -> Option<u64> {
        self.in_head().then_some(self.heads)
    }

    /// Whether the last byte read was the last of a request.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.state == State::Start(0)
    }

    /// Whether the last byte read was the last of a CONNECT's head that nobody has judged yet.
    pub(crate) fn awaits_verdict(&self) -> bool {
        self.state == State::Verdict
    }

    /// The CONNECT is refused: what follows is the next request.
    pub(crate) fn refuse_connect(&mut self) {
        self.state = State::Start(0);
    }

    fn in_head(&self) -> bool {
        match self.state {
            State::Start(blank) => blank > 0,
            State::StartLf(_) | State::Method | State::Target(_) | State::Version => true,
            State::FieldStart(section)
            | State::Name(section)
            | State::Space(section)
            | State::Value(section)
            | State::LineLf { section, .. }
            | State::EndLf(section) => section == Section::Head,
            _ => false,
        }
    }

    /// Takes a run of bytes that `first` begins, and says how long it is; a fault is always at `first`.
    fn step(&mut self, first: u8, rest: &[u8]) -> Result<usize, Fault> {
        match self.state {
            State::Start(_) | State::StartLf(_) | State::Method | State::Target(_) | State::Version => {
                self.request_line(first, rest)
            }
            State::FieldStart(section)
            | State::Name(section)
            | State::Space(section)
            | State::Value(section)
            | State::LineLf { section, .. }
            | State::EndLf(section) => self.fields(section, first, rest),
            State::Failed(fault) => Err(fault),
            _ => self.body(first, rest),
        }
    }

    fn request_line(&mut self, first: u8, rest: &[u8]) -> Result<usize, Fault> {
        match self.state {
            State::Start(blank) => {
                if blank == 0 {
                    self.heads += 1;
                }
                self.state = match first {
                    b'\r' if blank < BLANK_LINES => State::StartLf(blank + 1),
                    b'\n' => return Err(Fault::LineEnd),
                    _ => {
                        self.head = Head::default();
                        State::Method
                    }
                };
                Ok(usize::from(self.state != State::Method))
            }
            State::StartLf(blank) => self.line_feed(first, State::Start(blank)),
            State::Method => {
                let run = run(first, rest, is_token);
                if run > 0 {
                    self.head.token.take(first, rest, run);
                    return Ok(run);
                }
                if first != b' ' || self.head.token.length == 0 {
                    return Err(Fault::RequestLine);
                }
                if self.head.token.is(b"connect") {
                    if self.connects == Connects::Refuse {
                        return Err(Fault::Connect);
                    }
                    self.head.connect = true;
                }
                self.state = State::Target(0);
                Ok(1)
            }
            State::Target(length) => {
                let run = run(first, rest, |byte| byte > b' ' && byte != 0x7f);
                if run > 0 {
                    // Up to the limit only, so that the fault is at the same byte however they come.
                    let run = run.min(TARGET - length);
                    if run == 0 {
                        return Err(Fault::TargetTooLong);
                    }
                    self.state = State::Target(length + run);
                    return Ok(run);
                }
                if first != b' ' || length == 0 {
                    return Err(Fault::RequestLine);
                }
                self.head.token.clear();
                self.state = State::Version;
                Ok(1)
            }
            _ => self.version(first, rest),
        }
    }

    fn version(&mut self, first: u8, rest: &[u8]) -> Result<usize, Fault> {
        let run = run(first, rest, |byte| byte.is_ascii_graphic());
        if run > 0 {
            self.head.token.take(first, rest, run);
            return Ok(run);
        }
        self.head.http10 = match self.head.token.text() {
            Some(b"HTTP/1.1") => false,
            Some(b"HTTP/1.0") => true,
            _ => return Err(Fault::Version),
        };
        if first != b'\r' {
            return Err(if first == b'\n' {
                Fault::LineEnd
            } else {
                Fault::RequestLine
            });
        }
        self.state = State::LineLf {
            section: Section::Head,
            field: false,
        };
        Ok(1)
    }

    fn fields(&mut self, section: Section, first: u8, rest: &[u8]) -> Result<usize, Fault> {
        match self.state {
            State::FieldStart(_) => match first {
                b'\r' => {
                    self.state = State::EndLf(section);
                    Ok(1)
                }
                b'\n' => Err(Fault::LineEnd),
                b' ' | b'\t' => Err(Fault::Fold),
                _ => {
                    self.head.token.clear();
                    self.state = State::Name(section);
                    Ok(0)
                }
            },
            State::Name(_) => self.name(section, first, rest),
            State::Space(_) => {
                let run = run(first, rest, |byte| matches!(byte, b' ' | b'\t'));
                if run == 0 {
                    self.head.value.clear();
                    self.state = State::Value(section);
                }
                Ok(run)
            }
            State::Value(_) => {
                let run = run(first, rest, is_value);
                if run > 0 {
                    if self.head.field != Field::Other {
                        self.head.value.take(first, rest, run);
                    }
                    return Ok(run);
                }
                match first {
                    b'\r' => {
                        let field = true;
                        self.state = State::LineLf { section, field };
                        Ok(1)
                    }
                    b'\n' => Err(Fault::LineEnd),
                    _ => Err(Fault::Control),
                }
            }
            State::LineLf { field, .. } => {
                if field && first == b'\n' {
                    self.head.end_field()?;
                }
                self.line_feed(first, State::FieldStart(section))
            }
            _ => self.end(section, first),
        }
    }

    fn name(&mut self, section: Section, first: u8, rest: &[u8]) -> Result<usize, Fault> {
        let run = run(first, rest, is_token);
        if run > 0 {
            self.head.token.take(first, rest, run);
            return Ok(run);
        }
        if first != b':' || self.head.token.length == 0 {
            return Err(match first {
                b'\n' => Fault::LineEnd,
                _ => Fault::Name,
            });
        }
        self.head.field = self.head.token.field();
        if section == Section::Trailers && self.head.field != Field::Other {
            return Err(Fault::Trailer);
        }
        self.state = State::Space(section);
        Ok(1)
    }

    /// The LF of the empty line.
    fn end(&mut self, section: Section, first: u8) -> Result<usize, Fault> {
        if first != b'\n' {
            return Err(Fault::LineEnd);
        }
        self.state = match section {
            Section::Trailers => State::Start(0),
            Section::Head => match self.head.framing()? {
                // Whoever reads a CONNECT refuses one with a body.
                Framing::None if self.head.connect => State::Verdict,
                Framing::None => State::Start(0),
                Framing::Length(length) => State::Body(length),
                Framing::Chunks => FIRST_CHUNK,
            },
        };
        Ok(1)
    }

    fn line_feed(&mut self, first: u8, next: State) -> Result<usize, Fault> {
        if first != b'\n' {
            return Err(Fault::LineEnd);
        }
        self.state = next;
        Ok(1)
    }

    fn body(&mut self, first: u8, rest: &[u8]) -> Result<usize, Fault> {
        match self.state {
            State::Body(left) => {
                let (used, left) = skip(left, rest);
                self.state = if left == 0 {
                    State::Start(0)
                } else {
                    State::Body(left)
                };
                return Ok(used);
            }
            State::ChunkData(left) => {
                let (used, left) = skip(left, rest);
                self.state = if left == 0 {
                    State::ChunkDataCr
                } else {
                    State::ChunkData(left)
                };
                return Ok(used);
            }
            State::ChunkSize { size, digits } => self.state = chunk_size(first, size, digits)?,
            State::ChunkExtension(size) => {
                let run = run(first, rest, is_value);
                if run > 0 {
                    return Ok(run);
                }
                if first != b'\r' {
                    return Err(Fault::Chunk);
                }
                self.state = State::ChunkSizeLf(size);
            }
            State::ChunkSizeLf(0) if first == b'\n' => self.state = State::FieldStart(Section::Trailers),
            State::ChunkSizeLf(size) if first == b'\n' => self.state = State::ChunkData(size),
            State::ChunkDataCr if first == b'\r' => self.state = State::ChunkDataLf,
            State::ChunkDataLf if first == b'\n' => self.state = FIRST_CHUNK,
            _ => return Err(Fault::Chunk),
        }
        Ok(1)
    }
}

const FIRST_CHUNK: State = State::ChunkSize { size: 0, digits: 0 };

fn chunk_size(byte: u8, size: u64, digits: u8) -> Result<State, Fault> {
    match byte {
        b'\r' if digits > 0 => Ok(State::ChunkSizeLf(size)),
        b';' if digits > 0 => Ok(State::ChunkExtension(size)),
        _ if digits == CHUNK_DIGITS => Err(Fault::Chunk),
        _ => {
            let digit = char::from(byte).to_digit(16).ok_or(Fault::Chunk)?;
            Ok(State::ChunkSize {
                size: size << 4 | u64::from(digit),
                digits: digits + 1,
            })
        }
    }
}

/// How many bytes in a row fit.
fn run(first: u8, rest: &[u8], fits: impl Fn(u8) -> bool) -> usize {
    if !fits(first) {
        return 0;
    }
    1 + rest.iter().position(|byte| !fits(*byte)).unwrap_or(rest.len())
}

/// How many bytes of a body that still has `left` are here, and how many are left then.
fn skip(left: u64, rest: &[u8]) -> (usize, u64) {
    let here = rest.len() + 1;
    match usize::try_from(left) {
        Ok(left) if left <= here => (left, 0),
        _ => (here, left - here as u64),
    }
}

/// A `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&byte)
}

/// What a field value may hold: RFC 9110 section 5.5.
fn is_value(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

#[cfg(test)]
mod tests;
