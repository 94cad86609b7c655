//! The configuration is read again while requests run: what is good counts at once, what is not changes nothing.

use serde_json::Value;

use crate::cases::{self, CHAT, CHAT_STREAM};
use crate::client::{Ask, Http, base_url};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

const DENY: &str = "\n[[policy.rule]]\ndeny = [\"gpt-5*\"]\n";
const LAST: &str = "causeway_config_last_reload_successful";

fn ask() -> Ask {
    Ask::post(CHAT.path, CHAT.request).header("authorization", "Bearer sk-user")
}

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

async fn status(gateway: &Gateway) -> u16 {
    let mut session = gateway.client().open(CHAT.host, Http::V2).await;
    session.send(ask()).await.status
}

async fn until(gateway: &Gateway, wanted: u16) {
    eventually("the new configuration", async || {
        (status(gateway).await == wanted).then_some(())
    })
    .await;
}

/// What the API answers to the wish for a reload.
pub(crate) async fn ask_for_reload(gateway: &Gateway, token: &str) -> (u16, Value) {
    let ask = Ask::post("/api/v1/reload", "").header("authorization", format!("Bearer {token}"));
    let answer = base_url(gateway.bridge()).await.send(ask).await;
    (answer.status, answer.json().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_a_changed_file_and_the_api_each_bring_the_new_configuration() {
    let (_fake, gateway) = started().await;
    let original = gateway.configuration();
    // A connection that is open is under the new rules too.
    let mut open = gateway.client().open(CHAT.host, Http::V2).await;
    assert_eq!(open.send(ask()).await.status, 200);

    // By itself.
    gateway.configure(&(original.clone() + DENY));
    until(&gateway, 400).await;
    assert_eq!(open.send(ask()).await.status, 400);

    gateway.configure(&original);
    gateway.hang_up();
    until(&gateway, 200).await;

    gateway.configure(&(original + DENY));
    let (code, body) = ask_for_reload(&gateway, &gateway.token()).await;
    assert_eq!(code, 200, "{body}");
    assert_eq!(body["needs_restart"], Value::from(Vec::<String>::new()));
    assert_eq!(status(&gateway).await, 400);
    let (_, member) = gateway.new_token("ann");
    assert_eq!(ask_for_reload(&gateway, &member).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_changes_nothing_and_says_why() {
    let (_fake, gateway) = started().await;
    let original = gateway.configuration();
    assert_eq!(gateway.metric(LAST).await, 1);
    let wrong = "\n[[limit]]\nper = \"user\"\n[[policy.rule]]\ndeny = [\"gpt-5*\"]\n[colour]\n";
    gateway.configure(&(original.clone() + wrong));
    let (code, body) = ask_for_reload(&gateway, &gateway.token()).await;
    assert_eq!(code, 422, "{body}");
    let problems = body["problems"].to_string();
    assert!(
        problems.contains("limit[0]") && problems.contains("colour"),
        "{body}"
    );
    assert_eq!(status(&gateway).await, 200);
    assert_eq!(gateway.metric(LAST).await, 0);
    assert!(gateway.metric("causeway_config_reload_failures_total").await >= 1);
    assert!(String::from_utf8_lossy(&gateway.stderr()).contains("limit[0]"));

    gateway.configure(&original);
    assert_eq!(ask_for_reload(&gateway, &gateway.token()).await.0, 200);
    assert_eq!(gateway.metric(LAST).await, 1);
}

/// Twenty reloads, each that of another configuration, under two hundred streams that began before and end after
/// them, each with the configuration of its own moment.
async fn twenty_reloads(fake: &FakeProvider, gateway: &Gateway, original: &str) {
    let (reply, gate) = CHAT_STREAM.scripted().gated();
    let frames = reply.frames().len();
    fake.on(CHAT_STREAM.path, reply);
    let streamed = Ask::post(CHAT_STREAM.path, CHAT_STREAM.request).header("authorization", "Bearer sk-user");

    let mut waiting = Vec::new();
    for index in 0..20 {
        let mut session = gateway.client().open(CHAT.host, Http::V2).await;
        let mut answers = Vec::new();
        for _ in 0..10 {
            let mut answer = session.send(streamed.clone()).await;
            assert_eq!(answer.status, 200);
            answer.read_to(1).await;
            answers.push(answer);
        }
        // Each time something that matters differs: a limit, how the provider is reached, what tunnels may do.
        let text = original
            .replace(
                "connect-to",
                &format!("websockets = {}\nconnect-to", index % 2 == 0),
            )
            .replace("[proxy]", &format!("[proxy]\nmax-tunnels = {}", 100 + index));
        gateway.configure(&format!("{text}\n[[limit]]\nconcurrent = {}\n", 1_000 + index));
        let (code, body) = ask_for_reload(gateway, &gateway.token()).await;
        assert_eq!(code, 200, "{body}");
        waiting.push((session, answers));
    }
    (0..frames * 200).for_each(|_| gate.let_one_out());
    for answer in waiting.into_iter().flat_map(|(_, answers)| answers) {
        let body = answer.bytes().await;
        assert!(
            body.ends_with(b"data: [DONE]\n\n"),
            "{}",
            String::from_utf8_lossy(&body)
        );
    }
    eventually("the old configurations to be gone", async || {
        (gateway.metric("causeway_config_live").await == 1).then_some(())
    })
    .await;
}

/// What a round may leave behind: far less than the 20 configurations with their connections that each one makes.
const KEPT: u64 = 4 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_reloads_under_two_hundred_requests_fail_none_and_leave_no_memory_behind() {
    let (fake, gateway) = started().await;
    let original = gateway.configuration();
    // The first round fills what stays filled: threads, caches, the allocator's own.
    twenty_reloads(&fake, &gateway, &original).await;
    let before = gateway.resident();
    for _ in 0..3 {
        twenty_reloads(&fake, &gateway, &original).await;
    }
    let after = gateway.resident();
    assert!(after < before + 3 * KEPT, "{before} KiB, then {after} KiB");
    let records = gateway.list("/api/v1/interceptions?limit=1000").await;
    assert_eq!(records.len(), 4 * 200);
    assert!(records.iter().all(|record| record["outcome"] == "completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_stays_the_same_keeps_its_connections_and_a_changed_one_does_not() {
    let (fake, gateway) = started().await;
    let original = gateway.configuration();
    assert_eq!(status(&gateway).await, 200);
    let before = fake.connections();
    gateway.configure(&(original.clone() + "\n[[limit]]\nconcurrent = 1000\n"));
    assert_eq!(ask_for_reload(&gateway, &gateway.token()).await.0, 200);
    assert_eq!(status(&gateway).await, 200);
    assert_eq!(fake.connections(), before);
    gateway.configure(&original.replace("connect-to", "websockets = false\nconnect-to"));
    assert_eq!(ask_for_reload(&gateway, &gateway.token()).await.0, 200);
    assert_eq!(status(&gateway).await, 200);
    assert_eq!(fake.connections(), before + 1);
}
