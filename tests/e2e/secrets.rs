//! Secrets stay where they belong: nothing internal and no gateway token reaches a provider, and neither the
//! token nor a user's own key is in the log, the metrics, the API or the database.
//!
//! `world` plants secrets of every kind and knows where each may be, `paths` is the table of what can go wrong with
//! requests; `sockets`, `outage` and `commands` are the same for WebSockets, a store that is away, and the console.

mod commands;
mod mistakes;
mod outage;
mod paths;
mod planted;
mod sockets;
mod world;

use ::bytes::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::SinkExt as _;
use http::{HeaderMap, HeaderName};
use tokio_tungstenite::tungstenite::Message;

use crate::cases::{self, Case};
use crate::client::{Ask, Http, base_url, basic};
use crate::fake::{FakeProvider, Offers, Seen, SocketProvider, completed};
use crate::harness::{Gateway, Settings};
use crate::websocket::open_http1;

const KEY: &str = "sk-planted-byok-key-7f3a9c51d2e8";

/// Headers that are the gateway's business alone; each value is planted, to be searched for.
const INTERNAL: [(&str, &str); 9] = [
    ("X-Coder-Owner-Id", "planted-owner"),
    ("x-coder-ai-governance-request-id", "planted-request"),
    ("X-CODER-anything", "planted-anything"),
    ("Coder-Session-Token", "planted-session"),
    ("coder-desktop", "planted-desktop"),
    ("X-AI-Bridge-Actor-Id", "planted-actor"),
    ("x-ai-bridge-actor-metadata-email", "planted-mail"),
    ("Proxy-Authenticate", "planted-challenge"),
    ("Proxy-Anything", "planted-proxy"),
];

fn with_internal_headers(mut ask: Ask) -> Ask {
    for (name, value) in INTERNAL {
        ask = ask.header(name, value);
    }
    ask
}

fn request(case: &Case, path: String) -> Ask {
    let (name, value) = case.key_header(KEY);
    with_internal_headers(Ask::post(path, case.request)).header(name, value)
}

fn check_upstream(seen: &Seen, case: &Case, token: &str) {
    for (name, value) in &seen.headers {
        let name = name.as_str();
        let internal = ["x-coder-", "coder-", "x-ai-bridge-actor", "proxy-"];
        assert!(
            !internal.iter().any(|prefix| name.starts_with(prefix)),
            "{}: {name} got out",
            case.name
        );
        let value = String::from_utf8_lossy(value.as_bytes());
        assert!(
            !value.contains(token),
            "{}: the gateway's token got out in {name}",
            case.name
        );
        let planted = INTERNAL.iter().any(|(_, secret)| value.contains(secret));
        assert!(!planted, "{}: {value} got out in {name}", case.name);
    }
    let (header, value) = case.key_header(KEY);
    assert_eq!(
        seen.header(header),
        value,
        "{}: the user's own key arrives",
        case.name
    );
}

/// Where `secret` stands in clear or as part of Basic credentials.
fn holds(bytes: &[u8], secret: &str) -> bool {
    let encoded = STANDARD.encode(format!("ignored:{secret}"));
    [secret, &encoded]
        .iter()
        .any(|text| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
}

async fn check_nothing_is_kept(gateway: &Gateway) {
    let token = gateway.token();
    let mut places = vec![
        ("the log".to_owned(), gateway.stderr()),
        ("/metrics".to_owned(), gateway.metrics().await.into_bytes()),
    ];
    for path in ["interceptions", "sessions", "providers", "users", "clients", "me"] {
        let path = format!("/api/v1/{path}");
        places.push((path.clone(), gateway.answer_of(&path).await));
    }
    for record in gateway.list("/api/v1/interceptions").await {
        let path = format!("/api/v1/interceptions/{}", record["id"].as_str().unwrap());
        places.push((path.clone(), gateway.answer_of(&path).await));
    }
    for (path, bytes) in gateway.files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name != "token" {
            places.push((name, bytes));
        }
    }
    for (place, bytes) in places {
        for secret in [token.as_str(), KEY] {
            assert!(
                !holds(&bytes, secret),
                "{place} holds a secret that begins with {}",
                &secret[..3]
            );
        }
    }
}

async fn send_everything(fake: &FakeProvider, gateway: &Gateway) {
    let token = gateway.token();
    for http in [Http::V1, Http::V2] {
        for case in &cases::ALL {
            let mut session = gateway.client().open(case.host, http).await;
            let ask = request(case, case.path.to_owned()).header("Proxy-Authorization", basic(&token));
            let answer = session.send(ask).await;
            let id = answer.request_id();
            answer.bytes().await;
            check_upstream(&fake.last_request(), case, &token);
            gateway.record(&id).await;
        }
    }
    for case in &cases::ALL {
        let ask = request(case, format!("/{}{}", case.provider, case.path));
        let ask = ask.header("X-Coder-AI-Governance-Token", &token);
        let answer = base_url(gateway.bridge()).await.send(ask).await;
        let id = answer.request_id();
        answer.bytes().await;
        check_upstream(&fake.last_request(), case, &token);
        gateway.record(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_by_the_wrong_door() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake).log("trace")).await;
    send_everything(&fake, &gateway).await;
    check_nothing_is_kept(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_kept_when_the_provider_refuses() {
    let fake = FakeProvider::start(Offers::Both).await;
    for (case, status) in cases::ALL.iter().zip([401, 401, 500, 500, 429, 529]) {
        fake.on(case.path, cases::CHAT.scripted().status(status));
    }
    let gateway = Gateway::start(Settings::in_front_of(&fake).log("trace")).await;
    let case = cases::CHAT;
    for case in [case, cases::RESPONSES, cases::MESSAGES] {
        let mut session = gateway.client().open(case.host, Http::V2).await;
        let answer = session.send(request(&case, case.path.to_owned())).await;
        let id = answer.request_id();
        answer.bytes().await;
        gateway.record(&id).await;
    }
    check_nothing_is_kept(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_token_alone_never_becomes_the_users_key() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake).log("trace")).await;
    let token = gateway.token();
    for case in &cases::ALL {
        // With no key of the user's and none of the gateway's there is nothing to send upstream.
        let (name, value) = case.key_header(&token);
        let ask = Ask::post(format!("/{}{}", case.provider, case.path), case.request).header(name, value);
        let answer = base_url(gateway.bridge()).await.send(ask).await;
        assert!(answer.status >= 400, "{}: {}", case.name, answer.status);
        answer.bytes().await;
    }
    for seen in fake.requests() {
        assert!(
            !format!("{:?}", seen.headers).contains(&token),
            "the token went upstream"
        );
    }
    check_nothing_is_kept(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_by_a_socket() {
    let case = cases::RESPONSES;
    let mut provider = SocketProvider::start().await;
    let gateway = Gateway::start(provider.settings().log("trace")).await;
    let token = gateway.token();
    let mut headers = HeaderMap::new();
    let own = case.key_header(KEY);
    let internal = INTERNAL.map(|(name, value)| (name, value.to_owned()));
    for (name, value) in internal
        .into_iter()
        .chain([own, ("Proxy-Authorization", basic(&token))])
    {
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let io = gateway.client().open_tls(case.host).await;
    let (mut client, answer) = open_http1(io, case.host, case.path, headers).await.unwrap();
    let mut upstream = provider.opened().await;
    let (head, ()) = upstream.request.clone().into_parts();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        version: head.version,
        authority: String::new(),
        headers: head.headers,
        body: Bytes::new(),
    };
    check_upstream(&seen, &case, &token);
    let create = r#"{"type":"response.create","model":"m","input":"hi"}"#;
    client.send(Message::text(create)).await.unwrap();
    upstream.event().await;
    upstream.send(None, completed("r", 1)).await;
    let id = answer["x-causeway-request-id"].to_str().unwrap();
    gateway.record(id).await;
    check_nothing_is_kept(&gateway).await;
}
