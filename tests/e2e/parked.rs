//! Connections without a request: HTTP/1 ones let go of their buffers after two seconds and serve the next request
//! as before, whenever it comes; all are closed at the idle limit and when the program ends.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::cases::{self, Case};
use crate::client::{Ask, Head, Http, within};
use crate::fake::{FakeProvider, Offers};
use crate::flood::{GOAWAY, PING, frame, opened};
use crate::harness::{Gateway, Settings};
use crate::proxy::until_closed;

const CASE: Case = cases::CHAT;
/// How long a connection rests before it is parked.
const REST: Duration = Duration::from_secs(2);

async fn started(lines: &[&str]) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let settings = lines.iter().fold(Settings::in_front_of(&fake), |settings, line| {
        settings.proxy(line)
    });
    (fake, Gateway::start(settings).await)
}

fn request() -> Vec<u8> {
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer sk-user\r\nContent-Length: {}\r\n\r\n",
        CASE.path,
        CASE.host,
        CASE.request.len()
    );
    [head.as_bytes(), CASE.request].concat()
}

/// Reads one reply, of known length.
async fn is_answered(io: &mut TlsStream<TcpStream>, what: &str) {
    let head = Head::read(io).await;
    assert_eq!(head.status, 200, "{what}: {head:?}");
    let length = head.header("content-length").expect("a length").parse().unwrap();
    let mut body = vec![0; length];
    within(what, io.read_exact(&mut body)).await.unwrap();
    assert_eq!(body, CASE.reply, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_served_whenever_it_comes_around_the_moment_of_parking() {
    let (fake, gateway) = started(&[]).await;
    let mut asking = Vec::new();
    // Every few milliseconds around the moment, and well after it.
    let waits = (0..60).map(|step| REST - Duration::from_millis(90) + Duration::from_millis(step * 3));
    for wait in waits.chain([REST * 2]) {
        let mut io = gateway.client().open_tls(CASE.host).await;
        asking.push(tokio::spawn(async move {
            let what = format!("a request after {wait:?}");
            io.write_all(&request()).await.unwrap();
            is_answered(&mut io, "the first request").await;
            tokio::time::sleep(wait).await;
            // In two packets, which may come on both sides of the moment, and one more behind it.
            let (one, two) = (request(), [request(), request()].concat());
            io.write_all(&one[..20]).await.unwrap();
            io.flush().await.unwrap();
            io.write_all(&one[20..]).await.unwrap();
            io.write_all(&two).await.unwrap();
            for _ in 0..3 {
                is_answered(&mut io, &what).await;
            }
        }));
    }
    let count = asking.len();
    for asked in asking {
        asked.await.unwrap();
    }
    assert_eq!(fake.requests().len(), count * 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_takes_longer_than_the_rest_is_whole() {
    let (fake, gateway) = started(&["client-idle = \"2500ms\""]).await;
    let case = cases::CHAT_STREAM;
    let (reply, gate) = case.scripted().gated();
    let frames = reply.frames().len();
    fake.on(case.path, reply);
    for http in [Http::V1, Http::V2] {
        let mut session = gateway.client().open(case.host, http).await;
        let ask = Ask::post(case.path, case.request).header("authorization", "Bearer sk-user");
        let answer = session.send(ask).await;
        tokio::time::sleep(REST * 2).await;
        for _ in 0..frames {
            gate.let_one_out();
        }
        assert_eq!(answer.bytes().await, case.reply, "{http:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_ends_at_the_idle_limit() {
    let (_fake, gateway) = started(&["client-idle = \"3s\""]).await;
    let mut fresh = gateway.client().open_tls(CASE.host).await;
    let mut parked = gateway.client().open_tls(CASE.host).await;
    parked.write_all(&request()).await.unwrap();
    is_answered(&mut parked, "the only request").await;
    let start = Instant::now();
    // Both end in order: TLS says so.
    assert_eq!(within("the end", fresh.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(within("the end", parked.read(&mut [0])).await.unwrap(), 0);
    let took = start.elapsed();
    assert!(took > REST && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_without_streams_gets_a_goaway_at_the_idle_limit() {
    let (_fake, gateway) = started(&["client-idle = \"1s\""]).await;
    let mut io = opened(&gateway).await;
    let start = Instant::now();
    let (mut header, mut farewells) = ([0; 9], 0);
    while within("the end", io.read_exact(&mut header)).await.is_ok() {
        let [high, middle, low, kind, flags, ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        io.read_exact(&mut payload).await.unwrap();
        if kind == GOAWAY {
            assert_eq!(payload[4..8], [0; 4], "no error");
            farewells += 1;
        }
        if kind == PING && flags == 0 {
            let _ = io.write_all(&frame(PING, 1, 0, &payload)).await;
        }
    }
    assert_eq!(farewells, 2, "a warning, and the end");
    assert!(start.elapsed() > Duration::from_millis(900));
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_connections_end_with_the_program_and_do_not_delay_it() {
    let (_fake, mut gateway) = started(&[]).await;
    let mut parked = Vec::new();
    for _ in 0..5 {
        let mut io = gateway.client().open_tls(CASE.host).await;
        io.write_all(&request()).await.unwrap();
        is_answered(&mut io, "the only request").await;
        parked.push(io);
    }
    tokio::time::sleep(REST + Duration::from_millis(500)).await;
    let start = Instant::now();
    gateway.terminate();
    for io in &mut parked {
        assert!(until_closed(io).await.is_empty());
    }
    assert!(gateway.ended().await, "the process calls it a success");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
