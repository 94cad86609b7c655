//! One realistic exchange for each API, blocking and streamed: what a client sends, what the provider
//! answers, and what the gateway should have recorded of it.

use crate::fake::Reply;

/// The prompt in every request, as a person reads it.
pub(crate) const PROMPT: &str = "What is the weather in Zürich? ☂";
/// The arguments of every tool call.
pub(crate) const ARGUMENTS: &str = r#"{"city":"Zürich"}"#;

/// An exchange and its record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// For assertions.
    pub(crate) name: &'static str,
    /// The provider instance's name.
    pub(crate) provider: &'static str,
    /// The host in proxy mode.
    pub(crate) host: &'static str,
    /// The path on that host; in base-URL mode it follows `/<provider>`.
    pub(crate) path: &'static str,
    /// The API's name in records.
    pub(crate) api: &'static str,
    /// The header that carries a user's own key, and what stands before the key.
    pub(crate) credential: (&'static str, &'static str),
    /// The request's body.
    pub(crate) request: &'static [u8],
    /// The reply's body.
    pub(crate) reply: &'static [u8],
    /// Whether the reply is a stream of events.
    pub(crate) stream: bool,
    /// What the record should say.
    pub(crate) want: Want,
}

/// The recorded facts of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) model: &'static str,
    pub(crate) model_answered: &'static str,
    pub(crate) finish_reason: &'static str,
    pub(crate) tool_call_id: &'static str,
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write: u64,
    pub(crate) reasoning: u64,
}

impl Case {
    /// The provider's reply: whole, or one frame for each event.
    pub(crate) fn scripted(&self) -> Reply {
        if self.stream {
            Reply::sse(self.reply)
        } else {
            Reply::json(self.reply)
        }
    }

    /// The user's own key as a header.
    pub(crate) fn key_header(&self, key: &str) -> (&'static str, String) {
        let (name, scheme) = self.credential;
        (name, format!("{scheme}{key}"))
    }
}

/// Every API, blocking and streamed.
pub(crate) const ALL: [Case; 6] = [
    CHAT,
    CHAT_STREAM,
    RESPONSES,
    RESPONSES_STREAM,
    MESSAGES,
    MESSAGES_STREAM,
];

/// Chat completions in one piece.
pub(crate) const CHAT: Case = Case {
    name: "chat completions, blocking",
    provider: "openai",
    host: "api.openai.com",
    path: "/v1/chat/completions",
    api: "chat_completions",
    credential: ("authorization", "Bearer "),
    request: include_bytes!("fixtures/chat/request.json"),
    reply: include_bytes!("fixtures/chat/reply.json"),
    stream: false,
    want: Want {
        model: "gpt-5.2",
        model_answered: "gpt-5.2-2026-01-15",
        finish_reason: "tool_calls",
        tool_call_id: "call_weather1",
        // 120 prompt tokens, 20 of them from the cache.
        input: 100,
        output: 45,
        cache_read: 20,
        cache_write: 0,
        reasoning: 15,
    },
};

/// Chat completions as events.
pub(crate) const CHAT_STREAM: Case = Case {
    name: "chat completions, streamed",
    request: include_bytes!("fixtures/chat/request-stream.json"),
    reply: include_bytes!("fixtures/chat/reply.sse"),
    stream: true,
    want: Want {
        tool_call_id: "call_weather2",
        ..CHAT.want
    },
    ..CHAT
};

/// Responses in one piece.
pub(crate) const RESPONSES: Case = Case {
    name: "responses, blocking",
    path: "/v1/responses",
    api: "responses",
    request: include_bytes!("fixtures/responses/request.json"),
    reply: include_bytes!("fixtures/responses/reply.json"),
    want: Want {
        finish_reason: "completed",
        ..CHAT.want
    },
    ..CHAT
};

/// Responses as events.
pub(crate) const RESPONSES_STREAM: Case = Case {
    name: "responses, streamed",
    request: include_bytes!("fixtures/responses/request-stream.json"),
    reply: include_bytes!("fixtures/responses/reply.sse"),
    stream: true,
    want: Want {
        tool_call_id: "call_weather2",
        ..RESPONSES.want
    },
    ..RESPONSES
};

/// Messages in one piece.
pub(crate) const MESSAGES: Case = Case {
    name: "messages, blocking",
    provider: "anthropic",
    host: "api.anthropic.com",
    path: "/v1/messages",
    api: "messages",
    credential: ("x-api-key", ""),
    request: include_bytes!("fixtures/messages/request.json"),
    reply: include_bytes!("fixtures/messages/reply.json"),
    stream: false,
    want: Want {
        model: "claude-sonnet-5",
        model_answered: "claude-sonnet-5-20260301",
        finish_reason: "tool_use",
        tool_call_id: "toolu_weather1",
        input: 100,
        output: 45,
        cache_read: 20,
        cache_write: 30,
        reasoning: 0,
    },
};

/// Messages as events.
pub(crate) const MESSAGES_STREAM: Case = Case {
    name: "messages, streamed",
    request: include_bytes!("fixtures/messages/request-stream.json"),
    reply: include_bytes!("fixtures/messages/reply.sse"),
    stream: true,
    want: Want {
        tool_call_id: "toolu_weather2",
        ..MESSAGES.want
    },
    ..MESSAGES
};
