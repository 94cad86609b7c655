//! Second attempts: a failure that passes is not seen by clients with the gateway's keys, a user's own request is
//! never repeated unasked, and another instance answers only with its own key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::cases::{self, Case};
use crate::client::{Answer, Ask, Http, assert_same};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings, eventually};

const PRIMARY: &str = "sk-planted-primary-key-01234567";
const BACKUP: &str = "sk-planted-backup-key-987654321";
const ERROR: &[u8] = br#"{"error":{"message":"No","type":"server_error","param":null,"code":null}}"#;

fn settings(fake: &FakeProvider) -> Settings {
    Settings::in_front_of(fake)
        .log("trace")
        .env(
            "CAUSEWAY_PROVIDER__OPENAI__KEYS",
            format!("[{{ literal = \"{PRIMARY}\" }}]"),
        )
        .env(
            "CAUSEWAY_PROVIDER__ANTHROPIC__KEYS",
            format!("[{{ literal = \"{PRIMARY}\" }}]"),
        )
}

async fn ask(gateway: &Gateway, case: &Case, http: Http, own_key: bool) -> Answer {
    let mut ask = Ask::post(case.path, case.request).header("cookie", "session=planted-cookie");
    if own_key {
        let (name, value) = case.key_header("sk-user");
        ask = ask.header(name, value);
    }
    gateway.client().open(case.host, http).await.send(ask).await
}

/// Fails the next `count` requests on `path`.
fn fail(fake: &FakeProvider, path: &str, count: usize, reply: Reply) {
    let left = AtomicUsize::new(count);
    let takes = move |left: usize| left.checked_sub(1);
    fake.on_if(
        path,
        move |_| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, takes)
                .is_ok()
        },
        reply,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_passes_is_not_seen_by_the_client() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(settings(&fake)).await;
    let tries = [
        (502, cases::CHAT, Http::V1),
        (503, cases::CHAT_STREAM, Http::V2),
        (504, cases::MESSAGES, Http::V2),
        (529, cases::MESSAGES_STREAM, Http::V1),
    ];
    for (status, case, http) in tries {
        let seen = fake.requests().len();
        fail(&fake, case.path, 2, Reply::json(ERROR).status(status));
        let answer = ask(&gateway, &case, http, false).await;
        assert_eq!(answer.status, 200, "{status}");
        let id = answer.request_id();
        assert_same(&answer.bytes().await, case.reply, case.name);
        let attempts = &fake.requests()[seen..];
        assert_eq!(attempts.len(), 3, "{status}");
        for attempt in attempts {
            assert_same(&attempt.body, case.request, "each attempt is the same");
            assert_eq!(attempt.key(), PRIMARY);
        }
        let record = gateway.record(&id).await;
        assert_eq!(record["retries"], 2, "{record}");
        assert_eq!(record["outcome"], "completed", "{record}");

        let seen = fake.requests().len();
        fail(&fake, case.path, 1, Reply::json(ERROR).status(status));
        let answer = ask(&gateway, &case, http, true).await;
        assert_eq!(answer.status, status, "a user's own request is not repeated");
        assert_eq!(fake.requests().len() - seen, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_end_and_the_last_answer_passes() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(settings(&fake)).await;
    let case = cases::CHAT;
    fail(
        &fake,
        case.path,
        3,
        Reply::json(ERROR).status(503).header("retry-after", "0"),
    );
    let answer = ask(&gateway, &case, Http::V2, false).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("x-causeway-reason"), "", "the provider's own");
    assert_same(&answer.bytes().await, ERROR, "the last answer");
    assert_eq!(fake.requests().len(), 3);

    fail(
        &fake,
        case.path,
        1,
        Reply::json(ERROR).status(503).header("retry-after", "60"),
    );
    let answer = ask(&gateway, &case, Http::V1, false).await;
    assert_eq!(answer.status, 503, "nobody waits for a minute");
    assert_eq!(answer.header("retry-after"), "60");
    assert_eq!(fake.requests().len(), 4);

    fail(&fake, case.path, 1, Reply::json(ERROR).status(500));
    let answer = ask(&gateway, &case, Http::V1, false).await;
    assert_eq!(answer.status, 500, "it may have been paid for");
    assert_eq!(fake.requests().len(), 5);
}

/// A road on which the first `broken` connections end before TLS.
async fn bumpy_road(fake: &FakeProvider, broken: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), fake.address());
    let tried = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tried);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            if count.fetch_add(1, Ordering::SeqCst) >= broken {
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        }
    });
    (address, tried)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_cannot_be_made_is_tried_again() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let (address, tried) = bumpy_road(&fake, 2).await;
    let connect_to = ("CAUSEWAY_PROVIDER__OPENAI__CONNECT_TO", address.to_string());
    let gateway = Gateway::start(settings(&fake).env(connect_to.0, connect_to.1)).await;
    let answer = ask(&gateway, &cases::CHAT, Http::V2, false).await;
    assert_eq!(answer.status, 200);
    assert_eq!(tried.load(Ordering::SeqCst), 3);
    let id = answer.request_id();
    answer.bytes().await;
    assert_eq!(gateway.record(&id).await["retries"], 2);
}

fn with_backup(fake: &FakeProvider, backup: &FakeProvider) -> Settings {
    let entry = format!(
        "[[provider]]\nname = \"backup\"\nkind = \"openai\"\nbase-url = \"http://{}/llm/v1\"\nhosts = []\nkeys = [{{ literal = \"{BACKUP}\" }}]",
        backup.address()
    );
    settings(fake)
        .more(&entry)
        .more("[retry]\nattempts = 0\n[breaker]\nfailures = 3")
        .env("CAUSEWAY_PROVIDER__OPENAI__FALLBACK", "[\"backup\"]".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_answers_with_its_own_key_and_is_on_record() {
    let (fake, backup) = (
        FakeProvider::start(Offers::Both).await,
        FakeProvider::in_clear().await,
    );
    let gateway = Gateway::start(with_backup(&fake, &backup)).await;
    let tries = [(cases::CHAT, Http::V1), (cases::RESPONSES_STREAM, Http::V2)];
    for (case, http) in tries {
        fake.on(case.path, Reply::json(ERROR).status(503));
        backup.on(&format!("/llm{}", case.path), case.scripted());
        // The fourth and fifth find the breaker open and do not ask the first instance at all.
        for round in 0..5 {
            let answer = ask(&gateway, &case, http, false).await;
            assert_eq!(answer.status, 200, "{} {round}", case.name);
            let id = answer.request_id();
            assert_same(&answer.bytes().await, case.reply, case.name);
            let record = gateway.record(&id).await;
            assert_eq!(record["provider"], "backup", "{record}");
            assert_eq!(record["retries"], u64::from(round < 3), "{record}");
            assert_eq!(record["credential_hint"], "sk-p...4321", "{record}");
        }
    }
    assert_eq!(fake.requests().len(), 6);
    assert_eq!(backup.requests().len(), 10);
    for seen in fake.requests() {
        assert!(!format!("{:?}", seen.headers).contains(BACKUP), "the other's key");
    }
    for seen in backup.requests() {
        assert_eq!(seen.key(), BACKUP);
        let headers = format!("{:?}", seen.headers);
        for secret in [PRIMARY, "planted-cookie", &gateway.token()] {
            assert!(!headers.contains(secret), "{headers}");
        }
    }
    let completed = gateway.metrics().await;
    let count = "causeway_interceptions_total{provider=\"backup\",api=\"responses\"";
    assert!(completed.contains(count), "{completed}");
    check_no_key_is_kept(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_the_users_own_key_goes_nowhere_else() {
    let (fake, backup) = (
        FakeProvider::start(Offers::Both).await,
        FakeProvider::in_clear().await,
    );
    let gateway = Gateway::start(with_backup(&fake, &backup)).await;
    let case = cases::CHAT;
    fake.on(case.path, Reply::json(ERROR).status(503));
    backup.on(&format!("/llm{}", case.path), case.scripted());
    for _ in 0..3 {
        let answer = ask(&gateway, &case, Http::V2, true).await;
        assert_eq!(answer.header("x-causeway-reason"), "");
        assert_eq!(answer.status, 503);
    }
    let answer = ask(&gateway, &case, Http::V2, true).await;
    assert_eq!(answer.header("x-causeway-reason"), "circuit_open");
    assert!(backup.requests().is_empty());
    assert!(fake.requests().iter().all(|seen| seen.key() == "sk-user"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_answers_where_every_key_rests() {
    let (fake, backup) = (
        FakeProvider::start(Offers::Both).await,
        FakeProvider::in_clear().await,
    );
    let gateway = Gateway::start(with_backup(&fake, &backup)).await;
    let case = cases::CHAT;
    fake.on(case.path, Reply::json(ERROR).status(429));
    backup.on(&format!("/llm{}", case.path), case.scripted());
    for _ in 0..3 {
        assert_eq!(ask(&gateway, &case, Http::V1, false).await.status, 200);
    }
    assert_eq!(fake.requests().len(), 1);
    assert_eq!(backup.requests().len(), 3);
}

/// A first instance that fails, and one that would answer, under these rules.
async fn governed(rules: &str) -> (FakeProvider, FakeProvider, Gateway) {
    let (fake, backup) = (
        FakeProvider::start(Offers::Both).await,
        FakeProvider::in_clear().await,
    );
    let case = cases::CHAT;
    fake.on(case.path, Reply::json(ERROR).status(503));
    backup.on(&format!("/llm{}", case.path), case.scripted());
    let gateway = Gateway::start(with_backup(&fake, &backup).more(rules)).await;
    (fake, backup, gateway)
}

/// Asks once; gives the status, the gateway's reason, and the record.
async fn outcome(gateway: &Gateway) -> (u16, String, Value) {
    let answer = ask(gateway, &cases::CHAT, Http::V2, false).await;
    let (status, id) = (answer.status, answer.request_id());
    let reason = answer.header("x-causeway-reason").to_owned();
    answer.bytes().await;
    (status, reason, gateway.record(&id).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_instance_answers_counts_on_its_budget_alone() {
    let budgets = "[[budget]]\nname = \"first\"\nproviders = [\"openai\"]\nperiod = \"day\"\ntokens = 1
        [[budget]]\nname = \"second\"\nproviders = [\"backup\"]\nperiod = \"day\"\ntokens = 1
        [[limit]]\nproviders = [\"openai\"]\nconcurrent = 1";
    let (fake, backup, gateway) = governed(budgets).await;
    let (status, _, record) = outcome(&gateway).await;
    assert_eq!((status, &record["provider"]), (200, &"backup".into()), "{record}");
    // The second's is used up, so it is passed over; nothing of the first's is.
    for _ in 0..2 {
        let (status, reason, record) = outcome(&gateway).await;
        assert_eq!(
            (status, reason.as_str()),
            (503, ""),
            "the first instance's own answer"
        );
        assert_eq!(record["provider"], "openai", "{record}");
    }
    let (status, reason, record) = outcome(&gateway).await;
    assert_eq!((status, reason.as_str()), (503, "circuit_open"));
    assert_eq!(
        (&record["outcome"], &record["error_kind"]),
        (&"refused".into(), &"circuit_open".into()),
        "{record}"
    );
    assert_eq!((fake.requests().len(), backup.requests().len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_has_a_place_for_a_call_only_while_it_answers_it() {
    let limits =
        "[[limit]]\nproviders = [\"backup\"]\nconcurrent = 1\n[[limit]]\nper = \"user\"\nconcurrent = 2";
    let (_fake, backup, gateway) = governed(limits).await;
    let case = cases::CHAT;
    let (held, heads) = case.scripted().held();
    backup.on(&format!("/llm{}", case.path), held);
    let asked = ask(&gateway, &case, Http::V1, false);
    tokio::pin!(asked);
    let second = async {
        eventually("the first call at the other instance", async || {
            (backup.requests().len() == 1).then_some(())
        })
        .await;
        let (status, reason, record) = outcome(&gateway).await;
        assert_eq!((status, reason.as_str()), (503, ""), "{record}");
        heads.add_permits(1_000);
    };
    let (first, ()) = tokio::join!(asked, second);
    assert_eq!(first.status, 200);
    first.bytes().await;
    let (status, _, record) = outcome(&gateway).await;
    assert_eq!((status, &record["provider"]), (200, &"backup".into()), "{record}");
}

/// Neither key is anywhere but upstream.
async fn check_no_key_is_kept(gateway: &Gateway) {
    let mut places = vec![
        gateway.stderr(),
        gateway.metrics().await.into_bytes(),
        gateway.answer_of("/api/v1/providers").await,
    ];
    places.extend(gateway.files().into_iter().map(|(_, bytes)| bytes));
    for bytes in places {
        for key in [PRIMARY, BACKUP] {
            let held = bytes.windows(key.len()).any(|part| part == key.as_bytes());
            assert!(
                !held,
                "a key in {:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
            );
        }
    }
}
