//! `causeway run`: the client is led through a gateway, and behaves as if nothing stood before it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::cases;
use crate::client::assert_same;
use crate::clients;
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

const CASE: cases::Case = cases::CHAT;

async fn fake() -> FakeProvider {
    FakeProvider::answering(Offers::Both, &cases::ALL).await
}

/// `causeway run --` on the gateway's folder.
fn run(gateway: &Gateway) -> Command {
    let mut command = gateway.command();
    command.args(["run", "--"]);
    command
}

/// A shell that the gateway's folder leads through it.
fn shell(gateway: &Gateway, script: &str) -> Command {
    let mut command = run(gateway);
    // A shell cannot trap what is ignored when it begins, as SIGHUP is under nohup.
    command.args(["env", "--default-signal", "sh", "-c", script]);
    command
}

async fn output(command: Command) -> Output {
    clients::run(command).await.expect("the program is built")
}

/// curl as a shell line: the case's request, with no word of proxy or CA.
fn curl() -> String {
    let body = std::str::from_utf8(CASE.request).unwrap().replace('\'', "'\\''");
    format!(
        "curl --silent --show-error --max-time 20 -H 'authorization: Bearer sk-user' \
         -H 'content-type: application/json' --data-binary '{body}' https://{}{}",
        CASE.host, CASE.path
    )
}

fn is_taken(gateway: &Gateway) -> bool {
    let lock = std::fs::File::open(gateway.data_dir().join("lock"));
    lock.is_ok_and(|lock| lock.try_lock().is_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_through_the_gateway_that_runs() {
    let fake = fake().await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let mut command = shell(&gateway, &format!("{}; env >&2", curl()));
    command.env("NO_PROXY", "intra.corp").env("LEFT_ALONE", "yes");
    let output = output(command).await;
    assert_same(&output.stdout, CASE.reply, "curl");
    let environment = String::from_utf8(output.stderr).unwrap();
    let url = format!("http://x:{}@{}", gateway.token(), gateway.proxy());
    for line in [
        format!("HTTPS_PROXY={url}"),
        format!("http_proxy={url}"),
        "NO_PROXY=intra.corp,localhost,127.0.0.1,::1".to_owned(),
        "NODE_USE_ENV_PROXY=1".to_owned(),
        format!("NODE_EXTRA_CA_CERTS={}", gateway.ca_file().display()),
        format!("SSL_CERT_FILE={}/ca-bundle.pem", gateway.data_dir().display()),
        "LEFT_ALONE=yes".to_owned(),
    ] {
        assert!(
            environment.lines().any(|found| found == line),
            "{line} is not in {environment}"
        );
    }
    let records = gateway.list("/api/v1/interceptions").await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["client"], "curl");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_a_private_one_keeps_the_records_and_leaves_with_its_last_client() {
    let fake = fake().await;
    let gateway = Gateway::configured(Settings::in_front_of(&fake));
    let mut first = started(&gateway);
    // The second joins the gateway that the first has brought.
    let mut second = started(&gateway);
    finish(&mut first);
    // Longer than the gateway takes to notice that it is unused.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(is_taken(&gateway), "the second client still uses it");
    finish(&mut second);
    eventually("the private gateway to end", async || {
        (!is_taken(&gateway)).then_some(())
    })
    .await;
    let sessions = gateway.cli(&["sessions", "--json"]);
    let counted: u64 = sessions["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["interceptions"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, 2, "{sessions}");
}

/// A client that waits for a line before it asks, and has begun to wait.
fn started(gateway: &Gateway) -> Child {
    let mut command = shell(gateway, &format!("echo ready; read line; {}", curl()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn finish(child: &mut Child) {
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut reply = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut reply).unwrap();
    assert_same(&reply, CASE.reply, "curl");
    assert!(child.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_signals_and_streams_are_the_clients_own() {
    let fake = fake().await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let seven = output(shell(&gateway, "cat; echo oops >&2; exit 7")).await;
    assert_eq!(seven.status.code(), Some(7));
    assert_eq!(
        (seven.stdout.as_slice(), seven.stderr.as_slice()),
        (&b""[..], &b"oops\n"[..])
    );
    let killed = output(shell(&gateway, "kill -KILL $$")).await;
    assert_eq!(killed.status.signal(), Some(9));
    for (program, want) in [("no-such-client", 127), ("/", 126)] {
        let mut command = run(&gateway);
        command.arg(program);
        let missing = output(command).await;
        assert_eq!(missing.status.code(), Some(want), "{program}");
        assert!(
            String::from_utf8_lossy(&missing.stderr).starts_with("causeway: "),
            "{program}"
        );
    }
    for signal in ["INT", "TERM", "HUP", "WINCH"] {
        let script =
            format!("trap 'echo got {signal}; exit 3' {signal}; echo ready; while :; do sleep 0.02; done");
        let mut child = shell(&gateway, &script).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("ready"), "{signal}");
        let pid = child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status();
        assert!(sent.unwrap().success());
        assert_eq!(lines.next(), Some(format!("got {signal}")));
        assert_eq!(child.wait().unwrap().code(), Some(3), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_the_terminal_even_beside_a_private_gateway() {
    let fake = fake().await;
    let gateway = Gateway::configured(Settings::in_front_of(&fake));
    // In the foreground: it may read from the terminal, and is the group that Ctrl-C reaches.
    let script = gateway.data_dir().with_file_name("client.sh");
    let text =
        "test -t 0 && test -t 1 && test -t 2 && read line && echo heard $line && ps -o pgid=,tpgid= -p $$";
    std::fs::write(&script, text).unwrap();
    let line = format!(
        "{} --data-dir {} run -- sh {}",
        env!("CARGO_BIN_EXE_causeway"),
        gateway.data_dir().display(),
        script.display()
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.current_dir(gateway.data_dir().parent().unwrap());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"typed\n").unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("heard typed"), "{text}");
    let last: Vec<_> = text
        .lines()
        .last()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert!(
        last.len() == 2 && last[0] == last[1],
        "not in the foreground: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_gateway_that_cannot_start_says_why() {
    let fake = fake().await;
    let gateway = Gateway::configured(Settings::in_front_of(&fake).proxy("listen = \"nowhere\""));
    let broken = output(shell(&gateway, "echo never")).await;
    assert!(!broken.status.success() && broken.stdout.is_empty());
    let text = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(text.starts_with("causeway: "), "{text}");
}
