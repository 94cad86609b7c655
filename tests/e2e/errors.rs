//! When the gateway itself must answer, clients can read it: the status they understand, a body in their
//! provider's own shape, and a record where there was a request to record.

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::cases::{self, Case};
use crate::client::{Answer, Ask, Head, Http, assert_same, base_url, exchange_raw};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

async fn started_with(change: impl FnOnce(Settings) -> Settings) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(change(Settings::in_front_of(&fake))).await;
    (fake, gateway)
}

/// A request of base-URL mode, with a user's own key.
fn at_base_url(gateway: &Gateway, case: &Case, path: &str) -> Ask {
    let (name, value) = case.key_header("sk-user");
    Ask::post(path, case.request)
        .header(name, value)
        .header("x-coder-ai-governance-token", gateway.token())
}

/// Checks that the body is an error as this API's clients know it, and gives its message.
async fn message_in_shape(anthropic: bool, answer: Answer) -> String {
    let content_type = answer.header("content-type").to_owned();
    message_of(anthropic, &content_type, &answer.json().await)
}

fn message_of(anthropic: bool, content_type: &str, body: &Value) -> String {
    assert!(content_type.starts_with("application/json"), "{content_type}");
    let kind = if anthropic { "error".into() } else { Value::Null };
    assert_eq!(body["type"], kind, "{body}");
    assert!(body["error"]["type"].is_string(), "{body}");
    let message = body["error"]["message"]
        .as_str()
        .unwrap_or_else(|| panic!("no message in {body}"));
    assert!(!message.is_empty());
    message.to_owned()
}

/// An address at which nobody listens.
async fn closed_port() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_is_a_502_and_on_record_as_failed() {
    let fake = FakeProvider::start(Offers::Both).await;
    let gateway = Gateway::start(Settings::in_front_of_address(closed_port().await, fake.ca_file())).await;
    for case in [cases::CHAT, cases::RESPONSES_STREAM, cases::MESSAGES] {
        let (name, value) = case.key_header("sk-user");
        let ask = Ask::post(case.path, case.request).header(name, value);
        let answer = gateway.client().open(case.host, Http::V2).await.send(ask).await;
        assert_eq!(answer.status, 502, "{}", case.name);
        let id = answer.request_id();
        let message = message_in_shape(case.api == "messages", answer).await;
        assert!(!message.contains("os error"), "{message}");
        let record = gateway.record(&id).await;
        assert_eq!(record["outcome"], "failed", "{}: {record}", case.name);
        assert_eq!(record["status"], 502, "{}: {record}", case.name);
        assert!(record["error_kind"].is_string(), "{}: {record}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_with_an_untrusted_certificate_gets_no_request() {
    let (fake, other) = (
        FakeProvider::start(Offers::Both).await,
        FakeProvider::start(Offers::Both).await,
    );
    let gateway = Gateway::start(Settings::in_front_of_address(fake.address(), other.ca_file())).await;
    let ask = Ask::post(cases::CHAT.path, cases::CHAT.request).header("authorization", "Bearer sk-user");
    let answer = gateway
        .client()
        .open(cases::CHAT.host, Http::V1)
        .await
        .send(ask)
        .await;
    assert_eq!(answer.status, 502);
    message_in_shape(false, answer).await;
    assert!(fake.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_provider_passes_through_and_is_on_record_as_failed() {
    let (fake, gateway) = started_with(|settings| settings).await;
    let case = cases::MESSAGES;
    fake.on(
        case.path,
        case.scripted()
            .status(529)
            .header("retry-after", "7")
            .header("request-id", "req_provider"),
    );
    let (name, value) = case.key_header("sk-user");
    let ask = Ask::post(case.path, case.request).header(name, value);
    let answer = gateway.client().open(case.host, Http::V1).await.send(ask).await;
    assert_eq!(answer.status, 529);
    assert_eq!(answer.header("retry-after"), "7");
    assert_eq!(answer.header("request-id"), "req_provider");
    let id = answer.request_id();
    assert_same(&answer.bytes().await, case.reply, case.name);
    let record = gateway.record(&id).await;
    assert_eq!(record["outcome"], "failed", "{record}");
    assert_eq!(record["status"], 529, "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_places_of_base_url_mode_are_a_404_in_shape() {
    let (fake, gateway) = started_with(|settings| settings).await;
    let cases = [
        ("/nobody/v1/chat/completions", cases::CHAT, false),
        ("/openai/v1/organization/admin_api_keys", cases::CHAT, false),
        ("/anthropic/v1/organizations/api_keys", cases::MESSAGES, true),
    ];
    for (path, case, anthropic) in cases {
        let answer = base_url(gateway.bridge())
            .await
            .send(at_base_url(&gateway, &case, path))
            .await;
        assert_eq!(answer.status, 404, "{path}");
        message_in_shape(anthropic, answer).await;
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn base_url_mode_without_a_token_is_a_401_in_shape() {
    let (fake, gateway) = started_with(|settings| settings).await;
    for case in [cases::CHAT, cases::MESSAGES] {
        let path = format!("/{}{}", case.provider, case.path);
        let answer = base_url(gateway.bridge())
            .await
            .send(Ask::post(path, case.request))
            .await;
        assert_eq!(answer.status, 401, "{}", case.name);
        message_in_shape(case.api == "messages", answer).await;
    }
    assert!(fake.requests().is_empty());
}

/// A `POST` in HTTP/1.1, by hand.
fn raw_post(host: &str, path: &str, headers: &[(&str, String)], body: &str) -> Vec<u8> {
    let fields: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_a_413_in_shape() {
    let (fake, gateway) = started_with(|settings| settings.bridge("max-body = \"1MiB\"")).await;
    let text = "x".repeat(2 * 1024 * 1024);
    for case in [cases::CHAT, cases::MESSAGES] {
        let body = format!(
            r#"{{"model":"{}","messages":[{{"role":"user","content":"{text}"}}]}}"#,
            case.want.model
        );
        let anthropic = case.api == "messages";
        let key = case.key_header("sk-user");

        let tunnel = gateway.client().open_tls(case.host).await;
        let request = raw_post(case.host, case.path, std::slice::from_ref(&key), &body);
        check_too_large(anthropic, exchange_raw(tunnel, request).await);

        let bridge = TcpStream::connect(gateway.bridge()).await.unwrap();
        let path = format!("/{}{}", case.provider, case.path);
        let headers = [key.clone(), ("X-Coder-AI-Governance-Token", gateway.token())];
        check_too_large(
            anthropic,
            exchange_raw(bridge, raw_post("bridge", &path, &headers, &body)).await,
        );

        let ask = Ask::post(case.path, body).header(key.0, key.1);
        let answer = gateway.client().open(case.host, Http::V2).await.send(ask).await;
        assert_eq!(answer.status, 413, "{} over HTTP/2", case.name);
        message_in_shape(anthropic, answer).await;
    }
    assert!(fake.requests().is_empty());
}

fn check_too_large(anthropic: bool, (head, body): (Head, Vec<u8>)) {
    assert_eq!(head.status, 413, "{head:?}");
    let body = serde_json::from_slice(&body).unwrap();
    message_of(anthropic, head.header("content-type").unwrap_or_default(), &body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_just_under_the_limit_passes() {
    let (fake, gateway) = started_with(|settings| settings.bridge("max-body = \"1MiB\"")).await;
    let case = cases::CHAT;
    let mut body = case.request.to_vec();
    body.resize(1024 * 1024, b' ');
    let ask = Ask::post(case.path, body.clone()).header("authorization", "Bearer sk-user");
    let answer = gateway.client().open(case.host, Http::V2).await.send(ask).await;
    assert_eq!(answer.status, 200);
    assert_same(&fake.last_request().body, &body, "the request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_over_64_kib_is_a_431() {
    let (fake, gateway) = started_with(|settings| settings).await;
    let filler = "x".repeat(66 * 1024);
    let with_filler = |head: &str| {
        head.replace("Host:", &format!("X-Filler: {filler}\r\nHost:"))
            .into_bytes()
    };
    let get = |host: &str| with_filler(&format!("GET /openai/v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n"));

    let proxy = TcpStream::connect(gateway.proxy()).await.unwrap();
    let connect = with_filler(&gateway.client().connect_head("api.openai.com:443"));
    assert_eq!(exchange_raw(proxy, connect).await.0.status, 431, "CONNECT");

    let bridge = TcpStream::connect(gateway.bridge()).await.unwrap();
    assert_eq!(
        exchange_raw(bridge, get("bridge")).await.0.status,
        431,
        "the bridge"
    );

    let tunnel = gateway.client().open_tls("api.openai.com").await;
    assert_eq!(
        exchange_raw(tunnel, get("api.openai.com")).await.0.status,
        431,
        "inside the tunnel"
    );
    assert!(fake.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_passes_unchanged_and_is_on_record() {
    let (fake, gateway) = started_with(|settings| settings).await;
    let bodies: [&[u8]; 4] = [
        b"{\"model\": \"gpt-5.2\", ",
        b"not json at all \xff\xfe",
        b"[1, 2",
        b"{\"model\": 7, \"stream\": \"yes\"}",
    ];
    for body in bodies {
        let ask = Ask::post(cases::CHAT.path, body).header("authorization", "Bearer sk-user");
        let answer = gateway
            .client()
            .open(cases::CHAT.host, Http::V2)
            .await
            .send(ask)
            .await;
        assert_eq!(answer.status, 200, "the provider judges it");
        let id = answer.request_id();
        assert_same(&answer.bytes().await, cases::CHAT.reply, cases::CHAT.name);
        assert_same(&fake.last_request().body, body, "the request");
        assert_eq!(gateway.record(&id).await["provider"], "openai");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_early_is_on_record_as_aborted() {
    let (fake, gateway) = started_with(|settings| settings).await;
    for http in [Http::V1, Http::V2] {
        let case = cases::MESSAGES_STREAM;
        let (reply, _gate) = case.scripted().gated();
        let first = reply.frames()[0].len();
        fake.on(case.path, reply);
        let (name, value) = case.key_header("sk-user");
        let mut session = gateway.client().open(case.host, http).await;
        let mut answer = session
            .send(Ask::post(case.path, case.request).header(name, value))
            .await;
        answer.read_to(first).await;
        let id = answer.request_id();
        drop(answer);
        drop(session);
        let record = gateway.record(&id).await;
        assert_eq!(record["outcome"], "aborted", "{http:?}: {record}");
        let usage = record["usage"]
            .as_array()
            .and_then(|all| all.last())
            .expect("what was reported is kept");
        assert_eq!(usage["input"], case.want.input, "{http:?}: {record}");
        assert_eq!(usage["source"], "partial", "{http:?}: {record}");
    }
}
