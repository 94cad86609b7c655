//! The requests of the demo: every API, blocking and streamed, as its clients send them.

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) host: &'static str,
    pub(super) path: &'static str,
    pub(super) api: &'static str,
    pub(super) model: &'static str,
    pub(super) stream: bool,
    pub(super) user_agent: &'static str,
    pub(super) body: &'static str,
}

pub(super) const SAMPLES: [Sample; 6] = [
    chat(false, r#"{"model":"gpt-5.5","messages":[{"role":"user","content":"Why is the sky blue?"}]}"#),
    chat(
        true,
        r#"{"model":"gpt-5.5","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Write a haiku about bridges."}]}"#,
    ),
    responses(false, r#"{"model":"gpt-5.5","input":"Name three prime numbers."}"#),
    responses(
        true,
        r#"{"model":"gpt-5.5","stream":true,"input":[{"role":"user","content":[{"type":"input_text","text":"Explain TLS in a sentence."}]}]}"#,
    ),
    messages(
        false,
        r#"{"model":"claude-sonnet-4-6","max_tokens":256,"messages":[{"role":"user","content":"What is a causeway?"}]}"#,
    ),
    messages(
        true,
        r#"{"model":"claude-sonnet-4-6","max_tokens":256,"stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"Count to five."}]}]}"#,
    ),
];

const fn chat(stream: bool, body: &'static str) -> Sample {
    Sample {
        host: "api.openai.com",
        path: "/v1/chat/completions",
        api: "chat_completions",
        model: "gpt-5.5",
        stream,
        user_agent: "OpenAI/Python 2.8.0",
        body,
    }
}

const fn responses(stream: bool, body: &'static str) -> Sample {
    Sample {
        host: "api.openai.com",
        path: "/v1/responses",
        api: "responses",
        model: "gpt-5.5",
        stream,
        user_agent: "codex_exec/0.169.0",
        body,
    }
}

const fn messages(stream: bool, body: &'static str) -> Sample {
    Sample {
        host: "api.anthropic.com",
        path: "/v1/messages?beta=true",
        api: "messages",
        model: "claude-sonnet-4-6",
        stream,
        user_agent: "claude-cli/2.1.197 (external, sdk-cli)",
        body,
    }
}
