//! What passes over a socket of calls, byte by byte, and what does not.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use super::{PATH, create, finished, full, open, request_id, started, started_with};
use crate::client::{assert_same, within};
use crate::fake::{ProviderSocket, completed};
use crate::websocket::open_http2;

const TEXT: OpCode = OpCode::Data(Data::Text);
const MORE: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);
/// With which a client masks a frame.
const KEY: Option<[u8; 4]> = Some([7, 0, 200, 13]);

fn frame(text: &[u8], opcode: OpCode, is_final: bool, mask: Option<[u8; 4]>) -> Vec<u8> {
    let header = FrameHeader {
        is_final,
        opcode,
        mask,
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    Frame::from_payload(header, text.to_vec().into())
        .format(&mut bytes)
        .unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_and_too_many_calls_are_refused_on_the_socket() {
    let (mut provider, gateway) = started_with(|settings| settings.bridge("max-body = \"1MiB\"")).await;
    let mut socket = open(&mut provider, &gateway).await;
    socket.send(&create(&"x".repeat(2 << 20))).await;
    let event = socket.event().await;
    assert_eq!(
        (&event["status"], &event["error"]["code"]),
        (&json!(413), &json!("body_too_long")),
        "{event}"
    );
    socket.turn("shorter", "r").await;
    for _ in 0..256 {
        socket.calls(&create("more")).await;
    }
    socket.send(&create("too much")).await;
    let event = socket.event().await;
    assert_eq!(
        (&event["status"], &event["error"]["code"]),
        (&json!(429), &json!("too_many_responses")),
        "{event}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_passes_as_it_was_in_frames_of_any_kind() {
    let (mut provider, gateway) = started().await;
    let socket = open(&mut provider, &gateway).await;
    let (mut client, mut upstream) = (socket.client.into_inner(), socket.provider.io.into_inner());
    let asked = create("fragmented").to_string().into_bytes();
    let (one, two) = asked.split_at(30);
    let up = [
        frame(b"are you there", PING, true, KEY),
        frame(one, TEXT, false, KEY),
        frame(b"", MORE, false, Some([0; 4])),
        frame(two, MORE, true, Some([1, 2, 3, 4])),
        frame(br#"{"type":"response.processed", "x" : 1.0}"#, TEXT, true, KEY),
    ]
    .concat();
    // In small portions, as a slow line would bring them.
    for portion in up.chunks(11) {
        client.write_all(portion).await.unwrap();
        client.flush().await.unwrap();
    }
    let mut got = vec![0; up.len()];
    within("all at the provider", upstream.read_exact(&mut got))
        .await
        .unwrap();
    assert_same(&got, &up, "what the client sent");

    let begun = br#"{"type":"response.created","response":{"id":"r","model":"m"}}"#;
    let ended = completed("r", 9).to_string().into_bytes();
    let (one, two) = ended.split_at(ended.len() / 2);
    let down = [
        frame(begun, TEXT, true, None),
        frame(one, TEXT, false, None),
        frame(b"alive?", PING, true, None),
        frame(two, MORE, true, None),
        frame(br#"{"type" : "codex.rate_limits"}"#, TEXT, true, None),
    ]
    .concat();
    // A frame is handed on before it has come whole.
    let (first, rest) = down.split_at(begun.len() + 10);
    upstream.write_all(first).await.unwrap();
    upstream.flush().await.unwrap();
    let mut got = vec![0; first.len()];
    within("a part of a frame", client.read_exact(&mut got))
        .await
        .unwrap();
    upstream.write_all(rest).await.unwrap();
    upstream.flush().await.unwrap();
    got.resize(down.len(), 0);
    within("all at the client", client.read_exact(&mut got[first.len()..]))
        .await
        .unwrap();
    assert_same(&got, &down, "what the provider sent");
    let records = finished(&gateway, &socket.id, 1).await;
    let record = full(&gateway, &records[0]).await;
    assert_eq!(record["prompt"], "fragmented", "{record}");
    assert_eq!(record["usage"][0]["output"], 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_does_not_wait_for_the_message_that_it_interrupts() {
    let (mut provider, gateway) = started().await;
    let socket = open(&mut provider, &gateway).await;
    let (mut client, mut upstream) = (socket.client.into_inner(), socket.provider.io.into_inner());
    let asked = create("slow").to_string().into_bytes();
    let (one, two) = asked.split_at(20);
    let (one, two) = (frame(one, TEXT, false, KEY), frame(two, MORE, true, KEY));
    let ping = frame(b"there?", PING, true, KEY);
    client.write_all(&[one.as_slice(), &ping].concat()).await.unwrap();
    client.flush().await.unwrap();
    let mut got = vec![0; ping.len()];
    within("the ping", upstream.read_exact(&mut got)).await.unwrap();
    assert_same(&got, &ping, "the ping alone: the message may yet be refused");
    client.write_all(&two).await.unwrap();
    client.flush().await.unwrap();
    let message = [one, two].concat();
    got.resize(message.len(), 0);
    within("the message", upstream.read_exact(&mut got))
        .await
        .unwrap();
    assert_same(&got, &message, "the message behind it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_goes_nowhere_and_ends_the_socket() {
    let (mut provider, gateway) = started().await;
    let socket = open(&mut provider, &gateway).await;
    let (mut client, mut upstream) = (socket.client.into_inner(), socket.provider.io.into_inner());
    // A frame under an extension that nobody agreed on: a call could hide in it.
    client.write_all(&[0xc1, 0x80, 0, 0, 0, 0]).await.unwrap();
    client.flush().await.unwrap();
    let mut rest = Vec::new();
    within("the end", client.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest[..4], [0x88, rest.len() as u8 - 2, 0x03, 0xea], "1002");
    let mut rest = Vec::new();
    let _ = within("the provider's end", upstream.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_pass_over_either_way_in_and_are_on_record() {
    let (mut provider, gateway) = started().await;
    let large = "x".repeat(20 << 20);
    let mut socket = open(&mut provider, &gateway).await;
    socket.calls(&create(&large)).await;
    socket.provider.begins(None, "r1").await;
    let item = Message::text(json!({"type": "response.unheard_of", "data": large}).to_string());
    // Nobody reads while all of it is sent.
    let ProviderSocket { io: mut upstream, .. } = socket.provider;
    let (sent, got) = tokio::join!(upstream.send(item.clone()), async {
        within("the beginning", socket.client.next())
            .await
            .unwrap()
            .unwrap();
        within("all of it", socket.client.next()).await.unwrap().unwrap()
    });
    sent.unwrap();
    assert!(got == item, "it came as another");
    upstream
        .send(Message::text(completed("r1", 7).to_string()))
        .await
        .unwrap();
    let records = finished(&gateway, &socket.id, 1).await;
    assert_eq!(records[0]["outcome"], "completed", "{}", records[0]);

    let (mut client, headers) = open_http2(&gateway, PATH).await;
    let mut upstream = provider.opened().await;
    let asked = create(&large);
    let send = client.send(Message::text(asked.to_string()));
    let (sent, event) = tokio::join!(send, upstream.event());
    sent.unwrap();
    assert!(event == asked, "it came as another");
    upstream.begins(None, "r2").await;
    upstream.completes(None, "r2", 8).await;
    let records = finished(&gateway, &request_id(&headers), 1).await;
    assert_eq!(records[0]["outcome"], "completed", "{}", records[0]);
}
