//! What arrives is what was sent: bodies byte for byte in both directions, streams frame by frame, for every
//! API and every pairing of HTTP versions; and the record says what was in them.

use http::Version;
use serde_json::Value;

use crate::cases::{self, ARGUMENTS, Case, PROMPT};
use crate::client::{Answer, Ask, Http, Session, assert_same, base_url};
use crate::fake::{FakeProvider, Offers, Seen};
use crate::harness::{Gateway, Settings};

const KEY: &str = "sk-users-own-key-0123456789";

fn request(case: &Case) -> Ask {
    let (name, value) = case.key_header(KEY);
    Ask::post(case.path, case.request)
        .header(name, value)
        .header("user-agent", "e2e/1.0")
}

async fn started(offers: Offers) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(offers, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

fn check_request(case: &Case, seen: &Seen, version: Version) {
    let name = case.name;
    assert_eq!(seen.method, "POST", "{name}");
    assert_eq!(seen.path, case.path, "{name}");
    assert_eq!(seen.version, version, "{name}");
    assert_eq!(seen.authority, case.host, "{name}");
    assert_eq!(
        seen.body, case.request,
        "{name}: the request arrives as it was sent"
    );
    let (header, value) = case.key_header(KEY);
    assert_eq!(seen.header(header), value, "{name}: the user's own key");
    assert_eq!(seen.header("user-agent"), "e2e/1.0", "{name}");
}

async fn check_reply(case: &Case, answer: Answer) {
    assert_eq!(answer.status, 200, "{}", case.name);
    let content_type = if case.stream {
        "text/event-stream; charset=utf-8"
    } else {
        "application/json"
    };
    assert_eq!(answer.header("content-type"), content_type, "{}", case.name);
    assert_eq!(
        answer.bytes().await,
        case.reply,
        "{}: the reply arrives as it was sent",
        case.name
    );
}

fn check_record(case: &Case, record: &Value, mode: &str) {
    let name = case.name;
    let want = case.want;
    let facts = [
        ("provider", case.provider),
        ("api", case.api),
        ("model", want.model),
        ("model_answered", want.model_answered),
        ("mode", mode),
        ("outcome", "completed"),
        ("finish_reason", want.finish_reason),
    ];
    for (field, value) in facts {
        assert_eq!(record[field], value, "{name}: {field} of {record}");
    }
    assert_eq!(record["status"], 200, "{name}");
    assert_eq!(record["stream"], case.stream, "{name}");
    assert!(
        record["prompt"].to_string().contains(PROMPT),
        "{name}: prompt of {record}"
    );

    let usage = record["usage"].as_array().and_then(|all| all.last());
    let usage = usage.unwrap_or_else(|| panic!("{name}: no usage in {record}"));
    let counts = [
        ("input", want.input),
        ("output", want.output),
        ("cache_read", want.cache_read),
        ("cache_write", want.cache_write),
        ("reasoning", want.reasoning),
    ];
    for (field, count) in counts {
        assert_eq!(usage[field], count, "{name}: {field} of {usage}");
    }
    assert_eq!(usage["source"], "reported", "{name}");

    let calls = record["tool_calls"]
        .as_array()
        .unwrap_or_else(|| panic!("{name}: no tool calls in {record}"));
    assert_eq!(calls.len(), 1, "{name}: {calls:?}");
    assert_eq!(calls[0]["id"], want.tool_call_id, "{name}");
    assert_eq!(calls[0]["name"], "get_weather", "{name}");
    assert_eq!(
        as_json(&calls[0]["arguments"]),
        as_json(&ARGUMENTS.into()),
        "{name}"
    );
}

/// The model writes its arguments with spaces of its own, so they are compared by meaning.
fn as_json(arguments: &Value) -> Value {
    match arguments {
        Value::String(text) => serde_json::from_str(text).unwrap(),
        other => other.clone(),
    }
}

async fn every_case_passes(offers: Offers, upstream: Version) {
    let (fake, gateway) = started(offers).await;
    for http in [Http::V1, Http::V2] {
        for case in &cases::ALL {
            let answer = gateway
                .client()
                .open(case.host, http)
                .await
                .send(request(case))
                .await;
            let expected = if http == Http::V2 {
                Version::HTTP_2
            } else {
                Version::HTTP_11
            };
            assert_eq!(answer.version, expected, "{}", case.name);
            let id = answer.request_id();
            check_reply(case, answer).await;
            check_request(case, &fake.last_request(), upstream);
            check_record(case, &gateway.record(&id).await, "proxy");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_api_passes_unchanged_to_an_http_1_upstream() {
    every_case_passes(Offers::Http1, Version::HTTP_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_api_passes_unchanged_to_an_http_2_upstream() {
    every_case_passes(Offers::Http2, Version::HTTP_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_offers_both_is_spoken_to_over_http_2() {
    every_case_passes(Offers::Both, Version::HTTP_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_api_passes_unchanged_in_base_url_mode() {
    let (fake, gateway) = started(Offers::Both).await;
    for case in &cases::ALL {
        let ask = request(case).path(format!("/{}{}", case.provider, case.path));
        let ask = ask.header("x-coder-ai-governance-token", gateway.token());
        let answer = base_url(gateway.bridge()).await.send(ask).await;
        let id = answer.request_id();
        check_reply(case, answer).await;
        check_request(case, &fake.last_request(), Version::HTTP_2);
        check_record(case, &gateway.record(&id).await, "base_url");
    }
}

/// Reads each frame before the next one is let out; a relay that waits for more hangs here.
async fn read_in_step(case: &Case, fake: &FakeProvider, session: &mut Session) -> String {
    let (reply, gate) = case.scripted().gated();
    let frames = reply.frames().to_vec();
    fake.on(case.path, reply);
    let mut answer = session.send(request(case)).await;
    let mut length = 0;
    for (index, frame) in frames.iter().enumerate() {
        length += frame.len();
        let so_far = answer.read_to(length).await;
        assert_same(so_far, &case.reply[..length], case.name);
        assert_eq!(
            gate.sent(),
            index + 1,
            "{}: no more than this has been sent",
            case.name
        );
        gate.let_one_out();
    }
    let id = answer.request_id();
    check_reply(case, answer).await;
    id
}

async fn streams_pass_in_step(offers: Offers) {
    let (fake, gateway) = started(offers).await;
    for http in [Http::V1, Http::V2] {
        for case in cases::ALL.iter().filter(|case| case.stream) {
            let mut session = gateway.client().open(case.host, http).await;
            let id = read_in_step(case, &fake, &mut session).await;
            check_record(case, &gateway.record(&id).await, "proxy");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_an_http_1_stream_arrives_before_the_next_is_sent() {
    streams_pass_in_step(Offers::Http1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_an_http_2_stream_arrives_before_the_next_is_sent() {
    streams_pass_in_step(Offers::Http2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_carries_many_requests() {
    let (fake, gateway) = started(Offers::Both).await;
    for http in [Http::V1, Http::V2] {
        let mut session = gateway.client().open(cases::CHAT.host, http).await;
        for case in [
            cases::CHAT,
            cases::RESPONSES_STREAM,
            cases::CHAT_STREAM,
            cases::CHAT,
        ] {
            let answer = session.send(request(&case)).await;
            check_reply(&case, answer).await;
            check_request(&case, &fake.last_request(), Version::HTTP_2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_paths_of_a_claimed_host_pass_through_unrecorded() {
    let (fake, gateway) = started(Offers::Both).await;
    fake.on(
        "/v1/models",
        cases::CHAT.scripted().status(418).header("x-upstream", "kept"),
    );
    let mut session = gateway.client().open("api.openai.com", Http::V2).await;
    let answer = session
        .send(Ask::get("/v1/models?limit=2&after=a%20b").header("x-client", "kept"))
        .await;
    assert_eq!(answer.status, 418);
    assert_eq!(answer.header("x-upstream"), "kept");
    assert_same(&answer.bytes().await, cases::CHAT.reply, cases::CHAT.name);
    let seen = fake.last_request();
    assert_eq!(seen.path, "/v1/models?limit=2&after=a%20b");
    assert_eq!(seen.header("x-client"), "kept");
    assert!(gateway.list("/api/v1/interceptions").await.is_empty());
}
