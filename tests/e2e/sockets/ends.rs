//! How a response ends, and with it or before it the socket: what is on record, and what the client hears.

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{create, finished, full, open, records, started};
use crate::client::within;

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_ends_otherwise_is_on_record_as_it_ended() {
    let (mut provider, gateway) = started().await;
    let mut socket = open(&mut provider, &gateway).await;
    let response = |status: &str, rest: Value| {
        let mut response = json!({"id": "r", "status": status, "model": "gpt-5.2-2026-01-15", "output": []});
        response
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        json!({"type": format!("response.{status}"), "response": response})
    };
    let incomplete = json!({"incomplete_details": {"reason": "max_output_tokens"}});
    let failed = json!({"error": {"code": "server_error", "message": "sorry"}});
    let endings = [
        (false, response("incomplete", incomplete)),
        (false, response("failed", failed)),
        (true, response("cancelled", json!({}))),
    ];
    for (cancelled, ending) in &endings {
        socket.calls(&create("hi")).await;
        socket.provider.begins(None, "r").await;
        if *cancelled {
            socket
                .calls(&json!({"type": "response.cancel", "response_id": "r"}))
                .await;
        }
        socket.provider.send(None, ending.clone()).await;
        assert_eq!(socket.until(ending["type"].as_str().unwrap()).await, *ending);
    }
    // Input that is added to a response may bring forth another that nobody asked for.
    socket.calls(&create("go")).await;
    socket.provider.begins(None, "r5").await;
    let steer = json!({"type": "response.steer", "input": [{"role": "user", "content": [{"type": "input_text", "text": "not so far"}]}]});
    socket.calls(&steer).await;
    socket.provider.completes(None, "r5", 1).await;
    socket.provider.begins(None, "r6").await;
    socket.provider.completes(None, "r6", 2).await;

    let records = finished(&gateway, &socket.id, 5).await;
    let outcomes: Vec<&str> = records
        .iter()
        .map(|record| record["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        ["completed", "failed", "aborted", "completed", "completed"]
    );
    assert_eq!(records[0]["finish_reason"], "max_output_tokens");
    assert_eq!(records[1]["error_message"], "sorry", "{}", records[1]);
    let steered = full(&gateway, &records[4]).await;
    assert_eq!(steered["prompt"], "not so far", "{steered}");
    assert_eq!(
        (&steered["model"], &steered["usage"][0]["output"]),
        (&json!("gpt-5.2"), &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_close_reaches_the_client_with_code_and_reason_and_fails_the_response() {
    let (mut provider, gateway) = started().await;
    for (code, reason) in [(1011, "keepalive ping timeout"), (1012, ""), (4002, "moved")] {
        let mut socket = open(&mut provider, &gateway).await;
        socket.calls(&create("hi")).await;
        socket.provider.begins(None, "r").await;
        let frame = CloseFrame {
            code: CloseCode::from(code),
            reason: reason.into(),
        };
        socket.provider.io.close(Some(frame.clone())).await.unwrap();
        socket.until("response.created").await;
        let message = within("the close", socket.client.next()).await.unwrap().unwrap();
        assert_eq!(message, Message::Close(Some(frame)));
        // It is on record before the client hears of it.
        let records = records(&gateway, &socket.id).await;
        assert_eq!(records[0]["outcome"], "failed", "{}", records[0]);
        assert_eq!(records[0]["error_kind"], "upstream_closed", "{}", records[0]);
        let message = records[0]["error_message"].as_str().unwrap();
        assert!(
            message.contains(&code.to_string()) && message.ends_with(reason),
            "{message}"
        );
    }
    let mut socket = open(&mut provider, &gateway).await;
    socket.calls(&create("hi")).await;
    drop(socket.provider);
    let records = finished(&gateway, &socket.id, 1).await;
    assert_eq!(records[0]["outcome"], "failed", "{}", records[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_process_waits_for_a_response_and_says_so_to_the_client() {
    let (mut provider, mut gateway) = started().await;
    let mut busy = open(&mut provider, &gateway).await;
    let mut idle = open(&mut provider, &gateway).await;
    busy.calls(&create("hi")).await;
    busy.provider.begins(None, "r").await;
    gateway.terminate();
    let close = within("the close", idle.client.next()).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = close else {
        panic!("{close:?}")
    };
    assert_eq!(frame.code, CloseCode::Away);
    busy.provider.completes(None, "r", 3).await;
    busy.until("response.completed").await;
    let close = within("the close", busy.client.next()).await.unwrap().unwrap();
    assert!(matches!(close, Message::Close(Some(frame)) if frame.code == CloseCode::Away));
    drop((busy.client, idle.client));
    assert!(gateway.ended().await, "the process calls it a success");
    gateway.restart().await;
    let records = finished(&gateway, &busy.id, 1).await;
    assert_eq!(records[0]["outcome"], "completed", "{}", records[0]);
}
