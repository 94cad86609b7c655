//! The Codex CLI with an API key: `causeway run -- codex exec …` leaves a session with its prompt, its tool and the
//! tokens that the provider told, by plain requests and over a WebSocket.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use super::play::TEXT;
use super::{Mode, USER_KEY, in_mode, installed, started, table};
use crate::clients;
use crate::fake::{ProviderSocket, Reply, Seen, SocketProvider};
use crate::harness::{Gateway, eventually};

const PROMPT: &str = "Say hello from Zürich ☂";
/// What the tool writes, to be found in what Codex sends back.
const RAN: &str = "the-tool-has-run";

/// Runs Codex in a home of its own, with an API key; what it wrote.
async fn run(gateway: &Gateway) -> Option<String> {
    let program = installed("node/node_modules/.bin/codex");
    if !program.exists() {
        clients::skip("Codex is not installed: run tests/interop/setup.sh");
        return None;
    }
    let home = home();
    let arguments = [
        "exec",
        "--json",
        "--skip-git-repo-check",
        "-s",
        "danger-full-access",
        "-m",
        "gpt-5.2",
        PROMPT,
    ];
    let words: Vec<_> = std::iter::once(program)
        .chain(arguments.map(PathBuf::from))
        .collect();
    let mut command: Command = in_mode(gateway, Mode::Proxy, &words);
    command
        .env("HOME", home.path())
        .env_remove("OPENAI_API_KEY")
        .env("PATH", path());
    let output = clients::run(command).await?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(TEXT) && text.contains(RAN), "{text}{errors}");
    Some(text)
}

fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let auth = json!({"auth_mode": "apikey", "OPENAI_API_KEY": USER_KEY});
    std::fs::create_dir(home.path().join(".codex")).unwrap();
    std::fs::write(home.path().join(".codex/auth.json"), auth.to_string()).unwrap();
    home
}

fn path() -> std::ffi::OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let node = installed("runtime/node_modules/.bin");
    std::env::join_paths(std::iter::once(node).chain(std::env::split_paths(&own))).unwrap()
}

/// A response with one item and its usage, as events.
fn response(id: &str, item: &Value, (input, output): (u64, u64)) -> Vec<Value> {
    let whole = |status: &str, output: Value, usage: Value| {
        json!({"id": id, "object": "response", "created_at": 1_795_000_000, "status": status,
            "model": "gpt-5.2-2026-01-15", "output": output, "usage": usage})
    };
    let usage = json!({"input_tokens": input, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + output});
    let items = if item.is_null() { json!([]) } else { json!([item]) };
    let mut events =
        vec![json!({"type": "response.created", "response": whole("in_progress", json!([]), Value::Null)})];
    if !item.is_null() {
        events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": item}));
        events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    }
    events.push(json!({"type": "response.completed", "response": whole("completed", items, usage)}));
    events
}

fn calls_the_tool() -> Vec<Value> {
    let arguments = json!({"cmd": format!("echo {RAN}")}).to_string();
    let call = json!({"type": "function_call", "id": "fc_1", "call_id": "call_codex1", "name": "exec_command",
        "arguments": arguments, "status": "completed"});
    response("resp_tool", &call, (20, 9))
}

fn answers() -> Vec<Value> {
    let text = json!({"type": "output_text", "text": TEXT, "annotations": []});
    let message = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]});
    response("resp_text", &message, (11, 7))
}

/// The events as a stream of HTTP.
fn stream(events: &[Value]) -> Reply {
    let mut text = String::new();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        write!(text, "event: {kind}\ndata: {event}\n\n").unwrap();
    }
    Reply::sse(Box::leak(text.into_bytes().into_boxed_slice()))
}

/// One session is on record, with everything that the provider served.
async fn check_session(gateway: &Gateway) {
    let session = eventually("the session", async || {
        let list = gateway.list("/api/v1/sessions").await;
        list.into_iter().find(|session| session["usage"]["output"] == 16)
    })
    .await;
    assert_eq!(session["clients"], json!(["Codex"]), "{session}");
    assert_eq!(session["usage"]["input"], 31, "{session}");
    assert_eq!(session["tool_calls"], 1, "{session}");
    assert_eq!(session["last_prompt"], PROMPT, "{session}");
    let of_session = format!(
        "/api/v1/interceptions?session={}",
        session["id"].as_str().unwrap()
    );
    let calls = gateway.list(&of_session).await;
    let served = calls
        .iter()
        .filter(|call| call["usage"][0]["output"].as_u64() > Some(0));
    assert_eq!(served.count(), 2, "{calls:#?}");
    let names: Vec<_> = calls
        .iter()
        .flat_map(|call| call["tool_calls"].as_array().unwrap())
        .collect();
    assert_eq!(names.len(), 1, "{calls:#?}");
    assert_eq!(names[0]["name"], "exec_command");
    assert!(names[0]["arguments"].to_string().contains(RAN), "{names:?}");
}

fn documented(api: &str) {
    let version = table::pinned("tests/interop/node/package.json", "@openai/codex");
    let scenarios = json!({"stream": true, "tools": true});
    table::documented(&[table::Row::new(
        "Codex CLI",
        &version,
        Mode::Proxy,
        api,
        &scenarios,
        2,
    )]);
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_leaves_a_session_with_plain_requests() {
    let (fake, gateway) = started().await;
    let has_run = |seen: &Seen| String::from_utf8_lossy(&seen.body).contains("call_codex1");
    fake.on_if(
        "/v1/responses",
        |seen| seen.method == "POST",
        stream(&calls_the_tool()),
    );
    fake.on_if("/v1/responses", has_run, stream(&answers()));
    if run(&gateway).await.is_some() {
        check_session(&gateway).await;
        documented("responses");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_leaves_a_session_over_a_web_socket() {
    let mut provider = SocketProvider::start().await;
    let gateway = Gateway::start(provider.settings()).await;
    let played = tokio::spawn(async move {
        loop {
            tokio::spawn(play(provider.opened().await));
        }
    });
    let ran = run(&gateway).await;
    played.abort();
    if ran.is_some() {
        check_session(&gateway).await;
        let calls = gateway.list("/api/v1/interceptions").await;
        assert!(calls.iter().all(|call| call["api"] == "responses"), "{calls:#?}");
        documented("responses, WebSocket");
    }
}

/// Answers each call on a socket: the warm-up with nothing, the first with a tool, the next with a text.
async fn play(mut socket: ProviderSocket) {
    while let Some(Ok(message)) = socket.io.next().await {
        let Message::Text(text) = message else { continue };
        let event: Value = serde_json::from_str(&text).unwrap();
        let events = if event["type"] != "response.create" {
            continue;
        } else if event["generate"] == false {
            response("resp_warm", &Value::Null, (0, 0))
        } else if text.contains("call_codex1") {
            answers()
        } else {
            calls_the_tool()
        };
        for event in events {
            if socket.io.send(Message::text(event.to_string())).await.is_err() {
                return;
            }
        }
    }
}
