//! What the gateway answers itself, one by one: each refusal's status, headers and words, and no credential where it
//! does not belong.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::cases::{self, CHAT, Case, MESSAGES};
use crate::client::{Answer, Ask, Http, base_url};
use crate::fake::{FakeProvider, Offers, Reply, Seen};
use crate::harness::{Gateway, Settings, eventually};
use crate::postgres::Postgres;
use crate::raw::read_to;

const RULES: &str = "
    [[policy.rule]]
    providers = [\"copilot\"]
    deny = [\"*\"]
    [[budget]]
    name = \"purse\"
    providers = [\"openai\"]
    period = \"day\"
    money = 1
    unpriced = \"refuse\"
    [[limit]]
    users = [\"nobody\"]
    per = \"user\"
    requests-per-second = 0.01
    burst = 1
    [[limit]]
    users = [\"pair\"]
    requests-per-second = 0.01
    burst = 1";

/// A refusal as the client sees it.
struct Want {
    status: u16,
    reason: &'static str,
    /// The type of the error in its provider's words.
    kind: &'static str,
    /// A part of the message.
    says: &'static str,
    /// Whether it says when to ask again.
    waits: bool,
}

const fn want(status: u16, reason: &'static str, kind: &'static str, says: &'static str) -> Want {
    Want {
        status,
        reason,
        kind,
        says,
        waits: false,
    }
}

async fn check(name: &str, answer: Answer, want: &Want) {
    assert_eq!(answer.status, want.status, "{name}");
    assert_eq!(answer.header("x-causeway-reason"), want.reason, "{name}");
    assert_eq!(answer.header("content-type"), "application/json", "{name}");
    assert!(!answer.request_id().is_empty(), "{name}");
    let wait = answer.header("retry-after").parse::<u64>();
    assert_eq!(wait.is_ok_and(|wait| wait > 0), want.waits, "{name}");
    let challenge = answer.header("www-authenticate").to_owned();
    assert_eq!(
        challenge.starts_with("Bearer "),
        want.status == 401,
        "{name}: {challenge}"
    );
    let body: Value = answer.json().await;
    assert_eq!(body["error"]["type"], want.kind, "{name}: {body}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("Causeway: ") && message.contains(want.says),
        "{name}: {message}"
    );
}

/// A call at the bridge's own address.
fn call(path: &str, token: Option<&str>, own_key: bool) -> Ask {
    let mut ask = Ask::post(path.to_owned(), CHAT.request);
    if let Some(token) = token {
        ask = ask.header("x-coder-ai-governance-token", token);
    }
    if own_key {
        ask = ask.header("authorization", "Bearer sk-user");
    }
    ask
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_bridges_address_each_refusal_has_its_status_headers_and_words() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake).more(RULES)).await;
    let token = gateway.token();
    let request = "invalid_request_error";
    let path = "/openai/v1/chat/completions";
    let tries = [
        (
            call("/nobody/v1/chat/completions", Some(&token), true),
            want(404, "unknown_provider", request, "/<provider>/"),
        ),
        (
            call("/openai/v1/organization/users", Some(&token), true),
            want(404, "unknown_route", request, "`openai`"),
        ),
        (
            call(path, None, false),
            want(401, "token_missing", "authentication_error", "token"),
        ),
        (
            call(path, Some("cw_unknown"), true),
            want(401, "token_unknown", "authentication_error", "token"),
        ),
        (
            call(path, Some(&token), false),
            want(400, "no_credential", request, "`openai`"),
        ),
    ];
    for (ask, want) in tries {
        check(
            want.reason,
            base_url(gateway.bridge()).await.send(ask).await,
            &want,
        )
        .await;
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_proxy_each_refusal_has_its_status_headers_and_words() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let (reply, _heads) = CHAT.scripted().held();
    fake.on_if(CHAT.path, |seen: &Seen| seen.model() == "gpt-5", reply);
    let settings = Settings::in_front_of(&fake)
        .more(RULES)
        .env("CAUSEWAY_UPSTREAM__RESPONSE_TIMEOUT", "500ms".to_owned());
    let gateway = Gateway::start(settings).await;
    let ask = |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
        Ask::post(CHAT.path, body.to_string()).header("authorization", "Bearer sk-user")
    };
    let client = gateway.client();
    for http in [Http::V1, Http::V2] {
        let tries = [
            (
                "api.individual.githubcopilot.com",
                Ask::get("/models"),
                want(
                    400,
                    "provider_not_allowed",
                    "invalid_request_error",
                    "not allowed",
                ),
            ),
            (
                CHAT.host,
                ask("nobody-prices-this"),
                want(400, "model_without_price", "invalid_request_error", "`purse`"),
            ),
            (
                CHAT.host,
                ask("gpt-5"),
                want(504, "upstream_timeout", "server_error", "`openai`"),
            ),
        ];
        for (host, ask, want) in tries {
            check(want.reason, client.open(host, http).await.send(ask).await, &want).await;
        }
    }
    for (user, status, kind) in [
        ("nobody", 429, "rate_limit_error"),
        ("pair", 503, "overloaded_error"),
    ] {
        let (_, token) = gateway.new_token(user);
        let (name, value) = MESSAGES.key_header("sk-user");
        let asked = async || {
            let ask = Ask::post(MESSAGES.path, MESSAGES.request).header(name, value.clone());
            let mut session = gateway.client_of(&token).open(MESSAGES.host, Http::V2).await;
            session.send(ask).await
        };
        assert_eq!(asked().await.status, 200, "{user}");
        let mut want = want(status, "too_many_requests", kind, "try again in");
        want.waits = true;
        check(user, asked().await, &want).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_does_not_keep_up_says_so_in_the_words_of_each_api() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    // Timers are never early.
    let gateway = Gateway::start(Settings::in_front_of(&fake).more("[shed]\nlag = \"0s\"\n")).await;
    let asked = async |case: Case| {
        let (name, value) = case.key_header("sk-user");
        let ask = Ask::post(case.path, case.request).header(name, value);
        gateway.client().open(case.host, Http::V2).await.send(ask).await
    };
    eventually("the first measurement", async || {
        (asked(CHAT).await.status == 503).then_some(())
    })
    .await;
    for (case, kind) in [(CHAT, "server_error"), (MESSAGES, "overloaded_error")] {
        let mut want = want(503, "overloaded", kind, "too much to do");
        want.waits = true;
        check(case.host, asked(case).await, &want).await;
    }
    assert!(
        gateway
            .metric("causeway_refusals_total{reason=\"overloaded\"}")
            .await
            >= 3
    );
}

/// Sends the beginning of a call at the bridge's address, and reads what comes back for it.
async fn begun(gateway: &Gateway, token: &str) -> String {
    let mut io = TcpStream::connect(gateway.bridge()).await.unwrap();
    let begin = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: bridge\r\nx-coder-ai-governance-token: {token}\r\n\
         authorization: Bearer sk-user\r\ncontent-length: 100\r\n\r\n{{\"model\":"
    );
    io.write_all(begin.as_bytes()).await.unwrap();
    read_to(&mut io, "\r\n\r\n").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_coming_is_a_408() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let head = begun(&gateway, &gateway.token()).await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(head.contains("x-causeway-reason: body_too_slow\r\n"), "{head}");
    assert!(fake.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_looked_up_is_a_503_and_not_an_unknown_one() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let settings = Settings::in_front_of(&fake).env("CAUSEWAY_STORE__URL", server.database("records"));
    let gateway = Gateway::start(settings).await;
    server.stop();
    let head = begun(&gateway, "cw_000000000000000000000000000000000000000000000000").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(
        head.contains("x-causeway-reason: identity_unavailable\r\n"),
        "{head}"
    );
    // One that is known is good without the store.
    let ask = call("/openai/v1/chat/completions", Some(&gateway.token()), true);
    assert_eq!(base_url(gateway.bridge()).await.send(ask).await.status, 200);
}

/// The instances that one provider here stands for, with the secrets that belong to each: the gateway's key and the
/// user's own.
const SECRETS: [(&str, &str, &str); 2] = [
    (
        "api.openai.com",
        "sk-planted-key-of-openai-001",
        "sk-planted-own-openai-002",
    ),
    (
        "api.anthropic.com",
        "sk-planted-key-of-anthropic-003",
        "sk-planted-own-anthropic-004",
    ),
];

fn check_credentials(seen: &Seen, token: &str) {
    let headers = format!("{:?}", seen.headers);
    assert!(!headers.contains(token), "{headers}");
    for (host, keys, own) in SECRETS {
        let belongs = seen.authority.starts_with(host);
        let holds = headers.contains(keys) || headers.contains(own);
        assert!(
            belongs || !holds,
            "what belongs to {host} is at {}: {headers}",
            seen.authority
        );
        assert!(
            !(headers.contains(keys) && headers.contains(own)),
            "both: {headers}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_of_one_provider_reaches_another() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    fake.on("/v1/models", Reply::json(b"{\"data\":[]}"));
    let keys = |key: &str| format!("[{{ literal = \"{key}\" }}]");
    let settings = Settings::in_front_of(&fake)
        .env("CAUSEWAY_PROVIDER__OPENAI__KEYS", keys(SECRETS[0].1))
        .env("CAUSEWAY_PROVIDER__ANTHROPIC__KEYS", keys(SECRETS[1].1));
    let gateway = Gateway::start(settings).await;
    let token = gateway.token();
    let own = |case: &Case| SECRETS[usize::from(case.provider == "anthropic")].2;
    let mut with_keys = 0;
    // Providers in turn on the same client, so that a connection, a pool or a header that is mixed up shows.
    for round in 0..2 {
        let http = [Http::V1, Http::V2][round];
        for case in &cases::ALL {
            for own_key in [false, true] {
                let asks = [
                    (Ask::post(case.path, case.request), false),
                    (
                        Ask::post(format!("/{}{}", case.provider, case.path), case.request),
                        true,
                    ),
                    (Ask::get(format!("/{}/v1/models", case.provider)), true),
                ];
                for (mut ask, at_bridge) in asks {
                    if own_key {
                        let (name, value) = case.key_header(own(case));
                        ask = ask.header(name, value);
                    }
                    let answer = if at_bridge {
                        let ask = ask.header("x-coder-ai-governance-token", &token);
                        base_url(gateway.bridge()).await.send(ask).await
                    } else {
                        gateway.client().open(case.host, http).await.send(ask).await
                    };
                    answer.bytes().await;
                }
            }
        }
    }
    for seen in fake.requests() {
        check_credentials(&seen, &token);
        let headers = format!("{:?}", seen.headers);
        with_keys += usize::from(SECRETS.iter().any(|(_, keys, _)| headers.contains(keys)));
    }
    assert!(
        with_keys >= 2 * 2 * 3,
        "the gateway's keys were used: {with_keys}"
    );
}
