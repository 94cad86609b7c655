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

async fn ask_for_reload(gateway: &Gateway, token: &str) -> (u16, Value) {
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

    gateway.configure(
        &(original.replace("[bridge]", "[bridge]\nmax-body = \"1MiB\"")
            + "\n[record]\ndurability = \"relaxed\"\n"),
    );
    let (code, body) = ask_for_reload(&gateway, &gateway.token()).await;
    assert_eq!(
        (code, &body["needs_restart"][0]),
        (200, &"record.durability".into()),
        "{body}"
    );
    assert_eq!(gateway.metric(LAST).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_reloads_under_two_hundred_requests_fail_none() {
    let (fake, gateway) = started().await;
    let original = gateway.configuration();
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
        // Each time something that matters differs: a limit, and how the provider is reached.
        let text = original.replace(
            "connect-to",
            &format!("websockets = {}\nconnect-to", index % 2 == 0),
        );
        gateway.configure(&format!("{text}\n[[limit]]\nconcurrent = {}\n", 1_000 + index));
        let (code, body) = ask_for_reload(&gateway, &gateway.token()).await;
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
    let records = gateway.list("/api/v1/interceptions?limit=1000").await;
    assert_eq!(records.len(), 200);
    assert!(records.iter().all(|record| record["outcome"] == "completed"));
}
