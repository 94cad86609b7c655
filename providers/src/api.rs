//! The wire APIs that the bridge understands, and what a path turns out to be.

use crate::stored::stored_enum;

stored_enum! {
    /// A wire format of requests and replies; several providers share one.
    pub enum Api {
        /// OpenAI chat completions.
        ChatCompletions = 1, "chat_completions";
        /// OpenAI responses, over HTTP or WebSocket.
        Responses = 2, "responses";
        /// Anthropic messages.
        Messages = 3, "messages";
        /// Legacy text completions, which Copilot uses for inline suggestions.
        Completions = 4, "completions";
        /// OpenAI embeddings. What is embedded is no prompt.
        Embeddings = 5, "embeddings";
        /// Counting the tokens of a request that is not made: it uses none, but its content leaves the house.
        CountTokens = 6, "count_tokens";
        /// OpenAI's compaction of a conversation: a model reads it, the user asked nothing.
        Compact = 7, "responses_compact";
    }
}

/// What a request is for: an API that is governed and recorded, or anything else of that provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Inspected, admitted, relayed through a tap, recorded.
    Bridged(Api),
    /// Relayed as it is.
    Passthrough,
}

impl Endpoint {
    /// The API, if the endpoint is bridged.
    #[must_use]
    pub const fn api(self) -> Option<Api> {
        match self {
            Endpoint::Bridged(api) => Some(api),
            Endpoint::Passthrough => None,
        }
    }
}
