//! Clients that say nothing, or only half of what they should, do not keep a connection of the proxy.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cases;
use crate::client::Head;
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};
use crate::proxy::until_closed;

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::start(Offers::Both).await;
    let settings = Settings::in_front_of(&fake)
        .proxy("head-timeout = \"400ms\"")
        .proxy("[proxy.tls]\nlisten = \"127.0.0.1:0\"");
    let gateway = Gateway::start(settings).await;
    (fake, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_whole_head_are_closed_in_time() {
    let (_fake, gateway) = started().await;
    let openings: [(&str, &[u8]); 7] = [
        ("silence", b""),
        ("a letter", b"C"),
        ("half a line", b"CONNECT api.openai"),
        ("half a head", b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api"),
        ("half a preface of HTTP/2", b"PRI * HT"),
        ("a preface and no settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (
            "HTTP/2 without a request",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
    ];
    for (name, opening) in openings {
        let mut tcp = TcpStream::connect(gateway.proxy()).await.unwrap();
        let start = Instant::now();
        tcp.write_all(opening).await.unwrap();
        until_closed(&mut tcp).await;
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{name}: {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_fall_silent_after_a_refusal_are_closed_in_time() {
    let (_fake, gateway) = started().await;
    let head = "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com\r\n\r\n";
    let (refusal, mut tcp) = gateway.client().connect_raw(head).await;
    assert_eq!(refusal.status, 407);
    let start = Instant::now();
    until_closed(&mut tcp).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_without_a_whole_handshake_are_closed_in_time() {
    let (_fake, gateway) = started().await;
    for opening in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut tcp = TcpStream::connect(gateway.proxy_tls()).await.unwrap();
        let start = Instant::now();
        tcp.write_all(opening).await.unwrap();
        until_closed(&mut tcp).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_in_single_bytes_is_still_understood() {
    let (_fake, gateway) = started().await;
    for head in [
        "PUT / HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRINT / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut tcp = TcpStream::connect(gateway.proxy()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        for byte in head.bytes() {
            tcp.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(Head::read(&mut tcp).await.status, 405, "{head}");
    }
}

/// The deadlines are 10 s; the rest is for a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);
/// The first bytes of a ClientHello: a handshake record of 512 bytes, most of it missing.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// Reads until the other side closes; true if it did in time.
async fn is_closed(mut tcp: TcpStream) -> bool {
    let mut buffer = [0; 1024];
    let closed = async { while tcp.read(&mut buffer).await.is_ok_and(|size| size > 0) {} };
    tokio::time::timeout(CLOSED_WITHIN, closed).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_are_closed_by_their_deadlines() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    let began = Instant::now();

    let silent = TcpStream::connect(gateway.proxy()).await.unwrap();
    let mut half_head = TcpStream::connect(gateway.proxy()).await.unwrap();
    half_head
        .write_all(b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api")
        .await
        .unwrap();
    let (head, after_connect) = gateway.client().connect("api.openai.com:443").await;
    assert_eq!(head.status, 200);
    let (_, mut half_hello) = gateway.client().connect("api.openai.com:443").await;
    half_hello.write_all(HALF_A_HELLO).await.unwrap();

    let closed = tokio::join!(
        is_closed(silent),
        is_closed(half_head),
        is_closed(after_connect),
        is_closed(half_hello)
    );
    assert_eq!(
        closed,
        (true, true, true, true),
        "silent, half a head, silent after CONNECT, half a hello"
    );
    assert!(
        began.elapsed() > Duration::from_secs(5),
        "not before a slow client had its chance"
    );
    assert!(fake.requests().is_empty());
}
