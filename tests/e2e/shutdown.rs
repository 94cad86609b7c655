//! The orderly end: what is in flight is finished and recorded, idle connections do not delay it.

use tokio::net::TcpStream;

use crate::cases;
use crate::client::{Ask, Http, assert_same};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_flight_ends_before_the_process_does() {
    let case = cases::CHAT_STREAM;
    let fake = FakeProvider::start(Offers::Both).await;
    let (reply, gate) = case.scripted().gated();
    let (first, frames) = (reply.frames()[0].len(), reply.frames().len());
    fake.on(case.path, reply);
    let mut gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let idle = gateway.client().open(case.host, Http::V1).await;

    let mut session = gateway.client().open(case.host, Http::V2).await;
    let ask = Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
    let mut answer = session.send(ask).await;
    assert_same(answer.read_to(first).await, &case.reply[..first], case.name);
    let id = answer.request_id();

    let proxy = gateway.proxy();
    gateway.terminate();
    eventually("the proxy port to be closed", async || {
        TcpStream::connect(proxy).await.err()
    })
    .await;
    for _ in 1..frames {
        gate.let_one_out();
    }
    assert_same(&answer.bytes().await, case.reply, case.name);
    assert!(gateway.ended().await, "the process calls it a success");
    drop(idle);

    gateway.restart().await;
    let record = gateway.record(&id).await;
    assert_eq!(record["outcome"], "completed", "{record}");
}
