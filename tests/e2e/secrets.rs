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

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ::bytes::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::SinkExt as _;
use http::{HeaderMap, HeaderName};
use serde_json::Value;
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

/// A sign-in as ChatGPT's clients send it, with a signature that nobody checks here.
fn sign_in() -> String {
    let payload = r#"{"sub":"planted-subject","https://api.openai.com/auth":
        {"chatgpt_plan_type":"pro","chatgpt_account_id":"acct-7b1e"}}"#;
    let [head, payload] = [r#"{"alg":"RS256"}"#, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{head}.{payload}.cGxhbnRlZC1zaWduYXR1cmU")
}

/// The record of one request with this credential of a user's own.
async fn recorded(gateway: &Gateway, secret: &str) -> Value {
    let case = cases::RESPONSES;
    let (name, value) = case.key_header(secret);
    let ask = Ask::post(case.path, case.request).header(name, value);
    let answer = gateway.client().open(case.host, Http::V2).await.send(ask).await;
    let id = answer.request_id();
    answer.bytes().await;
    gateway.record(&id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_own_credential_is_recognised_and_is_nowhere_to_be_found() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let mut gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let token = sign_in();
    let (record, other) = (recorded(&gateway, &token).await, recorded(&gateway, KEY).await);
    let fingerprint = record["credential_fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(fingerprint.len(), 16, "{record}");
    assert!(
        fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{record}"
    );
    assert_eq!(record["credential_plan"], "pro", "{record}");
    assert_eq!(record["credential_account"], "acct-7b1e", "{record}");
    assert_ne!(other["credential_fingerprint"], record["credential_fingerprint"]);
    assert_eq!(other["credential_plan"], Value::Null, "{other}");

    gateway.terminate();
    assert!(gateway.ended().await);
    gateway.restart().await;
    let again = recorded(&gateway, &token).await;
    assert_eq!(again["credential_fingerprint"], fingerprint, "after a restart");
    gateway.prints("are as they were written", &["audit", "verify"]);

    let (_, key) = gateway
        .files()
        .into_iter()
        .find(|(path, _)| path.ends_with("fingerprint.key"))
        .unwrap();
    let key = String::from_utf8(key).unwrap().trim().to_owned();
    for (path, bytes) in gateway.files() {
        for secret in [token.as_str(), "cGxhbnRlZC1zaWduYXR1cmU", "planted-subject", KEY] {
            assert!(!holds(&bytes, secret), "{} holds {secret}", path.display());
        }
        assert!(path.ends_with("fingerprint.key") || !holds(&bytes, &key));
    }

    // Whoever can read the key can try credentials until a fingerprint fits.
    gateway.terminate();
    assert!(gateway.ended().await);
    let path = gateway.data_dir().join("fingerprint.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = gateway.command().arg("serve").output().unwrap();
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && errors.contains("chmod 600"),
        "{errors}"
    );
    assert!(!errors.contains(&key));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_a_key_make_the_same_fingerprints() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let mut made = Vec::new();
    for variable in ["one", "one", "two"] {
        let settings = Settings::in_front_of(&fake)
            .env("FINGERPRINTS", format!("a-key-that-processes-share-{variable}"))
            .env(
                "CAUSEWAY_RECORD__FINGERPRINT_KEY",
                "{ env = \"FINGERPRINTS\" }".to_owned(),
            );
        let gateway = Gateway::start(settings).await;
        let record = recorded(&gateway, KEY).await;
        made.push(record["credential_fingerprint"].as_str().unwrap().to_owned());
        assert!(!gateway.data_dir().join("fingerprint.key").exists());
    }
    assert_eq!(made[0], made[1]);
    assert_ne!(made[0], made[2]);
}
