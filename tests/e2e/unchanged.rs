//! Nothing is put right on the way: what clients say of tools, thinking and versions, and what providers refuse
//! with or break off, arrives as it was, and the record says what could be made of it.

use serde_json::Value;

use crate::cases::{self, Case};
use crate::client::{Ask, Http, assert_same};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings};

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

fn ask(case: &Case, body: &'static str) -> Ask {
    let (name, value) = case.key_header("sk-users-own-key-0123456789");
    Ask::post(case.path, body).header(name, value)
}

const BETA: &str = "oauth-2025-04-20,interleaved-thinking-2025-05-14,context-management-2025-06-27,prompt-caching-scope-2026-01-05,effort-2025-11-24";

/// Bodies whose every byte means something to somebody.
const SAID: [(Case, &str); 4] = [
    (
        cases::MESSAGES,
        r#"{"model":"claude-sonnet-4-5","max_tokens":9, "thinking":{"type":"adaptive"},"tool_choice":{"type":"tool","name":"b","disable_parallel_tool_use":false},
            "tools":[{"name":"a","input_schema":{}},{"name":"b","input_schema":{},"cache_control":{"type":"ephemeral","ttl":"1h"}}],
            "messages":[{"role":"user","content":"q"}],"new_member":[1e400,"\ud83d\ude00"]}"#,
    ),
    (
        cases::CHAT,
        r#"{ "model" : "gpt-5.2", "parallel_tool_calls":true, "tools":[{"type":"namespace","name":"n"}], "messages":[{"role":"user","content":"q"}] }"#,
    ),
    (
        cases::CHAT,
        r#"{"model":"gpt-5.2","stream":"true","parallel_tool_calls":false,"messages":{},"messages":[]}"#,
    ),
    (
        cases::RESPONSES,
        r#"{"model":"gpt-5.2","background":true,"parallel_tool_calls":false,"input":"q","tools":[{"type":"of tomorrow"}]}"#,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_arrives_in_its_own_bytes_however_often() {
    let (fake, gateway) = started().await;
    for (case, body) in SAID {
        let mut session = gateway.client().open(case.host, Http::V2).await;
        for _ in 0..3 {
            let answer = session
                .send(ask(&case, body).header("anthropic-beta", BETA))
                .await;
            assert_eq!(answer.status, 200, "{body}");
            assert_same(&answer.bytes().await, case.reply, case.name);
            let seen = fake.last_request();
            assert_same(&seen.body, body.as_bytes(), case.name);
            assert_eq!(seen.header("anthropic-beta"), BETA);
            assert_eq!(seen.key(), "sk-users-own-key-0123456789");
        }
    }
}

/// A reply that is not what was hoped for, and what is on record of it.
struct Odd {
    status: u16,
    content_type: &'static str,
    body: &'static str,
    outcome: &'static str,
    error_kind: Option<&'static str>,
}

const fn odd(
    status: u16,
    content_type: &'static str,
    body: &'static str,
    outcome: &'static str,
    error_kind: Option<&'static str>,
) -> Odd {
    Odd {
        status,
        content_type,
        body,
        outcome,
        error_kind,
    }
}

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";

const ODD: [Odd; 9] = [
    odd(
        400,
        JSON,
        r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        "failed",
        Some("invalid_request_error"),
    ),
    odd(
        401,
        JSON,
        "{\n  \"error\": {\"type\": \"authentication_error\", \"message\": \"no\"}\n}\n",
        "failed",
        Some("authentication_error"),
    ),
    odd(
        429,
        JSON,
        r#"{"error":{"type":"rate_limit_error","message":"slow"}}"#,
        "failed",
        Some("rate_limit_error"),
    ),
    odd(
        500,
        JSON,
        r#"{"error":{"type":"api_error","message":"oh"}}"#,
        "failed",
        Some("api_error"),
    ),
    odd(502, "text/plain", "bad gateway\n", "failed", Some("http_502")),
    odd(200, JSON, r#"{"id":"x","choices":[{"#, "completed", None),
    odd(
        200,
        SSE,
        "event: what\ndata: {\"broken\n\ndata: [1\n\nno field\n\n",
        "completed",
        None,
    ),
    odd(
        200,
        SSE,
        "data: {\"error\":{\"type\":\"server_error\",\"message\":\"gone\"}}\n\n",
        "failed",
        Some("server_error"),
    ),
    odd(200, JSON, "", "completed", None),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_answers_instead_passes_byte_for_byte_and_is_on_record() {
    let (fake, gateway) = started().await;
    for case in [cases::CHAT, cases::CHAT_STREAM, cases::RESPONSES_STREAM] {
        for odd in ODD {
            let reply = Reply::of(odd.content_type, odd.body.as_bytes()).status(odd.status);
            fake.on(case.path, reply.header("x-should-retry", "false"));
            let request = std::str::from_utf8(case.request).unwrap();
            let before = fake.requests().len();
            let mut session = gateway.client().open(case.host, Http::V1).await;
            let answer = session.send(ask(&case, request)).await;
            assert_eq!(answer.status, odd.status, "{}", odd.body);
            assert_eq!(answer.header("content-type"), odd.content_type);
            assert_eq!(answer.header("x-should-retry"), "false");
            let id = answer.request_id();
            assert_same(&answer.bytes().await, odd.body.as_bytes(), odd.body);
            assert_eq!(fake.requests().len(), before + 1, "{}", odd.body);
            let record = gateway.record(&id).await;
            assert_eq!(record["outcome"], odd.outcome, "{record}");
            assert_eq!(
                record["error_kind"],
                odd.error_kind.map_or(Value::Null, Value::from),
                "{record}"
            );
            assert_ne!(record["prompt"], Value::Null, "asked all the same: {record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_the_clients_own_and_never_borrowed() {
    const PLAIN: &str =
        r#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"q"}]}"#;
    const LEGACY: &str = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"metadata":{"user_id":"user_a_account_b_session_legacy-1"},"messages":[{"role":"user","content":"q"}]}"#;
    const MUX: (&str, &str) = ("x-mux-workspace-id", "workspace-1");
    let (fake, gateway) = started().await;
    let cases = [
        (&[("user-agent", "mux/1.0"), MUX][..], PLAIN, Some("workspace-1")),
        (
            &[("user-agent", "claude-cli/2.1.0 (external, cli)")],
            LEGACY,
            Some("legacy-1"),
        ),
        (&[("user-agent", "Zed/0.200.0"), MUX], PLAIN, None),
    ];
    let case = cases::MESSAGES;
    let mut session = gateway.client().open(case.host, Http::V2).await;
    for (headers, body, want) in cases {
        let with = |ask: Ask, (name, value): &(&str, &str)| ask.header(*name, *value);
        let answer = session.send(headers.iter().fold(ask(&case, body), with)).await;
        let id = answer.request_id();
        answer.bytes().await;
        assert_same(
            &fake.last_request().body,
            body.as_bytes(),
            "the body after it was read",
        );
        let record = gateway.record(&id).await;
        match want {
            Some(want) => assert_eq!(record["session_id"], want, "{record}"),
            None => assert_ne!(record["session_id"], MUX.1, "{record}"),
        }
    }
}
