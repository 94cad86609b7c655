//! What is known of tokens is true and says where it comes from: streams are asked for their usage behind the
//! client's back, replies without a reader are read on where the operator wants it, and costs follow the list.

use std::time::{Duration, Instant};

use http::Version;
use serde_json::Value;

use crate::cases::{self, CHAT_STREAM, Case};
use crate::client::{Answer, Ask, Http, assert_same};
use crate::fake::{FakeProvider, Gate, Offers, Reply};
use crate::harness::{Gateway, Settings, eventually};

/// What clients put into their body to get the usage of a stream.
const OPTIONS: &str = r#""stream_options":{"include_usage":true}, "#;
const EDIT: &str = r#""stream_options":{"include_usage":true},"#;

/// 100 × 1.75 + 45 × 14 + 20 × 0.175 millionths, rounded.
const COST: u64 = 809;

/// Has replies read on without their clients.
const DRAIN: &str = "on-abort = \"drain\"";

/// The request of the streamed case from a client that does not ask for usage.
fn unasked() -> String {
    let asked = std::str::from_utf8(CHAT_STREAM.request).unwrap();
    assert!(asked.contains(OPTIONS));
    asked.replace(OPTIONS, "")
}

/// The streamed reply without the event that reports its usage.
fn without_usage() -> String {
    let reply = std::str::from_utf8(CHAT_STREAM.reply).unwrap();
    let (hidden, rest): (Vec<&str>, Vec<&str>) = reply
        .split_inclusive("\n\n")
        .partition(|event| event.contains(r#""choices":[]"#));
    assert_eq!(hidden.len(), 1);
    rest.concat()
}

fn ask(body: impl Into<bytes::Bytes>) -> Ask {
    Ask::post(CHAT_STREAM.path, body).header("authorization", "Bearer sk-users-own-key-0123456789")
}

async fn started(offers: Offers, provider: &str) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(offers, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake).provider(provider)).await;
    (fake, gateway)
}

async fn sent(gateway: &Gateway, http: Http, ask: Ask) -> Answer {
    let mut session = gateway.client().open(CHAT_STREAM.host, http).await;
    session.send(ask).await
}

fn check_usage(record: &Value, source: &str) {
    assert_eq!(record["usage_source"], source, "{record}");
    if source == "unknown" {
        assert_eq!(record["usage"], Value::Array(Vec::new()), "{record}");
        return;
    }
    let usage = &record["usage"][0];
    assert_eq!(usage["source"], source, "{record}");
    if source == "reported" {
        assert_eq!(usage["input"], 100, "{record}");
        assert_eq!(usage["cost_micros"], COST, "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_asked_for_its_usage_and_the_client_does_not_see_it() {
    for (offers, http) in [(Offers::Http1, Http::V1), (Offers::Http2, Http::V2)] {
        let (fake, gateway) = started(offers, "").await;
        let ask = ask(unasked()).header("accept-encoding", "gzip, br");
        let answer = sent(&gateway, http, ask).await;
        let id = answer.request_id();
        let want = without_usage();
        assert_same(&answer.bytes().await, want.as_bytes(), CHAT_STREAM.name);
        let seen = fake.last_request();
        let edited = unasked().replacen('{', &format!("{{{EDIT}"), 1);
        assert_same(&seen.body, edited.as_bytes(), "one span is put in");
        assert_eq!(seen.header("accept-encoding"), "identity");
        if seen.version == Version::HTTP_11 {
            assert_eq!(seen.header("content-length"), edited.len().to_string());
        }
        check_usage(&gateway.record(&id).await, "reported");
        let cost = r#"causeway_cost_micros_total{provider="openai",model="gpt-5.2"}"#;
        assert_eq!(gateway.metric(cost).await, COST);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_edited_goes_as_it_is() {
    let (fake, gateway) = started(Offers::Both, "").await;
    // The client's own encoding: nothing is put into it, so nothing is taken out.
    fake.on(CHAT_STREAM.path, CHAT_STREAM.scripted());
    let body = zstd(unasked().as_bytes());
    let zstd_ask = ask(body.clone()).header("content-encoding", "zstd");
    let answer = sent(&gateway, Http::V2, zstd_ask).await;
    let id = answer.request_id();
    assert_same(&answer.bytes().await, CHAT_STREAM.reply, "the reply");
    assert_same(&fake.last_request().body, &body, "the request");
    let record = gateway.record(&id).await;
    assert_eq!(
        (&record["model"], &record["stream"]),
        (&"gpt-5.2".into(), &true.into())
    );
    check_usage(&record, "reported");
    // The provider's: it passes, and is read all the same.
    let reply = gzip(CHAT_STREAM.reply);
    fake.on(CHAT_STREAM.path, Reply::encoded(reply.clone(), "gzip"));
    let answer = sent(
        &gateway,
        Http::V1,
        ask(CHAT_STREAM.request).header("accept-encoding", "gzip"),
    )
    .await;
    let id = answer.request_id();
    assert_eq!(answer.header("content-encoding"), "gzip");
    assert_same(&answer.bytes().await, &reply, "the encoded reply");
    check_usage(&gateway.record(&id).await, "reported");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_reported_the_count_is_an_estimate() {
    let (fake, gateway) = started(Offers::Both, "include-usage = false").await;
    fake.on(CHAT_STREAM.path, Reply::sse(without_usage().leak().as_bytes()));
    let answer = sent(&gateway, Http::V2, ask(unasked())).await;
    let id = answer.request_id();
    assert_same(&answer.bytes().await, without_usage().as_bytes(), "the reply");
    assert_same(&fake.last_request().body, unasked().as_bytes(), "the request");
    let record = gateway.record(&id).await;
    check_usage(&record, "estimated");
    assert!(record["usage"][0]["input"].as_u64() > Some(10), "{record}");
    let estimated = r#"causeway_usage_total{provider="openai",source="estimated"}"#;
    assert_eq!(gateway.metric(estimated).await, 1);
}

/// Leaves a stream after its first events; what follows waits at the gate. Returns the request's id.
async fn leave(fake: &FakeProvider, gateway: &Gateway, http: Http) -> (String, Gate) {
    let case: Case = CHAT_STREAM;
    let (reply, gate) = case.scripted().gated();
    let seen: usize = reply.frames()[..3].iter().map(bytes::Bytes::len).sum();
    fake.on(case.path, reply);
    let mut session = gateway.client().open(case.host, http).await;
    let mut answer = session.send(ask(case.request)).await;
    gate.let_one_out();
    gate.let_one_out();
    answer.read_to(seen).await;
    let id = answer.request_id();
    drop((answer, session));
    (id, gate)
}

async fn a_drain(gateway: &Gateway) {
    eventually("a drain", async || {
        (gateway.metric("causeway_drains").await == 1).then_some(())
    })
    .await;
}

/// The record of a stream whose client leaves after the first event; the others are let out after that.
async fn left_early(offers: Offers, http: Http, provider: &str) -> Value {
    let (fake, gateway) = started(offers, provider).await;
    let (id, gate) = leave(&fake, &gateway, http).await;
    if !provider.is_empty() {
        a_drain(&gateway).await;
        for _ in CHAT_STREAM.scripted().frames() {
            gate.let_one_out();
        }
    }
    let record = gateway.record(&id).await;
    assert_eq!(record["outcome"], "aborted", "{record}");
    assert_eq!(record["error_kind"], "client_closed", "{record}");
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_without_a_reader_is_read_on_for_its_usage_where_that_is_wanted() {
    for (offers, http) in [(Offers::Http1, Http::V1), (Offers::Http2, Http::V2)] {
        let drained = left_early(offers, http, DRAIN).await;
        check_usage(&drained, "reported");
        let cancelled = left_early(offers, http, "").await;
        check_usage(&cancelled, "estimated");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_has_its_bounds() {
    let record = left_early(
        Offers::Both,
        Http::V2,
        "on-abort = \"drain\"\ndrain-max-bytes = \"10B\"",
    )
    .await;
    check_usage(&record, "estimated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_leaves_before_the_head_is_read_on_too() {
    for (offers, http) in [(Offers::Http1, Http::V1), (Offers::Http2, Http::V2)] {
        for wanted in [true, false] {
            let provider = if wanted { DRAIN } else { "" };
            let (fake, gateway) = started(offers, provider).await;
            let (reply, head) = CHAT_STREAM.scripted().held();
            fake.on(CHAT_STREAM.path, reply);
            let mut session = gateway.client().open(CHAT_STREAM.host, http).await;
            let asked = tokio::spawn(async move { session.send(ask(CHAT_STREAM.request)).await.status });
            eventually("the request", async || fake.requests().pop()).await;
            asked.abort();
            if wanted {
                a_drain(&gateway).await;
            }
            let open = &gateway.list("/api/v1/interceptions").await[0];
            let id = open["request_id"].as_str().unwrap().to_owned();
            if wanted {
                assert_eq!(open["outcome"], Value::Null, "{open}");
                head.add_permits(1);
            }
            let record = gateway.record(&id).await;
            assert_eq!(record["outcome"], "aborted", "{record}");
            assert_eq!(record["error_kind"], "client_closed", "{record}");
            check_usage(&record, if wanted { "reported" } else { "unknown" });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drains_end_with_the_process_and_their_records_say_what_was_known() {
    let (fake, mut gateway) = started(Offers::Both, DRAIN).await;
    let (id, _gate) = leave(&fake, &gateway, Http::V2).await;
    a_drain(&gateway).await;
    let (reply, _head) = CHAT_STREAM.scripted().held();
    fake.on(CHAT_STREAM.path, reply);
    let mut session = gateway.client().open(CHAT_STREAM.host, Http::V1).await;
    let asked = tokio::spawn(async move { session.send(ask(CHAT_STREAM.request)).await.status });
    eventually("both requests", async || fake.requests().get(1).cloned()).await;
    asked.abort();
    eventually("both drains", async || {
        (gateway.metric("causeway_drains").await == 2).then_some(())
    })
    .await;
    gateway.terminate();
    let began = Instant::now();
    assert!(gateway.ended().await, "the process calls it a success");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it does not wait for drains"
    );
    gateway.restart().await;
    for record in gateway.list("/api/v1/interceptions").await {
        assert_eq!(record["outcome"], "aborted", "{record}");
        assert_eq!(
            record["error_kind"], "client_closed",
            "it ended in order: {record}"
        );
        let known = if record["request_id"] == id.as_str() {
            "estimated"
        } else {
            "unknown"
        };
        check_usage(&record, known);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_costs_what_its_tier_costs() {
    let (fake, gateway) = started(Offers::Both, "").await;
    for (tier, cost) in [
        ("flex", Value::from(404)),
        ("priority", 1617.into()),
        ("scale", Value::Null),
    ] {
        let named = format!(r#""service_tier":"{tier}""#);
        let reply = std::str::from_utf8(CHAT_STREAM.reply).unwrap();
        assert!(reply.contains(r#""service_tier":"default""#));
        let reply = reply.replace(r#""service_tier":"default""#, &named);
        fake.on(CHAT_STREAM.path, Reply::sse(reply.leak().as_bytes()));
        let answer = sent(&gateway, Http::V2, ask(CHAT_STREAM.request)).await;
        let id = answer.request_id();
        answer.bytes().await;
        let record = gateway.record(&id).await;
        assert_eq!(record["usage"][0]["cost_micros"], cost, "{tier}: {record}");
    }
}

/// The values of a metric's lines with all of those labels.
fn values<'a>(text: &'a str, name: &str, labels: &[&str]) -> Vec<&'a str> {
    let fits = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
    let lines = text.lines().filter(fits);
    lines.filter_map(|line| line.rsplit(' ').next()).collect()
}

/// An embedding and what is answered to it.
fn embedding(fake: &FakeProvider) -> Ask {
    const REPLY: &[u8] = br#"{"object":"list","data":[],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    fake.on("/v1/embeddings", Reply::json(REPLY));
    Ask::post(
        "/v1/embeddings",
        r#"{"model":"text-embedding-3-small","input":"q"}"#,
    )
    .header("authorization", "Bearer sk-users-own-key-0123456789")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_counted_once_under_the_conventions_names() {
    let (fake, gateway) = started(Offers::Both, "").await;
    let mut session = gateway.client().open("api.openai.com", Http::V2).await;
    for ask in [embedding(&fake), ask(CHAT_STREAM.request)] {
        let answer = session.send(ask).await;
        let id = answer.request_id();
        answer.bytes().await;
        gateway.record(&id).await;
    }
    let text = gateway.metrics().await;
    let of = |name: &str, labels: &[&str]| values(&text, name, labels);
    for (name, labels, want) in [
        (
            "causeway_interceptions_total{",
            &["api=\"chat_completions\"", "outcome=\"completed\""][..],
            "1",
        ),
        (
            "causeway_interceptions_total{",
            &["api=\"embeddings\"", "outcome=\"completed\""],
            "1",
        ),
        ("causeway_interceptions_inflight{", &["provider=\"openai\""], "0"),
        ("causeway_prompts_total{", &["provider=\"openai\""], "1"),
        (
            "causeway_tokens_total{",
            &["model=\"gpt-5.2\"", "type=\"cache_read\""],
            "20",
        ),
        (
            "gen_ai_client_operation_duration_count{",
            &["gen_ai_operation_name=\"embeddings\""],
            "1",
        ),
        (
            "gen_ai_client_operation_duration_count{",
            &["gen_ai_operation_name=\"chat\""],
            "1",
        ),
    ] {
        assert_eq!(of(name, labels), [want], "{name} {labels:?} in {text}");
    }
    let output = [
        "gen_ai_operation_name=\"embeddings\"",
        "gen_ai_token_type=\"output\"",
    ];
    let outputs = of("gen_ai_client_token_usage_count{", &output);
    assert!(
        outputs.iter().all(|count| *count == "0"),
        "embeddings have no output: {outputs:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_price_is_unpriced_and_not_free() {
    let (fake, gateway) = started(Offers::Both, "").await;
    let renamed = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .unwrap()
            .replace("gpt-5.2", "gpt-new")
    };
    fake.on(
        cases::CHAT.path,
        Reply::json(renamed(cases::CHAT.reply).leak().as_bytes()),
    );
    let answer = sent(&gateway, Http::V2, ask(renamed(cases::CHAT.request))).await;
    let id = answer.request_id();
    answer.bytes().await;
    let record = gateway.record(&id).await;
    assert_eq!(record["usage"][0]["input"], 100, "{record}");
    assert_eq!(record["usage"][0]["cost_micros"], Value::Null, "{record}");
    let unpriced = r#"causeway_unpriced_total{provider="openai",model="gpt-new"}"#;
    assert_eq!(gateway.metric(unpriced).await, 1);
    let sessions = gateway.list("/api/v1/sessions").await;
    assert_eq!(sessions[0]["cost_micros"], Value::Null);
    assert_eq!(sessions[0]["unpriced"], 1);
}

/// A zstd frame with one raw block (RFC 8878).
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let block = (length << 3 | 1).to_le_bytes();
    [
        &[0x28, 0xb5, 0x2f, 0xfd, 0xa0],
        &length.to_le_bytes()[..],
        &block[..3],
        bytes,
    ]
    .concat()
}

/// A gzip member with one stored block (RFC 1951, 1952).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let crc = bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    });
    [
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1][..],
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        bytes,
        &(!crc).to_le_bytes(),
        &u32::from(length).to_le_bytes(),
    ]
    .concat()
}
