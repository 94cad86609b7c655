//! The gateway's own keys: one that meets a limit or is rejected makes way for the next before the client notices,
//! and a user's own key is never exchanged for another.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cases::{self, Case};
use crate::client::{Answer, Ask, Http, assert_same, base_url};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings, eventually};

const FIRST: &str = "sk-planted-first-key-0123456789";
const SECOND: &str = "sk-planted-second-key-987654321";
const LIMITED: &[u8] = br#"{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;

fn two_keys(fake: &FakeProvider) -> Settings {
    let keys = format!("keys = [{{ literal = \"{FIRST}\" }}, {{ literal = \"{SECOND}\" }}]");
    Settings::in_front_of(fake).provider(&keys)
}

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(two_keys(&fake).log("trace")).await;
    (fake, gateway)
}

/// A request without a key of the user's own.
async fn ask(gateway: &Gateway, case: &Case, http: Http) -> Answer {
    let mut session = gateway.client().open(case.host, http).await;
    session.send(Ask::post(case.path, case.request)).await
}

fn refuse(fake: &FakeProvider, path: &str, key: &'static str, reply: Reply) {
    fake.on_if(path, move |seen| seen.key() == key, reply);
}

fn keys_seen(fake: &FakeProvider) -> Vec<String> {
    fake.requests().iter().map(|seen| seen.key().to_owned()).collect()
}

/// Neither key is anywhere but upstream.
async fn check_no_key_is_kept(gateway: &Gateway) {
    let mut places = vec![
        ("the log".to_owned(), gateway.stderr()),
        ("/metrics".to_owned(), gateway.metrics().await.into_bytes()),
        (
            "/providers".to_owned(),
            gateway.answer_of("/api/v1/providers").await,
        ),
    ];
    let files = gateway.files().into_iter();
    places.extend(files.map(|(path, bytes)| (path.display().to_string(), bytes)));
    for (place, bytes) in places {
        for key in [FIRST, SECOND] {
            let held = bytes.windows(key.len()).any(|part| part == key.as_bytes());
            assert!(!held, "{place} holds a key");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_meets_a_limit_makes_way_for_the_next() {
    let tries = [
        (cases::CHAT, Http::V1),
        (cases::CHAT_STREAM, Http::V2),
        (cases::MESSAGES, Http::V2),
        (cases::MESSAGES_STREAM, Http::V1),
    ];
    for (case, http) in tries {
        let (fake, gateway) = started().await;
        let limited = Reply::json(LIMITED).status(429).header("retry-after", "30");
        refuse(&fake, case.path, FIRST, limited);
        for attempt in 0..2 {
            let answer = ask(&gateway, &case, http).await;
            assert_eq!(answer.status, 200, "{}", case.name);
            let id = answer.request_id();
            assert_same(&answer.bytes().await, case.reply, case.name);
            let record = gateway.record(&id).await;
            assert_eq!(record["outcome"], "completed", "{record}");
            assert_eq!(record["retries"], 1 - attempt, "{record}");
            assert_eq!(record["credential_hint"], "sk-p...4321", "{record}");
        }
        assert_eq!(keys_seen(&fake), [FIRST, SECOND, SECOND], "{}", case.name);
        let bodies = fake.requests();
        assert_same(&bodies[0].body, case.request, "the first attempt");
        assert_same(&bodies[1].body, case.request, "the second attempt");

        let provider = case.provider;
        for (state, want) in [("usable", 1), ("resting", 1), ("rejected", 0)] {
            let name = format!("causeway_key_state{{provider=\"{provider}\",state=\"{state}\"}}");
            assert_eq!(gateway.metric(&name).await, want, "{name}");
        }
        let all = gateway.list("/api/v1/providers").await;
        let live = all.iter().find(|item| item["name"] == provider).unwrap();
        assert_eq!(live["keys"][0]["state"], "resting", "{live}");
        let left = live["keys"][0]["remaining_ms"].as_u64().unwrap();
        assert!((1..=30_000).contains(&left), "{live}");
        assert_eq!(live["keys"][1]["state"], "usable", "{live}");
        assert_eq!(live["breakers"][0]["state"], "closed", "{live}");
        check_no_key_is_kept(&gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_key_resting_the_shortest_rest_is_the_answer() {
    let (fake, gateway) = started().await;
    for case in [cases::CHAT, cases::MESSAGES_STREAM] {
        let limited = || Reply::json(LIMITED).status(429);
        let day = limited().header("retry-after", "86400");
        refuse(&fake, case.path, FIRST, day);
        let soon = limited().header("retry-after-ms", "20500");
        refuse(&fake, case.path, SECOND, soon);
        let before = fake.requests().len();
        for _ in 0..3 {
            let answer = ask(&gateway, &case, Http::V2).await;
            assert_eq!(answer.status, 429, "{}", case.name);
            assert_eq!(answer.header("x-causeway-reason"), "keys_resting");
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!((15..=21).contains(&wait), "{wait}");
            let body = answer.json().await;
            assert_eq!(body["error"]["type"], "rate_limit_error", "{body}");
        }
        assert_eq!(fake.requests().len() - before, 2, "each key was asked once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_rests_for_as_long_as_the_provider_says_in_whatever_form() {
    let date = time::OffsetDateTime::now_utc() + Duration::from_secs(45);
    let date = date
        .format(&time::format_description::well_known::Rfc2822)
        .unwrap();
    let date: &'static str = date.replace("+0000", "GMT").leak();
    for (name, value) in [
        ("retry-after-ms", "44500"),
        ("retry-after", "45"),
        ("retry-after", date),
        ("x-ratelimit-reset-requests", "45s"),
        ("anthropic-ratelimit-unified-reset", "45"),
    ] {
        let (fake, gateway) = started().await;
        let case = cases::CHAT;
        fake.on(case.path, Reply::json(LIMITED).status(429).header(name, value));
        for _ in 0..2 {
            let answer = ask(&gateway, &case, Http::V2).await;
            assert_eq!(
                (answer.status, answer.header("x-causeway-reason")),
                (429, "keys_resting")
            );
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!((35..=45).contains(&wait), "{name}: {wait}");
        }
        assert_eq!(keys_seen(&fake), [FIRST, SECOND], "{name}");
    }
}

fn from_file(fake: &FakeProvider, path: &Path) -> Settings {
    let keys = format!("keys = [{{ file = {:?} }}]", path.to_str().unwrap());
    Settings::in_front_of(fake).provider(&keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_key_is_not_used_until_its_file_changes() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, FIRST).unwrap();
    let gateway = Gateway::start(from_file(&fake, &path)).await;
    let case = cases::CHAT;
    refuse(&fake, case.path, FIRST, Reply::json(LIMITED).status(401));
    for _ in 0..3 {
        let answer = ask(&gateway, &case, Http::V1).await;
        assert_eq!(answer.status, 400, "a status that no client repeats");
        assert_eq!(answer.header("x-causeway-reason"), "keys_rejected");
        let body = answer.json().await;
        let message = body["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("openai") && message.contains("operator"),
            "{message}"
        );
    }
    assert_eq!(keys_seen(&fake), [FIRST]);
    fs::write(&path, format!("{SECOND}\n")).unwrap();
    eventually("the key to be read again", async || {
        (ask(&gateway, &case, Http::V2).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(keys_seen(&fake), [FIRST, SECOND]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_own_key_is_never_exchanged_and_its_limit_is_its_own() {
    let (fake, gateway) = started().await;
    for (status, http) in [(429, Http::V1), (401, Http::V2), (403, Http::V2)] {
        for case in [cases::CHAT, cases::MESSAGES_STREAM] {
            let refusal = Reply::json(LIMITED).status(status).header("retry-after", "33");
            refuse(&fake, case.path, "sk-user-one", refusal);
            for _ in 0..6 {
                let seen = fake.requests().len();
                let (name, value) = case.key_header("sk-user-one");
                let mut session = gateway.client().open(case.host, http).await;
                let answer = session
                    .send(Ask::post(case.path, case.request).header(name, value))
                    .await;
                assert_eq!(answer.status, status);
                assert_eq!(answer.header("retry-after"), "33");
                assert_same(&answer.bytes().await, LIMITED, "the provider's own words");
                assert_eq!(keys_seen(&fake)[seen..], ["sk-user-one"]);
            }
            let (name, value) = case.key_header("sk-user-two");
            let mut session = gateway.client().open(case.host, http).await;
            let other = session
                .send(Ask::post(case.path, case.request).header(name, value))
                .await;
            assert_eq!(other.status, 200, "after {status} for another user");
        }
    }
    for provider in ["openai", "anthropic"] {
        let trips = format!(
            "causeway_circuit_breaker_trips_total{{provider=\"{provider}\",endpoint=\"*\",model=\"*\"}}"
        );
        assert_eq!(gateway.metric(&trips).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_quota_is_answered_here_where_the_operator_wants_that() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake).provider("answer-429-locally = true")).await;
    let case = cases::CHAT;
    let limited = Reply::json(LIMITED).status(429).header("retry-after", "44");
    refuse(&fake, case.path, "sk-user-one", limited);
    let ask = async |key: &str| {
        let mut session = gateway.client().open(case.host, Http::V2).await;
        let (name, value) = case.key_header(key);
        session
            .send(Ask::post(case.path, case.request).header(name, value))
            .await
    };
    assert_eq!(ask("sk-user-one").await.header("x-causeway-reason"), "");
    let again = ask("sk-user-one").await;
    assert_eq!(
        (again.status, again.header("x-causeway-reason")),
        (429, "quota_spent")
    );
    let wait: u64 = again.header("retry-after").parse().unwrap();
    assert!((40..=44).contains(&wait), "{wait}");
    assert_eq!(ask("sk-user-two").await.status, 200);
    assert_eq!(keys_seen(&fake), ["sk-user-one", "sk-user-two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_tries_each_key_too_but_spoils_none() {
    let (fake, gateway) = started().await;
    fake.on("/v1/models", Reply::json(b"{\"data\":[]}"));
    refuse(&fake, "/v1/models", FIRST, Reply::json(LIMITED).status(401));
    let models = async || {
        let token = format!("Bearer {}", gateway.token());
        let ask = Ask::get("/openai/v1/models").header("authorization", token);
        base_url(gateway.bridge()).await.send(ask).await
    };
    assert_eq!(models().await.status, 200);
    assert_eq!(models().await.status, 200);
    // A user may ask for what a key has no right to; the key stays good for what it is for.
    assert_eq!(keys_seen(&fake), [FIRST, SECOND, FIRST, SECOND]);
    refuse(&fake, "/v1/models", SECOND, Reply::json(LIMITED).status(401));
    let answer = models().await;
    assert_eq!(answer.status, 401);
    assert_same(&answer.bytes().await, LIMITED, "the provider's own words");
    refuse(&fake, "/v1/models", FIRST, Reply::json(LIMITED).status(429));
    refuse(&fake, "/v1/models", SECOND, Reply::json(LIMITED).status(429));
    let answer = models().await;
    assert_eq!(answer.header("x-causeway-reason"), "keys_resting");
    assert_eq!(answer.header("retry-after"), "60");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_the_operator_says() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let settings = two_keys(&fake).env("CAUSEWAY_PROVIDER__OPENAI__KEY_HEADER", "api-key".to_owned());
    let gateway = Gateway::start(settings.log("trace")).await;
    ask(&gateway, &cases::CHAT, Http::V1).await.bytes().await;
    let mut session = gateway.client().open(cases::CHAT.host, Http::V2).await;
    let own =
        Ask::post(cases::CHAT.path, cases::CHAT.request).header("api-key", "planted-own-azure-key-4711");
    let answer = session.send(own).await;
    let id = answer.request_id();
    answer.bytes().await;
    let seen = fake.requests();
    let fields = ["api-key", "authorization", "x-api-key"];
    assert_eq!(fields.map(|name| seen[0].header(name)), [FIRST, "", ""]);
    assert_eq!(
        fields.map(|name| seen[1].header(name)),
        ["planted-own-azure-key-4711", "", ""]
    );
    let record = gateway.record(&id).await;
    assert_eq!(record["credential_kind"], "byok", "{record}");
    check_no_key_is_kept(&gateway).await;
}
