//! A tap reads a reply as it passes by and finds out what it said and cost.
//!
//! In come the very bytes that go to the client, in any chunks; out come [`ReplyFacts`] at the end. A tap never
//! fails and never holds bytes back; what it cannot read it notes and skips.

mod facts;
mod sse;

use crate::api::Api;
pub use facts::{
    ReplyError, ReplyFacts, TapProblem, Thought, ThoughtSource, ToolCall, ToolKind, Usage, UsageSource,
};

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
    /// Bytes kept of one text: an argument, a thought, the output.
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
pub struct Tap;

impl Tap {
    /// Chooses how to read a reply by its head.
    #[must_use]
    pub fn new(_api: Api, _head: &ReplyHead<'_>, _limits: TapLimits) -> Tap {
        Tap
    }

    /// Takes the next bytes of the body. Never fails; any chunking gives the same facts.
    pub fn push(&mut self, _bytes: &[u8]) {}

    /// Whether a token, a piece of text or of a tool call was seen.
    #[must_use]
    pub fn saw_output(&self) -> bool {
        false
    }

    /// Whether the provider's own end of the stream was seen.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        false
    }

    /// Ends the reading; `ended` tells whether the body reached its end.
    #[must_use]
    pub fn finish(self, _ended: bool) -> ReplyFacts {
        ReplyFacts::default()
    }
}
