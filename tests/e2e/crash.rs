//! What survives a crash: a request that was under way when the process was killed is on record, as aborted.

use crate::cases;
use crate::client::{Ask, Http, assert_same};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_stream_is_on_record_as_aborted() {
    let case = cases::CHAT_STREAM;
    let fake = FakeProvider::start(Offers::Both).await;
    let (reply, gate) = case.scripted().gated();
    let first = reply.frames()[0].len();
    fake.on(case.path, reply);
    let mut gateway = Gateway::start(Settings::in_front_of(&fake)).await;

    let mut session = gateway.client().open(case.host, Http::V1).await;
    let ask = Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
    let mut answer = session.send(ask).await;
    assert_same(answer.read_to(first).await, &case.reply[..first], case.name);
    let id = answer.request_id();
    let record = gateway
        .find_record(&id)
        .await
        .expect("the start is on record before the upstream is called");
    assert!(record["outcome"].is_null(), "still under way: {record}");

    gateway.kill_9();
    gateway.restart().await;
    let record = eventually("the record after the restart", async || {
        gateway
            .find_record(&id)
            .await
            .filter(|record| !record["outcome"].is_null())
    })
    .await;
    assert_eq!(record["outcome"], "aborted", "{record}");
    assert_eq!(record["model"], case.want.model);
    assert_eq!(gate.sent(), 1, "the provider never got further");
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_records_survive_a_kill() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let mut gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let (ca, token) = (std::fs::read(gateway.ca_file()).unwrap(), gateway.token());
    let mut ids = Vec::new();
    for case in &cases::ALL {
        let (name, value) = case.key_header("sk-user");
        let mut session = gateway.client().open(case.host, Http::V2).await;
        let answer = session
            .send(Ask::post(case.path, case.request).header(name, value))
            .await;
        ids.push(answer.request_id());
        answer.bytes().await;
    }
    // Strict durability: the end of a reply is on record before the client sees it.
    gateway.kill_9();
    gateway.restart().await;
    assert_eq!(
        std::fs::read(gateway.ca_file()).unwrap(),
        ca,
        "the authority is the same"
    );
    assert_eq!(gateway.token(), token, "the token is the same");
    for (case, id) in cases::ALL.iter().zip(ids) {
        let record = gateway
            .find_record(&id)
            .await
            .unwrap_or_else(|| panic!("{} is lost", case.name));
        assert_eq!(record["outcome"], "completed", "{}: {record}", case.name);
    }
}
