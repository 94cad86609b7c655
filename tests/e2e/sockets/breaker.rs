//! Circuit breakers hold for each call on a socket, and are the same as those of plain requests: a refusal is an
//! event on the socket, the socket stays, and no place of a recovery is lost with it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::{Gateway, HOST, Opened, PATH, SocketProvider, create, finished, open, started_with};
use crate::client::{Answer, Ask, Http};

const MODEL: &str = "gpt-5.2";

async fn guarded(rules: &'static str) -> (SocketProvider, Gateway) {
    started_with(|settings| settings.more("[breaker]").more(rules)).await
}

fn error(status: u16) -> Value {
    json!({"type": "error", "status": status, "error": {"type": "server_error", "code": "x", "message": "No"}})
}

fn overloaded(id: &str) -> Value {
    json!({"type": "response.failed", "response": {"id": id, "status": "failed",
        "error": {"code": "server_is_overloaded", "message": "Overloaded"}}})
}

impl Opened {
    /// One call that the provider answers so.
    async fn fails(&mut self, answer: &Value) {
        self.calls(&create("hi")).await;
        self.provider.send(None, answer.clone()).await;
        assert_eq!(self.event().await, *answer, "the provider's own word passes");
    }

    /// A call that the breaker refuses; gives the wait.
    async fn refused(&mut self) -> u64 {
        self.send(&create("refused")).await;
        let event = self.event().await;
        assert_eq!(
            (&event["type"], &event["status"]),
            (&json!("error"), &json!(503)),
            "{event}"
        );
        let error = &event["error"];
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!("circuit_open"), &json!("server_error")),
            "{event}"
        );
        let wait = event["headers"]["retry-after"].as_str().unwrap();
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains(MODEL) && message.contains(&format!("{wait} s")),
            "{event}"
        );
        wait.parse().unwrap()
    }
}

async fn plainly(gateway: &Gateway) -> Answer {
    let body = json!({"model": MODEL, "input": "x"}).to_string();
    let ask = Ask::post(PATH, body).header("authorization", "Bearer sk-user");
    gateway.client().open(HOST, Http::V2).await.send(ask).await
}

async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let labels = format!("{{provider=\"openai\",endpoint=\"responses\",model=\"{MODEL}\"}}");
    gateway
        .metric(&format!("causeway_circuit_breaker_{name}{labels}"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overloaded_model_is_refused_on_the_socket_which_stays() {
    let (mut provider, gateway) = guarded("failures = 3\nopen-for = \"30s\"").await;
    let mut socket = open(&mut provider, &gateway).await;
    socket.fails(&error(400)).await;
    socket.fails(&error(429)).await;
    socket.fails(&error(503)).await;
    socket.fails(&overloaded("r2")).await;
    let mut late = error(529);
    late["headers"] = json!({"retry-after": "45"});
    socket.fails(&late).await;
    let wait = socket.refused().await;
    assert!(
        (40..=50).contains(&wait),
        "the provider's wait, and a tenth at most: {wait}"
    );

    // Nothing of it reached the provider, where another model is still asked over the same socket.
    let mut other = create("Hello?");
    other["model"] = "gpt-6".into();
    socket.calls(&other).await;
    socket.provider.completes(None, "r3", 3).await;
    socket.until("response.completed").await;
    let answer = plainly(&gateway).await;
    assert_eq!(answer.status, 503, "a plain request for it");
    assert_eq!(answer.header("x-causeway-reason"), "circuit_open");

    let records = finished(&gateway, &socket.id, 7).await;
    let refused = &records[5];
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert_eq!(
        (&refused["error_kind"], &refused["status"]),
        (&json!("circuit_open"), &json!(503)),
        "{refused}"
    );
    assert_eq!(refused["prompt"], "refused");
    let plain = gateway.record(&answer.request_id()).await;
    assert_eq!(
        (&plain["outcome"], &plain["error_kind"]),
        (&json!("refused"), &json!("circuit_open")),
        "{plain}"
    );
    assert_eq!(metric(&gateway, "state").await, 1);
    assert_eq!(metric(&gateway, "trips_total").await, 1);
    assert_eq!(metric(&gateway, "rejects_total").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_is_tried_by_few_over_sockets_and_requests_together() {
    let (mut provider, gateway) = guarded("failures = 1\nopen-for = \"4s\"\nprobes = 1").await;
    let mut one = open(&mut provider, &gateway).await;
    let mut two = open(&mut provider, &gateway).await;
    one.fails(&error(503)).await;
    let wait = two.refused().await;
    tokio::time::sleep(Duration::from_secs(wait)).await;

    one.calls(&create("the probe")).await;
    two.refused().await;
    assert_eq!(plainly(&gateway).await.status, 503, "by whatever way");
    // The one that tried leaves: its place is free, and its leaving says nothing.
    one.client.close(None).await.unwrap();
    one.provider.ended().await;
    finished(&gateway, &one.id, 2).await;
    two.calls(&create("the next probe")).await;
    let mut three = open(&mut provider, &gateway).await;
    three.refused().await;
    // With the beginning of its reply the place is free, as with a reply's head.
    two.provider.begins(None, "r1").await;
    two.until("response.created").await;
    assert_eq!(metric(&gateway, "state").await, 0);
    three.turn("on", "r2").await;
    two.provider.completes(None, "r1", 3).await;
    two.until("response.completed").await;
    assert_eq!(metric(&gateway, "trips_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_leaves_a_call_unanswered_has_failed_it_and_one_that_blames_the_client_has_not() {
    let (mut provider, gateway) = guarded("failures = 2\nopen-for = \"30s\"").await;
    for code in [1008, 1009, 1011, 1009, 1012] {
        let mut socket = open(&mut provider, &gateway).await;
        socket.calls(&create("hi")).await;
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        socket.provider.io.close(Some(frame)).await.unwrap();
        finished(&gateway, &socket.id, 1).await;
    }
    open(&mut provider, &gateway).await.refused().await;
}
