//! Exports: whole, in constant memory, readable by the parsers of others, harmless in a spreadsheet.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::beside::Beside;
use crate::cases::{self, CHAT, MESSAGES_STREAM};
use crate::client::{Answer, Ask, Http, base_url};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::postgres::Postgres;

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

/// Calls with this prompt, one after the other; returns their ids.
async fn call(gateway: &Gateway, token: &str, prompt: &str, count: usize) -> Vec<String> {
    let body = json!({"model": "gpt-5.5", "messages": [{"role": "user", "content": prompt}]}).to_string();
    let mut session = base_url(gateway.bridge()).await;
    let mut ids = Vec::new();
    for _ in 0..count {
        let ask = Ask::post(format!("/openai{}", CHAT.path), body.clone())
            .header("authorization", "Bearer sk-user")
            .header("x-coder-ai-governance-token", token);
        let answer = session.send(ask).await;
        assert_eq!(answer.status, 200);
        ids.push(answer.request_id());
        answer.bytes().await;
    }
    ids
}

async fn export(gateway: &Gateway, token: &str, query: &str) -> Answer {
    let ask = Ask::get(format!("/api/v1/export{query}")).header("authorization", format!("Bearer {token}"));
    base_url(gateway.bridge()).await.send(ask).await
}

async fn text(gateway: &Gateway, token: &str, query: &str) -> String {
    let answer = export(gateway, token, query).await;
    assert_eq!(answer.status, 200, "{query}");
    String::from_utf8(answer.bytes().await.to_vec()).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The requests of interceptions.
fn requests(rows: &[Value]) -> Vec<String> {
    let request = |row: &Value| row["request_id"].as_str().unwrap().to_owned();
    rows.iter().map(request).collect()
}

fn table(text: &str) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(|row| row.unwrap()).collect()
}

/// Fails unless the table says what the lines say, without formulas; returns its length.
fn check_table(csv: &str, lines: &[Value]) -> usize {
    assert!(
        csv.starts_with("id,request_id,") && csv.ends_with("\r\n"),
        "{csv}"
    );
    let rows = table(csv);
    for (row, line) in rows.iter().zip(lines) {
        for name in [
            "id",
            "user",
            "provider",
            "model",
            "outcome",
            "started_at",
            "ended_at",
        ] {
            assert_eq!(row[name], line[name].as_str().unwrap(), "{name}");
        }
        assert_eq!(row["input"], line["usage"][0]["input"].to_string());
        let prompt = line["prompt"].as_str().unwrap();
        let is_formula = prompt.starts_with(['=', '+', '-', '@']);
        let want = if is_formula {
            format!("'{prompt}")
        } else {
            prompt.to_owned()
        };
        assert_eq!(row["prompt"], want);
    }
    rows.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_holds_the_same_and_formulas_are_defused() {
    let (_fake, gateway) = started().await;
    let token = gateway.token();
    let prompts = [
        "=HYPERLINK(\"http://x\";\"a\"), then\nmore",
        "+1",
        "-2",
        "@x",
        "plain, \"quoted\"",
    ];
    let mut ids = Vec::new();
    for prompt in prompts {
        ids.extend(call(&gateway, &token, prompt, 1).await);
    }
    let (_, ann) = gateway.new_token("ann");
    ids.extend(call(&gateway, &ann, "mine", 1).await);
    ids.reverse();

    let lines = json_lines(&text(&gateway, &token, "").await);
    let list: Vec<Value> = serde_json::from_str(&text(&gateway, &token, "?format=json").await).unwrap();
    assert_eq!(lines, list);
    assert_eq!(lines, gateway.list("/api/v1/interceptions").await);
    assert_eq!(requests(&lines), ids, "the latest first");

    let csv = text(&gateway, &token, "?format=csv").await;
    assert_eq!(check_table(&csv, &lines), 6);
    assert_eq!(text(&gateway, &token, "?format=json&user=nobody").await, "[\n]\n");
    assert_eq!(
        table(&text(&gateway, &token, "?format=csv&user=nobody").await).len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_export_their_own_and_mistakes_are_named() {
    let (_fake, gateway) = started().await;
    let (token, (_, ann)) = (gateway.token(), gateway.new_token("ann"));
    call(&gateway, &token, "not for ann", 1).await;
    let own = call(&gateway, &ann, "mine", 1).await;
    assert_eq!(requests(&json_lines(&text(&gateway, &ann, "").await)), own);
    assert_eq!(export(&gateway, &ann, "?user=admin").await.status, 403);
    for wrong in ["?format=xml", "?limit=3", "?cursor=x", "?after=soon"] {
        let answer = export(&gateway, &token, wrong).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert_eq!(
            answer.json().await["field"],
            wrong[1..].split('=').next().unwrap()
        );
    }
}

/// Memory of the process that is its own, in bytes.
fn memory(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_large_export_takes_little_memory_and_is_whole_while_records_are_written() {
    let (_fake, gateway) = started().await;
    let token = gateway.token();
    // 30 KiB each, in which nothing repeats; one word, which takes no room in the search index.
    let prompt: String = (0_u32..4_300)
        .map(|n| format!("{:07x}", n.wrapping_mul(2_654_435_761) >> 4))
        .collect();
    let call_some = |count| call(&gateway, &token, &prompt, count);
    let made = tokio::join!(call_some(400), call_some(400), call_some(400), call_some(400));
    let ids: HashSet<String> = [made.0, made.1, made.2, made.3].concat().into_iter().collect();
    eventually("the index to be made", async || {
        (gateway.metric("causeway_records_unindexed").await == 0).then_some(())
    })
    .await;
    let before = memory(&gateway);
    let (mut answer, during) = tokio::join!(export(&gateway, &token, ""), call_some(1));
    let (mut length, mut most) = (0, 0);
    // Read in steps, so that the export goes on while others write.
    while length < 40 << 20 {
        length += 4 << 20;
        answer.read_to(length).await;
        call_some(2).await;
        most = most.max(memory(&gateway));
    }
    let text = String::from_utf8(answer.bytes().await.to_vec()).unwrap();
    assert!(text.len() > 40 << 20, "{}", text.len());
    let found = requests(&json_lines(&text));
    let unique: HashSet<String> = found.iter().cloned().collect();
    assert_eq!(unique.len(), found.len(), "nothing comes twice");
    assert!(ids.is_subset(&unique), "everything that was there is in it");
    assert_eq!(during.len(), 1);
    let grown = most.saturating_sub(before);
    assert!(
        grown < 20 << 20,
        "{} KiB for {} KiB",
        grown >> 10,
        text.len() >> 10
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_exports_what_it_is_asked_for() {
    let (_fake, gateway) = started().await;
    let token = gateway.token();
    let ids = call(&gateway, &token, "hello", 3).await;
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    let output = |arguments: &[&str]| String::from_utf8(gateway.cli_output(arguments)).unwrap();
    let lines = output(&[
        "export",
        "--since",
        "1h",
        "--user",
        "admin",
        "--status",
        "completed",
    ]);
    assert_eq!(requests(&json_lines(&lines)), newest_first);
    let list: Vec<Value> = serde_json::from_str(&output(&["export", "--format", "json"])).unwrap();
    assert_eq!(requests(&list), newest_first);
    assert_eq!(table(&output(&["export", "--format", "csv"])).len(), 3);
    assert_eq!(output(&["export", "--until", "2020-01-01"]), "");
    let other = call(&gateway, &token, "what else there is", 1).await;
    eventually("the words to be found", async || {
        let lines = output(&["export", "-q", "\"what else\""]);
        (requests(&json_lines(&lines)) == other).then_some(())
    })
    .await;
    let lines = output(&["export", "-q", "else what*"]);
    assert_eq!(requests(&json_lines(&lines)), other);
    let ask = text(&gateway, &token, "?q=hello&q=hel*").await;
    assert_eq!(requests(&json_lines(&ask)), newest_first);
    for wrong in [
        &["--since", "soon"][..],
        &["--status", "odd"],
        &["-q", "*"],
        &["--follow", "--format", "json"],
    ] {
        let ended = gateway.command().arg("export").args(wrong).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_misses_and_repeats_nothing_over_restarts_of_the_gateway() {
    let (fake, mut gateway) = started().await;
    let token = gateway.token();
    let (reply, _gate) = MESSAGES_STREAM.scripted().gated();
    let first = reply.frames()[0].len();
    fake.on(MESSAGES_STREAM.path, reply);
    let mut command = gateway.command();
    command.args(["export", "--follow"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();

    let (mut ids, mut told) = (Vec::new(), Vec::new());
    for kill in [true, false, true] {
        ids.extend(call(&gateway, &token, "before the end", 3).await);
        if kill {
            // What the kill interrupts is told of once, too: as aborted, by the next process.
            let mut session = gateway.client().open(MESSAGES_STREAM.host, Http::V1).await;
            let ask = Ask::post(MESSAGES_STREAM.path, MESSAGES_STREAM.request);
            let mut answer = session.send(ask.header("x-api-key", "sk-user")).await;
            answer.read_to(first).await;
            ids.push(answer.request_id());
            gateway.kill_9();
        } else {
            gateway.terminate();
            assert!(gateway.ended().await);
        }
        gateway.restart().await;
        ids.extend(call(&gateway, &token, "after the start", 2).await);
        while told.len() < ids.len() {
            told.push(next());
        }
    }
    ids.extend(call(&gateway, &token, "the last", 1).await);
    told.push(next());
    assert_eq!(told.iter().filter(|row| row["outcome"] == "aborted").count(), 2);
    let completed = told.iter().filter(|row| row["outcome"] == "completed");
    assert_eq!(completed.count(), told.len() - 2);
    let mut told = requests(&told);
    assert_eq!(told.last(), ids.last());
    told.sort();
    ids.sort();
    assert_eq!(told, ids);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_waits_for_a_database_that_is_away() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &[CHAT]).await;
    let settings = Settings::in_front_of(&fake).env("CAUSEWAY_STORE__URL", server.database("shared"));
    let gateway = Gateway::start(settings).await;
    let token = gateway.token();
    let mut command = gateway.command();
    let command = command.args(["export", "--follow"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut next = || json_lines(&lines.next().unwrap().unwrap());
    let first = call(&gateway, &token, "before", 1).await;
    assert_eq!(requests(&next()), first);
    server.stop();
    let told = errors.next().unwrap().unwrap();
    assert!(told.contains("trying again"), "{told}");
    let during = call(&gateway, &token, "meanwhile", 1).await;
    server.resume();
    assert_eq!(requests(&next()), during);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(errors.next().is_none(), "once is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_by_words_has_what_was_just_asked_and_is_refused_where_it_cannot_be_whole() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &[CHAT]).await;
    let url = server.database("shared");
    let settings = Settings::in_front_of(&fake).env("CAUSEWAY_STORE__URL", url.clone());
    let gateway = Gateway::start(settings).await;
    let token = gateway.token();
    // Nobody makes the index.
    let beside = Beside::at(&url).await;
    let lease = "INSERT INTO search_lease VALUES (1, '\\x00', 9e18)
        ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, until = excluded.until";
    beside.execute(lease).await;
    let few = call(&gateway, &token, "straw", 3).await;
    let found = json_lines(&text(&gateway, &token, "?q=straw").await);
    assert_eq!(requests(&found).len(), few.len());
    let call_some = |count| call(&gateway, &token, "straw", count);
    tokio::join!(call_some(150), call_some(150), call_some(150), call_some(150));
    let refused = export(&gateway, &token, "?q=straw").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "10"));
    let counted = "causeway_refusals_total{reason=\"search_index_behind\"}";
    assert_eq!(gateway.metric(counted).await, 1);
    let refused = gateway
        .command()
        .args(["export", "-q", "straw"])
        .output()
        .unwrap();
    assert!(!refused.status.success() && refused.stdout.is_empty());
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("the search index is being made"), "{told}");
    beside.execute("DELETE FROM search_lease").await;
    let found = eventually("the whole export", async || {
        let answer = export(&gateway, &token, "?q=straw").await;
        (answer.status == 200).then_some(answer)
    });
    let found = String::from_utf8(found.await.bytes().await.to_vec()).unwrap();
    assert_eq!(json_lines(&found).len(), 603);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_until_it_is_interrupted_or_nobody_reads() {
    let (_fake, gateway) = started().await;
    let token = gateway.token();
    let mut ids = call(&gateway, &token, "hello", 3).await;
    let mut command = gateway.command();
    command
        .args(["export", "--follow", "--since", "1h"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |count| -> Vec<Value> {
        let lines = (&mut lines).take(count);
        lines
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect()
    };
    assert_eq!(requests(&next(3)), ids);
    ids = call(&gateway, &token, "more", 2).await;
    assert_eq!(requests(&next(2)), ids);
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let status = eventually("the end", async || child.try_wait().unwrap()).await;
    assert!(status.success());

    // A reader that has seen enough is no failure.
    call(&gateway, &token, &"long ".repeat(20_000), 5).await;
    let mut command = gateway.command();
    command
        .arg("export")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}
