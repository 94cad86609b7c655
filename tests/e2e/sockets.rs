//! Calls over WebSockets are on record one by one, whatever happens to the socket: before the provider sees them,
//! and with their end before the client sees it. Nothing on the wire tells that somebody reads along.

mod breaker;
mod ends;
mod governed;
mod wire;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::client::within;
use crate::fake::{ProviderSocket, SocketProvider, completed};
use crate::harness::{Gateway, Settings, eventually};
use crate::websocket::{HOST, client_headers, open_http1};

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
    // No spool: what the store does not take is not kept.
    let no_spool = |settings: Settings| settings.env("CAUSEWAY_RECORD__SPOOL_MAX", "0B".to_owned());
    let (mut provider, gateway) = started_with(no_spool).await;
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
    eventually("room for records", async || {
        (gateway.metric("causeway_records_full").await == 0).then_some(())
    })
    .await;
    // The next call is the first that the provider hears of, and the first on record.
    socket.turn("heard", "r").await;
    let records = finished(&gateway, &socket.id, 1).await;
    assert_eq!(records[0]["outcome"], "completed", "{}", records[0]);
    assert_eq!(
        gateway
            .metric("causeway_refusals_total{reason=\"records_unavailable\"}")
            .await,
        1
    );
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
