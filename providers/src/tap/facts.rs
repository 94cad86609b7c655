//! What a tap finds out about a reply.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stored::stored_enum;

/// What a reply said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyFacts {
    /// The provider's id of the reply.
    pub response_id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// The service tier that the reply was served in, in the provider's word; `fast` for a reply sped up for a price.
    pub service_tier: Option<String>,
    /// Why the model stopped, in the provider's word.
    pub finish_reason: Option<String>,
    /// Tokens used, if reported or estimated. Counting tokens uses none: the count is among the extra ones.
    pub usage: Option<Usage>,
    /// Where `usage` comes from.
    pub usage_source: UsageSource,
    /// Tools that the model called.
    pub tool_calls: Vec<ToolCall>,
    /// What the model thought aloud.
    pub thoughts: Vec<Thought>,
    /// The answer's text, if it was to be kept.
    pub output: Option<String>,
    /// An error in the stream, or an error body.
    pub error: Option<ReplyError>,
    /// The gravest thing that kept the tap from reading all.
    pub problem: Option<TapProblem>,
    /// Whether the reply reached the provider's own end.
    pub complete: bool,
}

/// Tokens of one reply; the counts do not overlap, except that `output` includes `reasoning`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens that were neither read from a cache nor written to one.
    pub input: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Input tokens read from a cache.
    pub cache_read: u64,
    /// Input tokens written to a cache.
    pub cache_write: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
    /// Every other count that was reported and is not zero.
    pub extra: BTreeMap<String, u64>,
}

stored_enum! {
    /// How much a [`Usage`] can be trusted.
    #[derive(Default)]
    pub enum UsageSource {
        /// Nothing is known.
        #[default]
        Unknown = 0, "unknown";
        /// The provider's final counts.
        Reported = 1, "reported";
        /// The provider's counts as far as they came: the stream did not finish, or a side of it was not counted.
        /// What they lack is filled in by an estimate where one was asked for.
        Partial = 2, "partial";
        /// Estimated from the length of the texts.
        Estimated = 3, "estimated";
    }
}

/// A tool that the model called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id by which a later request answers it.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The MCP server or the namespace that the tool belongs to, if the reply says so.
    pub server: Option<String>,
    /// The arguments as the model wrote them.
    pub arguments: String,
    /// Who runs it, and how.
    pub kind: ToolKind,
    /// Whether the arguments are incomplete: too long, or the stream broke off.
    pub truncated: bool,
}

stored_enum! {
    /// The sort of a tool call.
    pub enum ToolKind {
        /// A function with JSON arguments, run by the client.
        Function = 1, "function";
        /// A tool with free-form input, or one built into the client.
        Custom = 2, "custom";
        /// A tool of an MCP server that the provider called.
        Mcp = 3, "mcp";
        /// A tool that the provider itself ran, such as a web search.
        Server = 4, "server";
    }
}

/// A piece of the model's thinking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thought {
    /// Its text.
    pub text: String,
    /// Where it stood in the reply.
    pub source: ThoughtSource,
}

stored_enum! {
    /// The part of a reply that a thought stood in.
    pub enum ThoughtSource {
        /// A thinking block or reasoning text.
        Thinking = 1, "thinking";
        /// A summary of hidden reasoning.
        ReasoningSummary = 2, "reasoning_summary";
        /// A message to the user between tool calls.
        Commentary = 3, "commentary";
    }
}

/// An error that the provider reported in the stream or as the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyError {
    /// The provider's type or code of it.
    pub kind: String,
    /// The provider's message.
    pub message: String,
}

/// What a tap could not read, the least grave first; the reply itself is not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TapProblem {
    /// An event or body that is not the JSON expected; it was skipped.
    Malformed,
    /// An event or body over the limit; it was skipped.
    TooLarge,
    /// A content encoding that is not known.
    UnknownEncoding,
    /// Compressed bytes that do not decode.
    BadEncoding,
}
