//! Which hosts the proxy opens the way to, and to whom.

use crate::client::{Ask, Head, ProxyClient, base_url, basic};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};
use crate::proxy::echo_through;
use crate::tcp::Echo;

async fn started_with(lines: &[&str]) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::start(Offers::Both).await;
    let mut settings = Settings::in_front_of(&fake).proxy("allow-private = [\"127.0.0.0/8\", \"::1\"]");
    for line in lines {
        settings = settings.proxy(line);
    }
    let gateway = Gateway::start(settings).await;
    (fake, gateway)
}

/// A client that sends no credentials.
fn stranger(gateway: &Gateway) -> ProxyClient {
    ProxyClient::new(gateway.proxy(), String::new(), &gateway.ca_file())
}

#[track_caller]
fn check(head: &Head, status: u16, reason: &str) {
    assert_eq!(
        (head.status, head.header("x-causeway-reason")),
        (status, Some(reason)),
        "{head:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_hosts_are_denied_to_everyone() {
    let (fake, gateway) = started_with(&[
        "tunnel = \"open\"",
        "deny-hosts = [\"denied.example\", \"*.below.example\", \"api.anthropic.com\", \"127.0.0.1\"]",
    ])
    .await;
    for host in [
        "denied.example",
        "DENIED.example.",
        "a.b.below.example",
        "api.anthropic.com",
        "127.0.0.1",
    ] {
        let (head, _) = gateway.client().connect(&format!("{host}:443")).await;
        check(&head, 403, "host_denied");
    }
    let (head, _) = gateway.client().connect("api.openai.com:443").await;
    assert_eq!(head.status, 200);
    assert_eq!(fake.connections(), 0);
    let refusals = "causeway_refusals_total{reason=\"host_denied\"}";
    assert_eq!(gateway.metric(refusals).await, 5);
    assert_eq!(
        gateway.metric("causeway_connects_total{kind=\"refused\"}").await,
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_denied_the_list_opens_hosts_to_known_users() {
    let echo = Echo::start().await;
    let port = echo.address().port();
    let (_fake, gateway) = started_with(&[
        "tunnel = \"deny\"",
        "allow-hosts = [\"localhost\", \"*.allowed.example\"]",
        "deny-hosts = [\"never.allowed.example\"]",
        &format!("allowed-ports = [443, {port}]"),
    ])
    .await;
    let client = gateway.client();
    let (head, tunnel) = client.connect(&format!("localhost:{port}")).await;
    assert_eq!(head.status, 200, "{head:?}");
    echo_through(tunnel).await;
    let (head, _) = client.connect(&format!("127.0.0.1:{port}")).await;
    check(&head, 403, "host_not_allowed");
    let (head, _) = client.connect("allowed.example:443").await;
    check(&head, 403, "host_not_allowed");
    let (head, _) = client.connect("never.allowed.example:443").await;
    check(&head, 403, "host_denied");
    let (head, _) = stranger(&gateway).connect(&format!("localhost:{port}")).await;
    check(&head, 407, "token_missing");
    assert_eq!(echo.connections(), 1);
    // What a provider claims is not a matter of tunnels.
    assert_eq!(client.connect("api.openai.com:443").await.0.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_proxy_tunnels_for_strangers_and_intercepts_for_users() {
    let echo = Echo::start().await;
    let port = echo.address().port();
    let ports = format!("allowed-ports = [443, {port}]");
    let (fake, gateway) = started_with(&["tunnel = \"open\"", &ports]).await;
    let (head, tunnel) = stranger(&gateway).connect(&format!("localhost:{port}")).await;
    assert_eq!(head.status, 200, "{head:?}");
    echo_through(tunnel).await;
    let (head, _) = stranger(&gateway).connect("api.openai.com:443").await;
    check(&head, 407, "token_missing");
    assert_eq!(fake.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_does_not_connect_to_itself() {
    // Which ports it will get is not known before.
    let ports: Vec<String> = (1024..=u16::MAX).map(|port| port.to_string()).collect();
    let ports = format!("allowed-ports = [{}]", ports.join(","));
    let (_fake, gateway) = started_with(&[&ports, "[proxy.tls]\nlisten = \"127.0.0.1:0\""]).await;
    let own = [
        gateway.proxy(),
        gateway.bridge(),
        gateway.metrics_address(),
        gateway.proxy_tls(),
    ];
    for address in own {
        let port = address.port();
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"] {
            let (head, _) = gateway.client().connect(&format!("{host}:{port}")).await;
            check(&head, 508, "loop");
        }
        let ask = Ask::get(format!("http://127.0.0.1:{port}/"))
            .header("proxy-authorization", basic(&gateway.token()));
        let answer = base_url(gateway.proxy()).await.send(ask).await;
        assert_eq!((answer.status, answer.header("x-causeway-reason")), (508, "loop"));
    }
    // Another server at another port of this machine is fine.
    let echo = Echo::start().await;
    let (head, _) = gateway.client().connect(&echo.address().to_string()).await;
    assert_eq!(head.status, 200);
}
