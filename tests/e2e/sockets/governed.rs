//! Policy, limits and budgets hold for each call on a socket: a refusal is an event on it, and the socket stays.

use super::{Gateway, SocketProvider, create, finished, open, started_with};

async fn governed(text: &'static str) -> (SocketProvider, Gateway) {
    started_with(|settings| settings.more(text)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_model_is_an_error_event_and_the_socket_stays() {
    let (mut provider, gateway) = governed("[[policy.rule]]\ndeny = [\"gpt-6*\"]").await;
    let mut socket = open(&mut provider, &gateway).await;
    let mut denied = create("Hello?");
    denied["model"] = "gpt-6-pro".into();
    socket.send(&denied).await;
    let event = socket.event().await;
    assert_eq!(event["type"], "error", "{event}");
    assert_eq!(event["status"], 400, "{event}");
    assert_eq!(event["error"]["code"], "model_not_allowed", "{event}");
    assert!(event["error"]["message"].as_str().unwrap().contains("gpt-6-pro"));
    // Nothing of it reached the provider: the next thing that it hears is the next call.
    socket.turn("And now?", "resp_1").await;
    let records = finished(&gateway, &socket.id, 2).await;
    assert_eq!(records[0]["outcome"], "refused", "{}", records[0]);
    assert_eq!(records[0]["error_kind"], "model_not_allowed", "{}", records[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_counts_against_limits_and_a_refused_one_is_on_record() {
    let limit = "[[limit]]\nper = \"user\"\nrequests-per-second = 0.01\nburst = 2";
    let (mut provider, gateway) = governed(limit).await;
    let mut socket = open(&mut provider, &gateway).await;
    socket.turn("One", "resp_1").await;
    socket.turn("Two", "resp_2").await;
    socket.send(&create("Three")).await;
    let event = socket.event().await;
    assert_eq!(event["status"], 429, "{event}");
    let records = finished(&gateway, &socket.id, 3).await;
    let outcomes: Vec<_> = records.iter().map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["completed", "completed", "refused"]);
    assert_eq!(records[2]["prompt"], "Three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_runs_holds_its_place() {
    let (mut provider, gateway) = governed("[[limit]]\nper = \"user\"\nconcurrent = 1").await;
    let mut one = open(&mut provider, &gateway).await;
    one.calls(&create("Long")).await;
    let mut two = open(&mut provider, &gateway).await;
    two.send(&create("Second")).await;
    assert_eq!(two.event().await["error"]["code"], "too_many_at_once");
    one.provider.completes(None, "resp_1", 45).await;
    one.until("response.completed").await;
    two.turn("Now", "resp_2").await;
}
