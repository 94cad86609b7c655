//! Clients that stop in the middle: every one of them is closed by its deadline.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cases;
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

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
