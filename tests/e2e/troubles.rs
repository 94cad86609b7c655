//! Why clients fail, as the gateway saw it: each failure is made to happen, and told with its cure.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cases;
use crate::client::{Ask, Http, ProxyClient, base_url, basic, try_tls};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

const HOST: &str = "api.openai.com";
/// A CONNECT for it without credentials.
const BARE: &str = "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n";

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

/// The trouble with this reason, once it is noted.
async fn trouble(gateway: &Gateway, reason: &str) -> Value {
    eventually(reason, async || {
        let list = gateway.list("/api/v1/troubles").await;
        list.into_iter().find(|trouble| trouble["reason"] == reason)
    })
    .await
}

fn check(trouble: &Value, host: &str) {
    assert_eq!(trouble["peer"], "127.0.0.1", "{trouble}");
    assert_eq!(trouble["host"], host, "{trouble}");
    assert_eq!(trouble["solved"], false, "{trouble}");
    assert!(
        trouble["explanation"]
            .as_str()
            .unwrap()
            .contains("a client from 127.0.0.1")
    );
    assert!(!trouble["cure"].as_str().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_fail_is_told_apart() {
    let (fake, gateway) = started().await;
    let client = gateway.client();

    // It trusts another CA.
    let (_, tcp) = client.connect(&format!("{HOST}:443")).await;
    assert!(try_tls(tcp, HOST, fake.ca_file()).await.is_err());
    check(&trouble(&gateway, "unknown_ca").await, HOST);

    // It sends no credentials, or bad ones.
    assert_eq!(client.connect_raw(BARE).await.0.status, 407);
    check(&trouble(&gateway, "token_missing").await, HOST);
    let stranger = ProxyClient::new(gateway.proxy(), basic("cw_planted"), &gateway.ca_file());
    assert_eq!(stranger.connect(&format!("{HOST}:443")).await.0.status, 407);
    check(&trouble(&gateway, "token_unknown").await, HOST);

    // It leaves after the handshake.
    drop(client.open_tls("api.anthropic.com").await);
    check(&trouble(&gateway, "no_request").await, "api.anthropic.com");

    // It speaks no TLS in the tunnel.
    let (_, mut tcp) = client.connect("chatgpt.com:443").await;
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: chatgpt.com\r\n\r\n")
        .await
        .unwrap();
    check(&trouble(&gateway, "not_tls").await, "chatgpt.com");

    // It speaks TLS with the plain port.
    let mut tcp = TcpStream::connect(gateway.proxy()).await.unwrap();
    tcp.write_all(&[0x16, 3, 1, 0, 4, 1, 0, 0, 0]).await.unwrap();
    let _ = tcp.read(&mut [0; 64]).await;
    check(&trouble(&gateway, "tls_on_plain_port").await, "");

    // It would send a key in clear.
    let ask =
        Ask::get(format!("http://{HOST}/v1/models")).header("proxy-authorization", client.authorization());
    assert_eq!(base_url(gateway.proxy()).await.send(ask).await.status, 403);
    check(&trouble(&gateway, "claimed_host_in_clear").await, HOST);

    let all = gateway.api("/api/v1/troubles").await.to_string();
    assert!(
        !all.contains("planted") && !all.contains(&gateway.token()),
        "{all}"
    );
    assert_eq!(
        gateway
            .metric("causeway_troubles_total{provider=\"openai\",reason=\"unknown_ca\"}")
            .await,
        1
    );
    let plain = "causeway_troubles_total{provider=\"none\",reason=\"tls_on_plain_port\"}";
    assert_eq!(gateway.metric(plain).await, 1);
    // Each instance tells its own.
    let providers = gateway.list("/api/v1/providers").await;
    let reasons = |name: &str| -> Vec<&str> {
        let found = providers.iter().find(|item| item["name"] == name).unwrap();
        let troubles = found["troubles"].as_array().unwrap();
        troubles
            .iter()
            .map(|one| one["reason"].as_str().unwrap())
            .collect()
    };
    let openai = [
        "claimed_host_in_clear",
        "token_unknown",
        "token_missing",
        "unknown_ca",
    ];
    assert_eq!(reasons("openai"), openai);
    assert_eq!(
        (reasons("anthropic"), reasons("chatgpt")),
        (vec!["no_request"], vec!["not_tls"])
    );
    assert!(reasons("copilot").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_again_with_credentials_has_no_trouble_left() {
    let (fake, gateway) = started().await;
    let client = gateway.client();
    assert_eq!(client.connect_raw(BARE).await.0.status, 407);
    check(&trouble(&gateway, "token_missing").await, HOST);
    let ask = Ask::post(cases::CHAT.path, cases::CHAT.request);
    assert_eq!(client.open(HOST, Http::V1).await.send(ask).await.status, 200);
    assert_eq!(trouble(&gateway, "token_missing").await["solved"], true);
    // Another client of the same machine may still distrust the CA.
    let (_, tcp) = client.connect(&format!("{HOST}:443")).await;
    assert!(try_tls(tcp, HOST, fake.ca_file()).await.is_err());
    let _ = trouble(&gateway, "unknown_ca").await;
    assert_eq!(
        client.open(HOST, Http::V1).await.send(Ask::get("/")).await.status,
        404
    );
    check(&trouble(&gateway, "unknown_ca").await, HOST);
}

#[tokio::test(flavor = "multi_thread")]
async fn troubles_of_others_are_not_for_members() {
    let (_fake, gateway) = started().await;
    let made = gateway
        .command()
        .args(["token", "create", "--user", "member"])
        .output();
    let made = String::from_utf8(made.unwrap().stdout).unwrap();
    let token = made
        .split_whitespace()
        .find(|word| word.starts_with("cw_"))
        .unwrap();
    let ask = |path: &str| Ask::get(path).header("authorization", format!("Bearer {token}"));
    let mut session = base_url(gateway.bridge()).await;
    let list = session.send(ask("/api/v1/providers")).await.json().await;
    assert!(
        list["items"][0]["name"].is_string() && list["items"][0]["troubles"].is_null(),
        "{list}"
    );
    assert_eq!(session.send(ask("/api/v1/troubles")).await.status, 403);
}
