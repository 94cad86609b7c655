//! Calls over WebSockets are on record one by one, whatever happens to the socket: before the provider sees them,
//! and with their end before the client sees it. Nothing on the wire tells that somebody reads along.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::client::{assert_same, within};
use crate::fake::{ProviderSocket, SocketProvider, completed};
use crate::harness::{Gateway, Settings, eventually};
use crate::websocket::{HOST, client_headers, open_http1, open_http2};

const PATH: &str = "/v1/responses";

/// A socket of a client behind the proxy, the provider's end of it, and the request id of its handshake.
struct Opened {
    client: WebSocketStream<TlsStream<TcpStream>>,
    provider: ProviderSocket,
    id: String,
}

async fn started() -> (SocketProvider, Gateway) {
    started_with(|settings| settings).await
}

async fn started_with(change: impl FnOnce(Settings) -> Settings) -> (SocketProvider, Gateway) {
    let provider = SocketProvider::start().await;
    let gateway = Gateway::start(change(provider.settings())).await;
    (provider, gateway)
}

/// The headers by which Codex is known.
fn codex() -> HeaderMap {
    let mut headers = client_headers();
    for (name, value) in [
        ("originator", "codex_exec"),
        ("user-agent", "codex_exec/0.169.0 (Debian 13; x86_64)"),
        ("session-id", "session-1"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    headers
}

async fn open(provider: &mut SocketProvider, gateway: &Gateway) -> Opened {
    let io = gateway.client().open_tls(HOST).await;
    let (client, headers) = open_http1(io, HOST, PATH, codex()).await.unwrap();
    Opened {
        client,
        provider: provider.opened().await,
        id: request_id(&headers),
    }
}

fn request_id(headers: &HeaderMap) -> String {
    headers["x-causeway-request-id"].to_str().unwrap().to_owned()
}

fn create(prompt: &str) -> Value {
    json!({"type": "response.create", "model": "gpt-5.2", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": prompt}]}]})
}

fn in_lane(mut event: Value, lane: &str) -> Value {
    event["stream_id"] = lane.into();
    event
}

impl Opened {
    async fn send(&mut self, event: &Value) {
        self.client.send(Message::text(event.to_string())).await.unwrap();
    }

    /// Sends a call and waits until the provider has it.
    async fn calls(&mut self, event: &Value) {
        self.send(event).await;
        assert_eq!(self.provider.event().await, *event);
    }

    /// The next event that the client gets.
    async fn event(&mut self) -> Value {
        let message = within("an event", self.client.next()).await;
        let message = message.expect("the socket is open").unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    /// Reads events up to one of this type.
    async fn until(&mut self, want: &str) -> Value {
        loop {
            let event = self.event().await;
            if event["type"] == want {
                return event;
            }
        }
    }

    /// One whole response to a call.
    async fn turn(&mut self, prompt: &str, id: &str) {
        self.calls(&create(prompt)).await;
        self.provider.begins(None, id).await;
        self.provider.says(None, "It rains.").await;
        self.provider.completes(None, id, 45).await;
        assert_eq!(self.until("response.completed").await, completed(id, 45));
    }
}

/// Every record of a socket, finished or not, the oldest first.
async fn records(gateway: &Gateway, id: &str) -> Vec<Value> {
    let all = gateway.list("/api/v1/interceptions?limit=1000").await;
    let mut found: Vec<Value> = all
        .into_iter()
        .filter(|record| record["request_id"] == id)
        .collect();
    found.sort_by_key(|record| record["id"].as_str().unwrap().to_owned());
    found
}

/// The same, once there are so many and all are finished.
async fn finished(gateway: &Gateway, id: &str, count: usize) -> Vec<Value> {
    eventually("finished records", async || {
        let found = records(gateway, id).await;
        let all = found.len() == count && found.iter().all(|record| !record["outcome"].is_null());
        all.then_some(found)
    })
    .await
}

fn check_turn(record: &Value, prompt: &str, id: &str) {
    assert_eq!(record["outcome"], "completed", "{record}");
    assert_eq!(record["prompt"], prompt, "{record}");
    assert_eq!(record["model"], "gpt-5.2");
    assert_eq!(record["model_answered"], "gpt-5.2-2026-01-15");
    assert_eq!(
        (&record["api"], &record["client"]),
        (&json!("responses"), &json!("Codex"))
    );
    assert_eq!(
        (&record["session_id"], &record["stream"]),
        (&json!("session-1"), &json!(true))
    );
    assert_eq!(record["status"], 101);
    assert!(!record["first_token_at"].is_null(), "{record}");
    let usage = &record["usage"][0];
    assert_eq!(
        (
            &usage["input"],
            &usage["output"],
            &usage["cache_read"],
            &usage["reasoning"]
        ),
        (&json!(100), &json!(45), &json!(20), &json!(5)),
        "{record}"
    );
    assert_eq!(record["tool_calls"][0]["id"], format!("call_{id}"), "{record}");
}

async fn full(gateway: &Gateway, record: &Value) -> Value {
    let id = record["id"].as_str().unwrap();
    gateway.api(&format!("/api/v1/interceptions/{id}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_response_of_a_socket_is_on_record_and_so_is_one_that_the_client_leaves() {
    let (mut provider, gateway) = started().await;
    let mut socket = open(&mut provider, &gateway).await;
    socket.turn("one", "r1").await;
    // The end is on record before the client has it.
    let records = records(&gateway, &socket.id).await;
    assert_eq!(records.len(), 1);
    check_turn(&full(&gateway, &records[0]).await, "one", "r1");
    socket.turn("two", "r2").await;
    socket.calls(&create("three")).await;
    socket.provider.begins(None, "r3").await;
    socket.provider.says(None, "It").await;
    socket.until("response.output_text.delta").await;
    socket.client.close(None).await.unwrap();
    socket.provider.ended().await;

    let records = finished(&gateway, &socket.id, 3).await;
    check_turn(&full(&gateway, &records[1]).await, "two", "r2");
    let left = &records[2];
    assert_eq!(left["outcome"], "aborted", "{left}");
    assert_eq!(left["error_kind"], "client_closed", "{left}");
    let total = "causeway_interceptions_total{provider=\"openai\",api=\"responses\",model=\"gpt-5.2\",client=\"Codex\"";
    assert_eq!(
        gateway.metric(&format!("{total},outcome=\"completed\"}}")).await,
        2
    );
    assert_eq!(gateway.metric(&format!("{total},outcome=\"aborted\"}}")).await, 1);
    assert_eq!(
        gateway
            .metric("causeway_interceptions_inflight{provider=\"openai\"}")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_side_by_side_are_told_apart_by_their_lanes() {
    let (mut provider, gateway) = started().await;
    let mut socket = open(&mut provider, &gateway).await;
    let lanes = ["left", "right"];
    for lane in lanes {
        socket.calls(&in_lane(create(lane), lane)).await;
    }
    // A second one in the first lane, which waits for its turn.
    socket.calls(&in_lane(create("left again"), "left")).await;
    let upstream = &mut socket.provider;
    upstream.begins(Some("right"), "r-right").await;
    upstream.begins(Some("left"), "r-left").await;
    for lane in lanes {
        upstream.says(Some(lane), "Hm.").await;
    }
    upstream.completes(Some("left"), "r-left", 1).await;
    upstream.begins(Some("left"), "r-again").await;
    upstream.completes(Some("right"), "r-right", 2).await;
    upstream.completes(Some("left"), "r-again", 3).await;
    let records = finished(&gateway, &socket.id, 3).await;
    for (record, (prompt, tokens)) in records.iter().zip([("left", 1), ("right", 2), ("left again", 3)]) {
        let record = full(&gateway, record).await;
        assert_eq!(
            (&record["prompt"], &record["usage"][0]["output"]),
            (&json!(prompt), &json!(tokens)),
            "{record}"
        );
        assert_eq!(record["outcome"], "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_up_is_no_call_and_an_error_event_ends_one() {
    let (mut provider, gateway) = started().await;
    let mut socket = open(&mut provider, &gateway).await;
    let mut warm_up = create("warm");
    warm_up["generate"] = false.into();
    socket.calls(&warm_up).await;
    socket.provider.begins(None, "r0").await;
    socket.provider.completes(None, "r0", 0).await;
    socket.until("response.completed").await;

    socket.calls(&create("too much")).await;
    let error = json!({"type": "error", "status": 429, "error": {"type": "usage_limit_reached", "message": "come back later"}});
    socket.provider.send(None, error.clone()).await;
    assert_eq!(socket.event().await, error, "the provider's own event");
    socket.turn("after it", "r2").await;

    let records = finished(&gateway, &socket.id, 2).await;
    let failed = &records[0];
    assert_eq!(
        (&failed["outcome"], &failed["status"]),
        (&json!("failed"), &json!(429)),
        "{failed}"
    );
    assert_eq!(failed["error_kind"], "usage_limit_reached", "{failed}");
    assert_eq!(failed["error_message"], "come back later", "{failed}");
    check_turn(&full(&gateway, &records[1]).await, "after it", "r2");
}

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
async fn a_call_is_on_record_before_the_provider_has_it_and_a_kill_aborts_it() {
    let (mut provider, mut gateway) = started().await;
    let mut socket = open(&mut provider, &gateway).await;
    socket.send(&create("hi")).await;
    socket.provider.event().await;
    let before = records(&gateway, &socket.id).await;
    assert_eq!(before.len(), 1, "the provider has the call, so it is on record");
    assert!(before[0]["outcome"].is_null(), "{}", before[0]);
    socket.provider.begins(None, "r").await;
    socket.until("response.created").await;

    gateway.kill_9();
    gateway.restart().await;
    let records = finished(&gateway, &socket.id, 1).await;
    assert_eq!(records[0]["outcome"], "aborted", "{}", records[0]);
}

/// Another process that keeps the database to itself.
struct Locked(Child);

impl Locked {
    fn lock(gateway: &Gateway) -> Option<Locked> {
        let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],isolation_level=None,timeout=20)\nc.execute('BEGIN IMMEDIATE')\nprint('locked',flush=True)\nsys.stdin.read()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(gateway.data_dir().join("causeway.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "locked\n");
        Some(Locked(child))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_recorded_is_answered_by_an_error_event_and_the_socket_stays() {
    let (mut provider, gateway) = started().await;
    let mut socket = open(&mut provider, &gateway).await;
    let Some(locked) = Locked::lock(&gateway) else {
        eprintln!("skipped: there is no python3");
        return;
    };
    socket.send(&in_lane(create("unheard"), "a \"lane\"")).await;
    let event = socket.event().await;
    assert_eq!(
        (&event["type"], &event["status"]),
        (&json!("error"), &json!(503)),
        "{event}"
    );
    assert_eq!(event["error"]["code"], "records_unavailable", "{event}");
    assert_eq!(event["stream_id"], "a \"lane\"");
    drop(locked);
    // The next call is the first that the provider hears of.
    socket.turn("heard", "r").await;
    let records = finished(&gateway, &socket.id, 2).await;
    assert_eq!(records[0]["outcome"], "refused", "{}", records[0]);
    assert_eq!(records[1]["outcome"], "completed", "{}", records[1]);
    assert_eq!(
        gateway
            .metric("causeway_refusals_total{reason=\"records_unavailable\"}")
            .await,
        1
    );
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
async fn every_byte_passes_as_it_was_in_frames_of_any_kind() {
    const TEXT: OpCode = OpCode::Data(Data::Text);
    const MORE: OpCode = OpCode::Data(Data::Continue);
    const PING: OpCode =
        OpCode::Control(tokio_tungstenite::tungstenite::protocol::frame::coding::Control::Ping);
    let (mut provider, gateway) = started().await;
    let socket = open(&mut provider, &gateway).await;
    let (mut client, mut upstream) = (socket.client.into_inner(), socket.provider.io.into_inner());
    let key = Some([7, 0, 200, 13]);
    let asked = create("fragmented").to_string().into_bytes();
    let (one, two) = asked.split_at(30);
    let up = [
        frame(b"are you there", PING, true, key),
        frame(one, TEXT, false, key),
        frame(b"", MORE, false, Some([0; 4])),
        frame(two, MORE, true, Some([1, 2, 3, 4])),
        frame(br#"{"type":"response.processed", "x" : 1.0}"#, TEXT, true, key),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_key_goes_with_the_sockets_of_base_url_mode() {
    const KEY: &str = "sk-central-socket-4d1f";
    let (mut provider, gateway) =
        started_with(|settings| settings.provider(&format!("keys = [{{ literal = \"{KEY}\" }}]"))).await;
    let mut headers = HeaderMap::new();
    let token = format!("Bearer {}", gateway.token());
    headers.insert("authorization", token.parse().unwrap());
    let io = TcpStream::connect(gateway.bridge()).await.unwrap();
    let (mut client, headers) = open_http1(io, "bridge", "/openai/v1/responses", headers)
        .await
        .unwrap();
    let mut upstream = provider.opened().await;
    assert_eq!(
        upstream.request.headers()["authorization"],
        format!("Bearer {KEY}")
    );
    assert_eq!(upstream.request.uri(), PATH);
    client
        .send(Message::text(create("hi").to_string()))
        .await
        .unwrap();
    upstream.event().await;
    upstream.begins(None, "r").await;
    upstream.completes(None, "r", 1).await;
    let records = finished(&gateway, &request_id(&headers), 1).await;
    let record = full(&gateway, &records[0]).await;
    assert_eq!(
        (&record["mode"], &record["outcome"]),
        (&json!("base_url"), &json!("completed")),
        "{record}"
    );
    assert_eq!(record["credential_kind"], "central", "{record}");
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
