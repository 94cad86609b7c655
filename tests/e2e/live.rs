//! What the configuration's file says of proxy, CA and records counts from the next connection or call on; what is
//! open goes on as it began, and a file that cannot run changes nothing of all that.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cases::{self, CHAT};
use crate::client::{Ask, Head, Http, ProxyClient, base_url, try_tls, within};
use crate::corporate::{Answer, Corporate};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::load::Load;
use crate::postgres::Postgres;
use crate::proxy::{echo_through, until_closed};
use crate::reload::ask_for_reload;
use crate::tcp::{Echo, GREETING};

/// A gateway whose tunnels reach `echo`.
async fn started() -> (FakeProvider, Echo, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let echo = Echo::start().await;
    let ports = format!("allowed-ports = [443, {}]", echo.address().port());
    let settings = Settings::in_front_of(&fake)
        .proxy("allow-private = [\"127.0.0.0/8\"]")
        .proxy(&ports);
    (fake, echo, Gateway::start(settings).await)
}

async fn open(client: &ProxyClient, echo: &Echo) -> (Head, TcpStream) {
    client.connect(&echo.address().to_string()).await
}

/// A tunnel that has begun to carry bytes.
async fn tunnel(gateway: &Gateway, echo: &Echo) -> TcpStream {
    let (head, tunnel) = open(&gateway.client(), echo).await;
    assert_eq!(head.status, 200, "{head:?}");
    tunnel
}

/// Puts `lines` under `[proxy]` of `original`, and has that read by a signal.
fn hang_up_with(gateway: &Gateway, original: &str, lines: &str) {
    gateway.configure(&original.replace("[proxy]\n", &format!("[proxy]\n{lines}\n")));
    gateway.hang_up();
}

async fn refused_for(gateway: &Gateway, echo: &Echo, reason: &str) {
    eventually(reason, async || {
        let (head, _) = open(&gateway.client(), echo).await;
        (head.header("x-causeway-reason") == Some(reason)).then_some(())
    })
    .await;
}

/// Reloads with `text`; the keys that need a restart.
async fn reloaded(gateway: &Gateway, text: &str) -> Value {
    gateway.configure(text);
    let (code, body) = ask_for_reload(gateway, &gateway.token()).await;
    assert_eq!(code, 200, "{body}");
    body["needs_restart"].clone()
}

/// Reloads with `text`, which cannot run; why.
async fn refused(gateway: &Gateway, text: &str) -> String {
    gateway.configure(text);
    let (code, body) = ask_for_reload(gateway, &gateway.token()).await;
    assert_eq!(code, 422, "{body}");
    body["problems"].to_string()
}

fn ask() -> Ask {
    Ask::post(CHAT.path, CHAT.request).header("authorization", "Bearer sk-user")
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_hosts_and_the_tunnel_mode_count_from_the_next_connect_and_open_tunnels_go_on() {
    let (_fake, echo, gateway) = started().await;
    let original = gateway.configuration();
    let before = tunnel(&gateway, &echo).await;

    hang_up_with(&gateway, &original, "deny-hosts = [\"127.0.0.1\"]");
    refused_for(&gateway, &echo, "host_denied").await;
    hang_up_with(&gateway, &original, "tunnel = \"deny\"");
    refused_for(&gateway, &echo, "host_not_allowed").await;
    let stranger = ProxyClient::new(gateway.proxy(), String::new(), &gateway.ca_file());
    assert_ne!(open(&stranger, &echo).await.0.status, 200);
    hang_up_with(&gateway, &original, "tunnel = \"open\"");
    eventually("a tunnel for everyone", async || {
        (open(&stranger, &echo).await.0.status == 200).then_some(())
    })
    .await;
    echo_through(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_ports_networks_and_deadlines_count_from_the_next_connect() {
    let (_fake, echo, gateway) = started().await;
    let original = gateway.configuration();
    let before = tunnel(&gateway, &echo).await;
    let mut also_before = tunnel(&gateway, &echo).await;
    assert_eq!(
        reloaded(&gateway, &original.replace("[proxy]", "[proxy]\nmax-tunnels = 2")).await,
        json!([])
    );
    refused_for(&gateway, &echo, "too_many_tunnels").await;
    let text = original.replace("allow-private = [\"127.0.0.0/8\"]", "");
    assert_eq!(reloaded(&gateway, &text).await, json!([]));
    refused_for(&gateway, &echo, "address_not_allowed").await;
    let port = echo.address().port().to_string();
    assert_eq!(
        reloaded(&gateway, &original.replace(&port, "80")).await,
        json!([])
    );
    refused_for(&gateway, &echo, "port_not_allowed").await;

    let text = original.replace("[proxy]", "[proxy]\ntunnel-idle = \"200ms\"");
    assert_eq!(reloaded(&gateway, &text).await, json!([]));
    let mut impatient = tunnel(&gateway, &echo).await;
    assert_eq!(until_closed(&mut impatient).await, GREETING, "it fell silent");
    // Those from before are silent for longer than that already.
    let mut greeting = vec![0; GREETING.len()];
    also_before.read_exact(&mut greeting).await.unwrap();
    also_before.write_all(b"x").await.unwrap();
    assert_eq!(within("the echo", also_before.read_u8()).await.unwrap(), b'x');
    echo_through(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_organisations_proxy_can_be_put_in_between_and_taken_away() {
    let (_fake, echo, gateway) = started().await;
    let original = gateway.configuration();
    let corporate = Corporate::start(Answer::Tunnel(echo.address())).await;
    let before = tunnel(&gateway, &echo).await;
    let way = format!("upstream-proxy = \"http://u:p@{}\"", corporate.address());
    let with = |lines: &str| original.replace("[proxy]", &format!("[proxy]\n{lines}"));

    assert_eq!(reloaded(&gateway, &with(&way)).await, json!([]));
    echo_through(tunnel(&gateway, &echo).await).await;
    assert_eq!(corporate.heads().len(), 1);
    let but = format!("{way}\nno-proxy = [\"127.0.0.1\"]");
    assert_eq!(reloaded(&gateway, &with(&but)).await, json!([]));
    echo_through(tunnel(&gateway, &echo).await).await;
    assert_eq!(corporate.heads().len(), 1);
    echo_through(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_changes_neither_rules_nor_ca_nor_records() {
    let (fake, echo, mut gateway) = started().await;
    let original = gateway.configuration();
    let garbage = gateway.data_dir().join("garbage.pem");
    fs::write(&garbage, "no certificate").unwrap();
    let garbage = garbage.to_str().unwrap();
    // All of it counts, or nothing.
    let change = "deny-hosts = [\"127.0.0.1\", \"api.openai.com\"]";
    let more = "\n[record]\ncontent = \"metadata\"\n[[policy.rule]]\ndeny = [\"*\"]\n";
    for (proxy, after, want) in [
        ("tunnel = \"closed\"", "", "proxy"),
        ("max-connections = 0", "", "proxy"),
        (
            &*format!("upstream-proxy = \"https://proxy.corp\"\nupstream-proxy-ca = {garbage:?}"),
            "",
            "garbage.pem of proxy.upstream-proxy-ca",
        ),
        (
            "",
            &*format!("\n[ca]\ncert = {garbage:?}\nkey = {garbage:?}\n"),
            "the CA cannot be used",
        ),
        (
            "",
            "\n[ca]\ncert = \"gone.pem\"\nkey = \"gone.key\"\n",
            "gone.pem",
        ),
        ("", "\n[store]\nurl = \"mysql://db\"\n", "store.url"),
    ] {
        let text = original.replace("[proxy]\n", &format!("[proxy]\n{change}\n{proxy}\n")) + more + after;
        let why = refused(&gateway, &text).await;
        assert!(why.contains(want), "{want}: {why}");
        echo_through(tunnel(&gateway, &echo).await).await;
        let mut session = gateway.client().open(CHAT.host, Http::V1).await;
        let answer = session.send(ask()).await;
        assert_eq!(answer.status, 200, "{want}");
        let record = gateway.record(&answer.request_id()).await;
        assert_eq!(record["prompt"], cases::PROMPT, "{want}");
    }
    // What would let everyone in from outside is refused by where the port really is.
    gateway.terminate();
    assert!(gateway.ended().await);
    let everywhere = original.replacen("127.0.0.1:0", "0.0.0.0:0", 1);
    gateway.configure(&everywhere);
    gateway.restart().await;
    let why = refused(
        &gateway,
        &original.replace("[proxy]", "[proxy]\ntunnel = \"open\""),
    )
    .await;
    assert!(why.contains("proxy.tunnel"), "{why}");
    drop(fake);
}

/// A CA of its own in its own folder.
fn other_ca() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_causeway"))
        .arg("--data-dir")
        .arg(folder.path())
        .args(["ca", "init"])
        .output()
        .unwrap();
    assert!(made.status.success());
    folder
}

fn ca_section(cert: &Path, key: &Path) -> String {
    format!("\n[ca]\ncert = {cert:?}\nkey = {key:?}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ca_may_be_named() {
    let (_fake, _echo, gateway) = started().await;
    let original = gateway.configuration();
    let other = other_ca();
    let (cert, key) = (other.path().join("ca.pem"), other.path().join("ca.key"));
    let mut before = gateway.client().open(CHAT.host, Http::V1).await;
    assert!(!before.send(ask()).await.bytes().await.is_empty());
    let why = refused(
        &gateway,
        &(original.clone() + &ca_section(&cert, &gateway.data_dir().join("ca.key"))),
    )
    .await;
    assert!(why.contains("CA"), "{why}");
    let trusts = async |ca: &Path| {
        let (_, tcp) = gateway.client().connect("api.openai.com:443").await;
        try_tls(tcp, CHAT.host, ca).await.is_ok()
    };
    assert!(trusts(&gateway.ca_file()).await);

    assert_eq!(
        reloaded(&gateway, &(original + &ca_section(&cert, &key))).await,
        json!([])
    );
    assert!(trusts(&cert).await && !trusts(&gateway.ca_file()).await);
    let bundle = fs::read_to_string(gateway.data_dir().join("ca-bundle.pem")).unwrap();
    assert!(bundle.contains(fs::read_to_string(&cert).unwrap().trim()));
    assert_eq!(gateway.answer_of("/ca.pem").await, fs::read(&cert).unwrap());
    assert_eq!(before.send(ask()).await.status, 200, "what was open goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_changes_between_two_calls() {
    let (_fake, _echo, gateway) = started().await;
    let original = gateway.configuration();
    let mut session = gateway.client().open(CHAT.host, Http::V1).await;
    for (section, prompt) in [
        ("", json!(cases::PROMPT)),
        (
            "\n[record]\ncontent = \"metadata\"\ndurability = \"relaxed\"\n",
            Value::Null,
        ),
        (
            "\n[record]\ncontent = \"full\"\nspool-max = \"2MiB\"\n[retention]\ncontent = \"2h\"\n",
            json!(cases::PROMPT),
        ),
    ] {
        assert_eq!(
            reloaded(&gateway, &(original.clone() + section)).await,
            json!([]),
            "{section}"
        );
        let answer = session.send(ask()).await;
        let id = answer.request_id();
        assert!(!answer.bytes().await.is_empty());
        assert_eq!(gateway.record(&id).await["prompt"], prompt, "{section}");
    }
    gateway.prints("as they were written", &["audit", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_named_each_time() {
    let (_fake, _echo, gateway) = started().await;
    let text = gateway.configuration().replace("127.0.0.1:0", "127.0.0.1:1")
        + "\n[proxy.tls]\nlisten = \"127.0.0.1:1\"\n[store]\nurl = \"sqlite:other.db\"\n";
    let keys = [
        "bridge.listen",
        "metrics.listen",
        "store.url",
        "proxy.listen",
        "proxy.tls.listen",
    ];
    for _ in 0..2 {
        assert_eq!(reloaded(&gateway, &text).await, json!(keys));
    }
    let mut session = gateway.client().open(CHAT.host, Http::V1).await;
    assert_eq!(session.send(ask()).await.status, 200);
}

/// Status and text of `/readyz`.
async fn readiness(gateway: &Gateway) -> (u16, String) {
    let answer = base_url(gateway.metrics_address())
        .await
        .send(Ask::get("/readyz"))
        .await;
    let status = answer.status;
    (status, String::from_utf8(answer.bytes().await.to_vec()).unwrap())
}

async fn becomes(gateway: &Gateway, status: u16, part: &str) {
    eventually(&format!("{status} with `{part}`"), async || {
        let (found, text) = readiness(gateway).await;
        (found == status && text.contains(part)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_store_takes_no_gateway_out_until_nothing_more_can_be_kept() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let fake = FakeProvider::answering(Offers::Both, &[CHAT]).await;
    let url = format!("[store]\nurl = {:?}\n", server.database("records"));
    let record = |lines: &str| format!("[record]\n{lines}\n");
    let settings = Settings::in_front_of(&fake)
        .more(&url)
        .more(&record("spool-max = \"40KiB\""));
    let gateway = Gateway::start(settings).await;
    let original = gateway.configuration();
    assert_eq!(readiness(&gateway).await, (200, "ready\n".to_owned()));

    server.stop();
    becomes(&gateway, 200, "ready\ndegraded: the record store cannot be read").await;
    let load = Load::on(&gateway, CHAT, 2);
    becomes(&gateway, 503, "the spool is full").await;
    let refused = load.refused();
    eventually("refusals", async || (load.refused() > refused).then_some(())).await;

    // The operator decides to go on without records, and then that there is room for more of them.
    let text = original.replace("[record]\n", "[record]\nwhen-full = \"drop\"\n");
    assert_eq!(reloaded(&gateway, &text).await, json!([]));
    becomes(&gateway, 200, "degraded: records are lost").await;
    let whole = load.whole();
    eventually("replies", async || (load.whole() > whole + 20).then_some(())).await;
    assert_eq!(
        reloaded(&gateway, &original.replace("40KiB", "400MiB")).await,
        json!([])
    );
    becomes(&gateway, 200, "degraded: the record store cannot be read").await;
    let (whole, spooled) = (load.whole(), gateway.metric("causeway_records_in_spool").await);
    eventually("replies", async || (load.whole() > whole + 20).then_some(())).await;
    assert!(gateway.metric("causeway_records_in_spool").await > spooled);

    server.resume();
    eventually("nothing to be amiss", async || {
        (readiness(&gateway).await.1 == "ready\n").then_some(())
    })
    .await;
    load.stop().await;
    gateway.prints("as they were written", &["audit", "verify"]);
}
