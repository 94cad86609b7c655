//! Tunnels: how long, how many, and how much went through.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Head, within};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::proxy::{echo_through, payload, until_closed};
use crate::tcp::{Echo, GOODBYE, GREETING};

async fn started_with(lines: &[&str]) -> (Echo, Gateway) {
    let echo = Echo::start().await;
    let fake = FakeProvider::start(Offers::Both).await;
    let mut settings = Settings::in_front_of(&fake)
        .proxy("allow-private = [\"127.0.0.0/8\"]")
        .proxy(&format!("allowed-ports = [443, {}]", echo.address().port()));
    for line in lines {
        settings = settings.proxy(line);
    }
    let gateway = Gateway::start(settings).await;
    (echo, gateway)
}

async fn open(gateway: &Gateway, echo: &Echo) -> (Head, TcpStream) {
    gateway.client().connect(&echo.address().to_string()).await
}

async fn greeted(tunnel: &mut TcpStream) {
    let mut greeting = vec![0; GREETING.len()];
    within("the greeting", tunnel.read_exact(&mut greeting))
        .await
        .unwrap();
    assert_eq!(greeting, GREETING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_tunnel_is_cut_and_a_busy_one_is_not() {
    const IDLE: Duration = Duration::from_millis(500);
    let (echo, gateway) = started_with(&["tunnel-idle = \"500ms\""]).await;
    let (_, mut tunnel) = open(&gateway, &echo).await;
    greeted(&mut tunnel).await;
    let start = Instant::now();
    while start.elapsed() < 3 * IDLE {
        tunnel.write_all(b"x").await.unwrap();
        assert_eq!(within("the echo", tunnel.read_u8()).await.unwrap(), b'x');
    }
    let start = Instant::now();
    assert_eq!(until_closed(&mut tunnel).await, b"");
    let waited = start.elapsed();
    assert!(waited >= IDLE - Duration::from_millis(50), "{waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_and_their_bytes_are_counted() {
    let (echo, gateway) = started_with(&[]).await;
    let (head, tunnel) = open(&gateway, &echo).await;
    assert_eq!(head.status, 200);
    eventually("an open tunnel", async || {
        (gateway.metric("causeway_tunnels_open").await == 1).then_some(())
    })
    .await;
    echo_through(tunnel).await;
    eventually("no open tunnel", async || {
        (gateway.metric("causeway_tunnels_open").await == 0).then_some(())
    })
    .await;
    let sent = payload().len() as u64;
    let framing = (GREETING.len() + GOODBYE.len()) as u64;
    let bytes = async |direction: &str| {
        let name = format!("causeway_tunnel_bytes_total{{direction=\"{direction}\"}}");
        gateway.metric(&name).await
    };
    assert_eq!(bytes("up").await, sent);
    assert_eq!(bytes("down").await, sent + framing);
    assert_eq!(
        gateway
            .metric("causeway_connects_total{kind=\"tunnelled\"}")
            .await,
        1
    );
}

async fn check_cap(line: &str, reason: &str) {
    let (echo, gateway) = started_with(&[line]).await;
    let (_, mut first) = open(&gateway, &echo).await;
    greeted(&mut first).await;
    let (refused, mut waiting) = open(&gateway, &echo).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("x-causeway-reason"), Some(reason));
    let length: usize = refused.header("content-length").unwrap().parse().unwrap();
    waiting.read_exact(&mut vec![0; length]).await.unwrap();
    // Interception is not a tunnel, and the refused connection stays usable.
    let head = gateway.client().connect_head("api.openai.com:443");
    waiting.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(Head::read(&mut waiting).await.status, 200);
    drop(first);
    eventually("a free place", async || {
        (open(&gateway, &echo).await.0.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_tunnels_than_allowed_are_open() {
    check_cap("max-tunnels = 1", "too_many_tunnels").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_has_no_more_tunnels_than_allowed() {
    check_cap("max-tunnels-per-user = 1", "too_many_tunnels_of_user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_than_allowed_are_held() {
    let (echo, gateway) = started_with(&["max-connections = 1"]).await;
    let (_, mut first) = open(&gateway, &echo).await;
    greeted(&mut first).await;
    // The tunnel holds the place, though the connection's HTTP has ended.
    let mut second = TcpStream::connect(gateway.proxy()).await.unwrap();
    let said = String::from_utf8(until_closed(&mut second).await).unwrap();
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(
        said.contains("x-causeway-reason: too_many_connections\r\n"),
        "{said}"
    );
    let length = said.split("\r\n\r\n").nth(1).unwrap().len();
    assert!(said.contains(&format!("content-length: {length}\r\n")), "{said}");
    drop(first);
    eventually("a free place", async || {
        let mut third = TcpStream::connect(gateway.proxy()).await.unwrap();
        third.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        until_closed(&mut third)
            .await
            .starts_with(b"HTTP/1.0 200")
            .then_some(())
    })
    .await;
    let refusals = "causeway_refusals_total{reason=\"too_many_connections\"}";
    assert!(gateway.metric(refusals).await >= 1);
}
