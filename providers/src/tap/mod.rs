//! A tap reads a reply as it passes by and finds out what it said and cost.
//!
//! In come the very bytes that go to the client, in any chunks; out come [`ReplyFacts`] at the end. A tap never
//! fails and never holds bytes back; what it cannot read it notes and skips. Bytes pass the content decoder, then
//! the event parser (or a buffer, if the reply is one document), then the reader of the API.

mod choices;
mod counts;
mod facts;
mod found;
mod messages;
mod responses;
pub(crate) mod sse;
mod tally;
#[cfg(test)]
mod tests;

use crate::api::Api;
use crate::encoding::StreamDecoder;
pub use facts::{
    ReplyError, ReplyFacts, TapProblem, Thought, ThoughtSource, ToolCall, ToolKind, Usage, UsageSource,
};
use found::Found;
use sse::{Event, Sse};

/// What the head of a reply says about its body.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplyHead<'a> {
    /// The status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Content-Encoding`.
    pub content_encoding: Option<&'a str>,
}

/// Bounds on what a tap keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapLimits {
    /// Bytes kept of one text: an argument, a thought, the output. All texts together may fill 32 such.
    pub text: usize,
    /// Tool calls kept, and thoughts kept.
    pub items: usize,
    /// Bytes of one event of a stream; a longer one is skipped.
    pub event: usize,
    /// Bytes of a body that is no stream; a longer one is not read.
    pub body: usize,
    /// Bytes that a compressed body may decode to; the rest is not read.
    pub decoded: u64,
    /// Whether to keep the text of the answer.
    pub keep_output: bool,
    /// Bytes of text in the request; if given, usage that nobody reports is estimated.
    pub request_text: Option<usize>,
}

impl Default for TapLimits {
    fn default() -> TapLimits {
        TapLimits {
            text: 256 * 1024,
            items: 256,
            event: 8 * 1024 * 1024,
            body: 16 * 1024 * 1024,
            decoded: 1024 * 1024 * 1024,
            keep_output: false,
            request_text: None,
        }
    }
}

/// Reads one reply.
#[derive(Debug)]
pub struct Tap {
    decoder: StreamDecoder,
    core: Box<Core>,
}

#[derive(Debug)]
struct Core {
    framing: Framing,
    reader: Reader,
    found: Found,
}

/// How the body is cut into pieces that the reader understands.
#[derive(Debug)]
enum Framing {
    /// Nothing but white space came; the flag tells whether the head announced a document.
    Undecided {
        document: bool,
    },
    Events(Sse),
    Document {
        body: Vec<u8>,
        oversized: bool,
    },
}

/// The reader of one API.
#[derive(Debug)]
enum Reader {
    /// Chat completions and legacy completions: both are lists of choices.
    Choices(choices::Choices),
    Responses(responses::Responses),
    Messages(messages::Messages),
    /// Replies in which nothing is said, only counted.
    Tally(tally::Tally),
}

impl Tap {
    /// Chooses how to read a reply by its head.
    #[must_use]
    pub fn new(api: Api, head: &ReplyHead<'_>, limits: TapLimits) -> Tap {
        let media_type = head
            .content_type
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let says_something = !media_type.is_empty() || head.status >= 400;
        let document = says_something && !media_type.eq_ignore_ascii_case("text/event-stream");
        Tap::with(api, head, limits, Framing::Undecided { document })
    }

    /// Reads a reply whose events come one by one, as on a WebSocket, through [`Tap::push_event`].
    #[must_use]
    pub fn of_events(api: Api, limits: TapLimits) -> Tap {
        let head = ReplyHead {
            status: 200,
            ..ReplyHead::default()
        };
        Tap::with(api, &head, limits, Framing::Events(Sse::new(limits.event)))
    }

    fn with(api: Api, head: &ReplyHead<'_>, limits: TapLimits, framing: Framing) -> Tap {
        let reader = match api {
            Api::ChatCompletions | Api::Completions => Reader::Choices(choices::Choices::default()),
            Api::Responses | Api::Compact => Reader::Responses(responses::Responses::default()),
            Api::Messages => Reader::Messages(messages::Messages::default()),
            Api::Embeddings => Reader::Tally(tally::Tally::Used),
            Api::CountTokens => Reader::Tally(tally::Tally::Counted),
        };
        let mut found = Found::new(head.status, limits);
        let decoder = StreamDecoder::new(head.content_encoding, limits.decoded).unwrap_or_else(|_| {
            // Some servers name a character set here: what comes may be readable nevertheless.
            found.note(TapProblem::UnknownEncoding);
            StreamDecoder::default()
        });
        let core = Box::new(Core {
            framing,
            reader,
            found,
        });
        Tap { decoder, core }
    }

    /// Takes the next bytes of the body. Never fails; any chunking gives the same facts.
    pub fn push(&mut self, bytes: &[u8]) {
        let core = &mut self.core;
        if self.decoder.push(bytes, |bytes| core.feed(bytes)).is_err() {
            core.found.note(TapProblem::BadEncoding);
        }
    }

    /// Takes one whole event, as a WebSocket message carries it.
    pub fn push_event(&mut self, data: &[u8]) {
        let core = &mut *self.core;
        core.reader.event(Event { name: b"", data }, &mut core.found);
    }

    /// Whether a token, a piece of text or of a tool call was seen.
    #[must_use]
    pub fn saw_output(&self) -> bool {
        self.core.found.saw_output
    }

    /// Whether the provider's own end of the stream was seen.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.core.found.terminal
    }

    /// Ends the reading; `ended` tells whether the body reached its end.
    #[must_use]
    pub fn finish(self, ended: bool) -> ReplyFacts {
        self.core.finish(ended)
    }
}

impl Core {
    fn feed(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if let Framing::Undecided { document } = self.framing {
            bytes = bytes.trim_ascii_start();
            self.framing = match bytes {
                [] => return,
                // No line of an event stream begins so: servers also send a document under the wrong type.
                [b'{' | b'[', ..] => Framing::Document {
                    body: Vec::new(),
                    oversized: false,
                },
                _ if document => Framing::Document {
                    body: Vec::new(),
                    oversized: false,
                },
                _ => Framing::Events(Sse::new(self.found.limits.event)),
            };
        }
        match &mut self.framing {
            Framing::Undecided { .. } => {}
            Framing::Events(sse) => {
                sse.push(bytes, |event| self.reader.event(event, &mut self.found));
                if sse.skipped_an_event() {
                    self.found.note(TapProblem::TooLarge);
                }
            }
            Framing::Document { body, oversized } => {
                *oversized |= body.len().saturating_add(bytes.len()) > self.found.limits.body;
                if *oversized {
                    *body = Vec::new();
                } else {
                    body.extend_from_slice(bytes);
                }
            }
        }
    }

    fn finish(mut self, ended: bool) -> ReplyFacts {
        match std::mem::replace(&mut self.framing, Framing::Undecided { document: false }) {
            Framing::Undecided { .. } => self.found.read_error_body(b""),
            Framing::Events(mut sse) => {
                if ended {
                    sse.finish(|event| self.reader.event(event, &mut self.found));
                }
                self.reader.end(&mut self.found);
                self.found.complete =
                    self.found.terminal || (ended && self.found.facts.finish_reason.is_some());
            }
            Framing::Document { oversized: true, .. } => {
                self.found.note(TapProblem::TooLarge);
                self.found.complete = ended;
            }
            Framing::Document { body, .. } => {
                let whole = self.reader.document(&body, &mut self.found);
                self.reader.end(&mut self.found);
                self.found.complete = whole;
                self.found.read_error_body(&body);
            }
        }
        self.found.into_facts(self.reader.counting())
    }
}

impl Reader {
    fn event(&mut self, event: Event<'_>, found: &mut Found) {
        match self {
            Reader::Choices(reader) => reader.event(event, found),
            Reader::Responses(reader) => reader.event(event, found),
            Reader::Messages(reader) => reader.event(event, found),
            Reader::Tally(reader) => {
                reader.document(event.data, found);
            }
        }
    }

    /// Reads a reply that is one document; tells whether it was whole.
    fn document(&mut self, body: &[u8], found: &mut Found) -> bool {
        match self {
            Reader::Choices(reader) => reader.document(body, found),
            Reader::Responses(_) => responses::document(body, found),
            Reader::Messages(_) => messages::document(body, found),
            Reader::Tally(reader) => reader.document(body, found),
        }
    }

    /// Hands over what was still open.
    fn end(&mut self, found: &mut Found) {
        match self {
            Reader::Choices(reader) => reader.end(found),
            Reader::Responses(reader) => reader.end(found),
            Reader::Messages(reader) => reader.end(found),
            Reader::Tally(_) => {}
        }
    }

    /// How the API counts tokens.
    fn counting(&self) -> counts::Counting {
        match self {
            Reader::Choices(_) | Reader::Responses(_) => counts::Counting::OpenAi,
            Reader::Tally(tally::Tally::Used) => counts::Counting::InputOnly,
            Reader::Tally(tally::Tally::Counted) => counts::Counting::Nothing,
            Reader::Messages(_) => counts::Counting::Anthropic,
        }
    }
}
