//! What the provider plays: the scenario that the prompt names, in the API of the path.

use std::collections::HashSet;
use std::sync::Mutex;

use ::bytes::Bytes;
use serde_json::{Value, json};

use crate::cases;
use crate::fake::{FakeProvider, Offers, Reply, Seen};

/// An API with its replies.
pub(crate) struct Api {
    pub(crate) name: &'static str,
    pub(crate) provider: &'static str,
    path: &'static str,
    text: &'static [u8],
    text_stream: &'static [u8],
    /// Events until the first text is out.
    first_text: usize,
    tools: cases::Case,
    tools_stream: cases::Case,
    /// What in a request tells that a tool has run.
    tool_result: &'static str,
    error: &'static [u8],
    limited: &'static [u8],
}

/// What the fixtures' texts say.
pub(crate) const TEXT: &str = "Hello from Zürich ☂";
/// What the error says.
pub(crate) const REFUSAL: &str = "the fake provider says no";

const OPENAI_ERROR: &[u8] = br#"{"error":{"message":"the fake provider says no","type":"invalid_request_error","param":null,"code":"no"}}"#;
const OPENAI_LIMITED: &[u8] =
    br#"{"error":{"message":"too fast","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}"#;

pub(crate) static APIS: [Api; 3] = [
    Api {
        name: "chat_completions",
        provider: "openai",
        path: "/v1/chat/completions",
        text: include_bytes!("fixtures/chat.json"),
        text_stream: include_bytes!("fixtures/chat.sse"),
        first_text: 2,
        tools: cases::CHAT,
        tools_stream: cases::CHAT_STREAM,
        tool_result: r#""role":"tool""#,
        error: OPENAI_ERROR,
        limited: OPENAI_LIMITED,
    },
    Api {
        name: "responses",
        provider: "openai",
        path: "/v1/responses",
        text: include_bytes!("fixtures/responses.json"),
        text_stream: include_bytes!("fixtures/responses.sse"),
        first_text: 5,
        tools: cases::RESPONSES,
        tools_stream: cases::RESPONSES_STREAM,
        tool_result: r#""function_call_output""#,
        error: OPENAI_ERROR,
        limited: OPENAI_LIMITED,
    },
    Api {
        name: "messages",
        provider: "anthropic",
        path: "/v1/messages",
        text: include_bytes!("fixtures/messages.json"),
        text_stream: include_bytes!("fixtures/messages.sse"),
        first_text: 3,
        tools: cases::MESSAGES,
        tools_stream: cases::MESSAGES_STREAM,
        tool_result: r#""tool_result""#,
        error: br#"{"type":"error","error":{"type":"invalid_request_error","message":"the fake provider says no"},"request_id":"req_interop"}"#,
        limited: br#"{"type":"error","error":{"type":"rate_limit_error","message":"too fast"},"request_id":"req_interop"}"#,
    },
];

impl Api {
    /// The API with this name in records.
    pub(crate) fn named(name: &str) -> &'static Self {
        APIS.iter().find(|api| api.name == name).unwrap()
    }

    /// Its host in proxy mode.
    pub(crate) fn host(&self) -> &'static str {
        self.tools.host
    }

    /// Its path.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    /// The header that carries a key.
    pub(crate) fn key_header(&self, key: &str) -> (&'static str, String) {
        self.tools.key_header(key)
    }

    /// A request as someone writes it who has no SDK.
    pub(crate) fn request(&self, prompt: &str, stream: bool) -> Value {
        let messages = json!([{"role": "user", "content": prompt}]);
        match self.name {
            "responses" => json!({"model": "gpt-5.2", "input": prompt, "stream": stream}),
            "messages" => {
                json!({"model": "claude-sonnet-5", "max_tokens": 1024, "messages": messages, "stream": stream})
            }
            _ if stream => json!({
                "model": "gpt-5.2", "messages": messages, "stream": true, "stream_options": {"include_usage": true},
            }),
            _ => json!({"model": "gpt-5.2", "messages": messages}),
        }
    }

    /// The text in a reply that someone reads who has no SDK: whole, or in events.
    pub(crate) fn text_of(&self, reply: &str) -> String {
        if let Ok(whole) = serde_json::from_str::<Value>(reply) {
            let at = match self.name {
                "responses" => "/output/0/content/0/text",
                "messages" => "/content/0/text",
                _ => "/choices/0/message/content",
            };
            return whole
                .pointer(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
        }
        let events = reply.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = events.filter_map(|event| serde_json::from_str::<Value>(event).ok());
        let at = match self.name {
            "responses" => "/delta",
            "messages" => "/delta/text",
            _ => "/choices/0/delta/content",
        };
        events
            .filter_map(|event| Some(event.pointer(at)?.as_str()?.to_owned()))
            .collect()
    }

    fn play(&self, fake: &FakeProvider) {
        fake.on_if(self.path, |seen| !streams(seen), Reply::json(self.text));
        fake.on_if(self.path, streams, Reply::sse(self.text_stream));
        for case in [self.tools, self.tools_stream] {
            let done = self.tool_result;
            let fits = move |seen: &Seen| {
                asks(seen, "[tools]") && !holds(seen, done) && streams(seen) == case.stream
            };
            fake.on_if(self.path, fits, case.scripted());
        }
        fake.on_if(
            self.path,
            |seen| asks(seen, "[error]"),
            Reply::json(self.error).status(400),
        );
        let limited = Reply::json(self.limited).status(429).header("retry-after", "1");
        fake.on_if(self.path, first_time(), limited);
        // Nobody opens the gate: what follows never comes.
        let (held, _) = Reply::sse(self.text_stream).together(self.first_text).gated();
        fake.on_if(self.path, |seen| asks(seen, "[abort]"), held);
    }
}

/// A provider that plays every scenario in every API.
pub(crate) async fn provider() -> FakeProvider {
    let fake = FakeProvider::start(Offers::Both).await;
    for api in &APIS {
        api.play(&fake);
    }
    // Codex asks for a WebSocket first; this is the answer that sends it to POST.
    let upgrade = |seen: &Seen| seen.method == "GET";
    fake.on_if("/v1/responses", upgrade, Reply::json(b"{}").status(426));
    fake
}

/// Whether a request of the limited scenario comes for the first time.
fn first_time() -> impl Fn(&Seen) -> bool + Send + Sync {
    let known: Mutex<HashSet<Bytes>> = Mutex::default();
    move |seen| asks(seen, "[limited]") && known.lock().unwrap().insert(seen.body.clone())
}

fn streams(seen: &Seen) -> bool {
    holds(seen, r#""stream":true"#)
}

fn asks(seen: &Seen, scenario: &str) -> bool {
    holds(seen, scenario)
}

/// Whether the body holds `part`, however it is spaced.
fn holds(seen: &Seen, part: &str) -> bool {
    let body = String::from_utf8_lossy(&seen.body).replace("\": ", "\":");
    body.contains(part)
}
