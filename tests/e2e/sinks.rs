//! Sinks: whatever has ended arrives, signed and without texts unless they are asked for, also after failures and
//! kills; and no request notices.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aws_lc_rs::hmac;
use serde_json::Value;

use crate::cases::{self, ARGUMENTS, CHAT, MESSAGES, PROMPT};
use crate::client::{Ask, base_url};
use crate::fake::{FakeProvider, Offers, Reply, Seen};
use crate::harness::{Gateway, Settings, eventually};
use crate::otlp::{self, AnyValue};
use crate::postgres::Postgres;

const SECRET: &str = "whsec_5f1d7c0e9ab24368";
const OK: &[u8] = b"{}";

async fn call_as(gateway: &Gateway, token: &str, case: &cases::Case) -> String {
    let (name, value) = case.key_header("sk-user");
    let ask = Ask::post(format!("/{}{}", case.provider, case.path), case.request)
        .header(name, value)
        .header("x-coder-ai-governance-token", token);
    let answer = base_url(gateway.bridge()).await.send(ask).await;
    assert_eq!(answer.status, 200);
    let id = answer.request_id();
    answer.bytes().await;
    id
}

async fn call(gateway: &Gateway) -> String {
    call_as(gateway, &gateway.token(), &CHAT).await
}

/// A call of a user whom a front proxy names.
async fn call_behind_a_front(bridge: SocketAddr) -> String {
    let (name, value) = CHAT.key_header("sk-user");
    let ask = Ask::post(format!("/{}{}", CHAT.provider, CHAT.path), CHAT.request)
        .header(name, value)
        .header("x-forwarded-user", "ann");
    let answer = base_url(bridge).await.send(ask).await;
    assert_eq!(answer.status, 200);
    let id = answer.request_id();
    answer.bytes().await;
    id
}

/// Waits until a metric of the webhook has this value.
async fn metric_becomes(gateway: &Gateway, name: &str, want: u64) {
    let name = format!("{name}{{sink=\"siem\"}}");
    eventually(&name, async || {
        (gateway.metric(&name).await == want).then_some(())
    })
    .await;
}

/// The interceptions of a delivery.
fn items(seen: &Seen) -> Vec<Value> {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    body["items"].as_array().unwrap().clone()
}

fn ids(items: &[Value]) -> HashSet<String> {
    let id = |item: &Value| item["request_id"].as_str().unwrap().to_owned();
    items.iter().map(id).collect()
}

/// Fails unless the delivery is signed as the documents say.
fn check_signature(seen: &Seen) {
    let signature = seen.header("x-causeway-signature");
    let (time, tag) = signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let signed = [time.as_bytes(), b".", &seen.body].concat();
    let tag: Vec<u8> = (0..tag.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap())
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hmac::verify(&key, &signed, &tag).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now.abs_diff(time.parse().unwrap()) < 60, "{time}");
}

fn webhook(url: &str, more: &str) -> String {
    format!(
        "[[sink]]\nname = \"siem\"\nkind = \"webhook\"\nurl = \"{url}\"\nsecret = {{ env = \"HOOK\" }}\n{more}\n"
    )
}

/// The deliveries to the path, as soon as they hold all of `wanted`.
async fn deliveries(receiver: &FakeProvider, path: &str, wanted: &[String]) -> Vec<Seen> {
    eventually("the deliveries", async || {
        let seen: Vec<Seen> = receiver
            .requests()
            .into_iter()
            .filter(|seen| seen.path == path)
            .collect();
        let got: HashSet<String> = seen.iter().flat_map(|seen| ids(&items(seen))).collect();
        wanted.iter().all(|id| got.contains(id)).then_some(seen)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_signed_batches_and_again_after_a_failure() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    // The receiver fails once, on the way that upstreams are reached too: with TLS, and the operator's own root.
    let failures = Arc::new(AtomicUsize::new(0));
    let count = failures.clone();
    fake.on("/hook", Reply::json(OK));
    fake.on_if(
        "/hook",
        move |_| count.fetch_add(1, Ordering::SeqCst) == 0,
        Reply::json(OK).status(500),
    );
    let url = format!("https://localhost:{}/hook", fake.address().port());
    let settings = Settings::in_front_of(&fake)
        .env("HOOK", SECRET.to_owned())
        .log("trace")
        .more(&webhook(&url, "providers = [\"openai\"]\nusers = [\"admin\"]"));
    let gateway = Gateway::start(settings).await;
    let (_, ann) = gateway.new_token("ann");
    call_as(&gateway, &ann, &CHAT).await;
    call_as(&gateway, &gateway.token(), &MESSAGES).await;
    let id = call(&gateway).await;

    let seen = deliveries(&fake, "/hook", std::slice::from_ref(&id)).await;
    eventually("the second attempt", async || {
        (failures.load(Ordering::SeqCst) >= 2).then_some(())
    })
    .await;
    let again = deliveries(&fake, "/hook", std::slice::from_ref(&id)).await;
    assert_eq!(again[0].body, again[1].body);
    assert_eq!(
        again[0].header("idempotency-key"),
        again[1].header("idempotency-key")
    );
    for seen in &again {
        check_signature(seen);
        assert_eq!(ids(&items(seen)), HashSet::from([id.clone()]), "only what fits");
        let body = String::from_utf8_lossy(&seen.body);
        assert!(!body.contains(PROMPT) && !body.contains("Zürich"), "{body}");
    }
    let item = items(&seen[0]).remove(0);
    assert_eq!(
        item["tool_calls"][0]["name"],
        gateway.record(&id).await["tool_calls"][0]["name"]
    );
    metric_becomes(&gateway, "causeway_sink_delivered_total", 1).await;
    assert_eq!(
        gateway.metric("causeway_sink_failed_total{sink=\"siem\"}").await,
        1
    );
    metric_becomes(&gateway, "causeway_sink_lag", 0).await;
    let shown = [gateway.stderr(), gateway.metrics().await.into_bytes()].concat();
    let files = gateway.files().into_iter().map(|(_, bytes)| bytes);
    for bytes in files.chain([shown]) {
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_left_undelivered_arrives_after_the_restart() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let receiver = FakeProvider::in_clear().await;
    receiver.on("/hook", Reply::json(OK).status(503).header("retry-after", "1"));
    let url = format!("http://{}/hook", receiver.address());
    let settings = Settings::in_front_of(&fake)
        .env("HOOK", SECRET.to_owned())
        .more(&webhook(&url, "content = true"));
    let mut gateway = Gateway::start(settings).await;
    let mut wanted = Vec::new();
    for round in 0..3 {
        for _ in 0..3 {
            wanted.push(call(&gateway).await);
        }
        if round == 1 {
            // Some arrive, and are killed at or before the note of it.
            receiver.on("/hook", Reply::json(OK));
            deliveries(&receiver, "/hook", &wanted[..4]).await;
            receiver.on("/hook", Reply::json(OK).status(500));
        }
        gateway.kill_9();
        gateway.restart().await;
    }
    wanted.push(call(&gateway).await);
    receiver.on("/hook", Reply::json(OK));
    let seen = deliveries(&receiver, "/hook", &wanted).await;
    let (body, item) = (
        String::from_utf8_lossy(&seen[0].body).into_owned(),
        &items(&seen[0])[0],
    );
    assert!(body.contains(PROMPT), "texts were asked for: {body}");
    assert_eq!(item["tool_calls"][0]["arguments"], ARGUMENTS);
    // What arrived and was noted does not come again.
    eventually("all to be delivered", async || {
        (gateway.metric("causeway_sink_lag{sink=\"siem\"}").await == 0).then_some(())
    })
    .await;
    let last = call(&gateway).await;
    let seen = deliveries(&receiver, "/hook", std::slice::from_ref(&last)).await;
    assert_eq!(ids(&items(seen.last().unwrap())), HashSet::from([last]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_sink_gets_what_waited_for_a_store_that_was_away_at_the_start() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let receiver = FakeProvider::in_clear().await;
    receiver.on("/hook", Reply::json(OK));
    let url = format!("http://{}/hook", receiver.address());
    // Whose word counts without the store.
    let settings = Settings::in_front_of(&fake)
        .env("HOOK", SECRET.to_owned())
        .env("CAUSEWAY_STORE__URL", server.database("away"))
        .more("[identity.trusted-header]\nfrom = [\"127.0.0.0/8\"]\n");
    let mut gateway = Gateway::start(settings).await;
    let before = call(&gateway).await;
    gateway.kill_9();
    server.stop();
    gateway.configure(&(gateway.configuration() + &webhook(&url, "")));
    gateway.restart().await;
    let mut wanted = Vec::new();
    for _ in 0..3 {
        wanted.push(call_behind_a_front(gateway.bridge()).await);
    }
    // Calls that go on make the writer come back as soon as it can, most likely before the sink does.
    let stop = Arc::new(AtomicBool::new(false));
    let calling = tokio::spawn({
        let (bridge, stop) = (gateway.bridge(), stop.clone());
        async move {
            let mut ids = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                ids.push(call_behind_a_front(bridge).await);
            }
            ids
        }
    });
    server.resume();
    eventually("the spool to be empty", async || {
        (gateway.metric("causeway_records_in_spool").await == 0).then_some(())
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    wanted.extend(calling.await.unwrap());
    let seen = deliveries(&receiver, "/hook", &wanted).await;
    let got: HashSet<String> = seen.iter().flat_map(|seen| ids(&items(seen))).collect();
    assert!(!got.contains(&before), "the sink is new");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_leaves_undelivered_another_on_the_same_store_delivers() {
    let Some(server) = Postgres::start() else { return };
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let receiver = FakeProvider::in_clear().await;
    receiver.on("/hook", Reply::json(OK).status(500));
    let url = format!("http://{}/hook", receiver.address());
    let settings = Settings::in_front_of(&fake)
        .env("HOOK", SECRET.to_owned())
        .env("CAUSEWAY_STORE__URL", server.database("shared"))
        .more(&webhook(&url, ""));
    let mut one = Gateway::start(settings.clone()).await;
    let two = Gateway::start(settings.clone()).await;
    let three = Gateway::start(settings).await;
    let mut wanted = Vec::new();
    for gateway in [&one, &two, &three, &one] {
        wanted.push(call(gateway).await);
    }
    one.terminate();
    assert!(one.ended().await);
    receiver.on("/hook", Reply::json(OK));
    deliveries(&receiver, "/hook", &wanted).await;
    eventually("every delivery to be noted", async || {
        let mut delivered = 0;
        for gateway in [&two, &three] {
            delivered += gateway
                .metric("causeway_sink_delivered_total{sink=\"siem\"}")
                .await;
        }
        // Each by one of them: were a chain delivered by both, it would be more.
        (delivered == wanted.len() as u64).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gets_lines_and_full_ones_move_on() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let sink =
        "[[sink]]\nname = \"lines\"\nkind = \"file\"\npath = \"out.jsonl\"\nmax-size = \"4KiB\"\nkeep = 50";
    let gateway = Gateway::start(Settings::in_front_of(&fake).more(sink)).await;
    let mut wanted = Vec::new();
    for _ in 0..8 {
        wanted.push(call(&gateway).await);
        let so_far = wanted.len() as u64;
        eventually("the line", async || {
            let delivered = gateway
                .metric("causeway_sink_delivered_total{sink=\"lines\"}")
                .await;
            (delivered == so_far).then_some(())
        })
        .await;
    }
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    let mut files = 0;
    for (path, _) in gateway.files() {
        if !path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("out.jsonl")
        {
            continue;
        }
        files += 1;
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = read(&path);
        assert!(text.len() <= 4096 && !text.contains(PROMPT), "{text}");
        found.extend(
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()),
        );
    }
    assert!(files > 1, "it moved on");
    assert_eq!(ids(&found), wanted.into_iter().collect());
    assert_eq!(found.len(), 8);
}

fn text(text: &str) -> AnyValue {
    AnyValue::Text(text.to_owned())
}

/// Fails unless the record tells of the call `id` as the conventions have it.
fn check_log(record: &otlp::LogRecord, id: &str) {
    assert_eq!(record.event_name, "gen_ai.client.inference.operation.details");
    assert_eq!((record.severity_number, &*record.severity_text), (9, "INFO"));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    assert!(
        now.abs_diff(record.time_unix_nano.into()) < 60_000_000_000,
        "{record:?}"
    );
    assert_eq!(record.observed_time_unix_nano, record.time_unix_nano);
    let summary = format!("admin used {} at openai: completed", CHAT.want.model);
    assert_eq!(record.body, text(&summary));
    let (want, attributes) = (CHAT.want, &record.attributes);
    for (key, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", want.model),
        ("gen_ai.response.model", want.model_answered),
        ("user.name", "admin"),
        ("causeway.request.id", id),
    ] {
        assert_eq!(attributes.find(key), Some(&text(value)), "{key}: {record:?}");
    }
    for (key, value) in [
        (
            "gen_ai.usage.input_tokens",
            want.input + want.cache_read + want.cache_write,
        ),
        ("gen_ai.usage.output_tokens", want.output),
        ("http.response.status_code", 200),
    ] {
        let value = AnyValue::Whole(value.try_into().unwrap());
        assert_eq!(attributes.find(key), Some(&value), "{key}: {record:?}");
    }
    let Some(AnyValue::Array(reasons)) = attributes.find("gen_ai.response.finish_reasons") else {
        panic!("{record:?}");
    };
    assert_eq!(reasons.values, [text(want.finish_reason)]);
    let prompt = attributes.find("gen_ai.input.messages");
    assert!(format!("{prompt:?}").contains(PROMPT), "{record:?}");
    assert_eq!(attributes.find("error.type"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_log_records_in_the_words_of_the_conventions() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let receiver = FakeProvider::in_clear().await;
    receiver.on("/v1/logs", Reply::json(b"{\"partialSuccess\":{}}"));
    let sink = format!(
        "[[sink]]\nname = \"otel\"\nkind = \"otlp\"\nurl = \"http://{}\"\ntoken = {{ env = \"OTLP\" }}\ncontent = true",
        receiver.address()
    );
    let settings = Settings::in_front_of(&fake)
        .env("OTLP", "collector-token".to_owned())
        .more(&sink);
    let gateway = Gateway::start(settings).await;
    let id = call(&gateway).await;
    let seen = eventually("a delivery", async || receiver.requests().pop()).await;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/logs"));
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("authorization"), "Bearer collector-token");
    let body: otlp::Request = serde_json::from_slice(&seen.body).unwrap();
    let resource = &body.resource_logs[0];
    let service = resource.resource.attributes.find("service.name");
    assert_eq!(service, Some(&text("causeway")));
    let logs = &resource.scope_logs[0];
    let scope = (&*logs.scope.name, &*logs.scope.version);
    assert_eq!(scope, ("causeway", env!("CARGO_PKG_VERSION")));
    let record = &logs.log_records[0];
    check_log(record, &id);

    // What failed has the same form.
    fake.on(MESSAGES.path, Reply::json(OK).status(400));
    let (name, value) = MESSAGES.key_header("sk-user");
    let ask = Ask::post(
        format!("/{}{}", MESSAGES.provider, MESSAGES.path),
        MESSAGES.request,
    )
    .header(name, value)
    .header("x-coder-ai-governance-token", gateway.token());
    base_url(gateway.bridge()).await.send(ask).await.bytes().await;
    let seen = eventually("the next delivery", async || {
        receiver.requests().into_iter().nth(1)
    })
    .await;
    let body: otlp::Request = serde_json::from_slice(&seen.body).unwrap();
    let record = &body.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((record.severity_number, &*record.severity_text), (13, "WARN"));
    assert_eq!(record.attributes.find("causeway.outcome"), Some(&text("failed")));
    assert!(record.attributes.find("error.type").is_some(), "{record:?}");
    assert!(!String::from_utf8_lossy(&gateway.stderr()).contains("collector-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_touches_no_request_and_comes_and_goes_with_the_configuration() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let receiver = FakeProvider::in_clear().await;
    receiver.on("/hook", Reply::json(OK).status(500));
    let url = format!("http://{}/hook", receiver.address());
    let gateway = Gateway::start(Settings::in_front_of(&fake).env("HOOK", SECRET.to_owned())).await;
    let original = gateway.configuration();
    call(&gateway).await;
    let reload = async |text: String| {
        gateway.configure(&text);
        let ask =
            Ask::post("/api/v1/reload", "").header("authorization", format!("Bearer {}", gateway.token()));
        let answer = base_url(gateway.bridge()).await.send(ask).await;
        let (status, body) = (answer.status, answer.json().await);
        assert_eq!(
            (status, &body["needs_restart"]),
            (200, &Vec::<String>::new().into()),
            "{body}"
        );
    };
    reload(original.clone() + &webhook(&url, "")).await;
    let wanted = eventually("a sink that has begun", async || {
        let id = call(&gateway).await;
        (gateway.metric("causeway_sink_lag{sink=\"siem\"}").await > 0).then_some(id)
    })
    .await;
    eventually("failures", async || {
        (gateway.metric("causeway_sink_failed_total{sink=\"siem\"}").await > 0).then_some(())
    })
    .await;
    reload(original.clone()).await;
    let unseen = call(&gateway).await;
    receiver.on("/hook", Reply::json(OK));
    // It goes on where it stopped.
    reload(original + &webhook(&url, "")).await;
    deliveries(&receiver, "/hook", &[wanted, unseen]).await;
}
