//! What HTTP/2 lets a client do to a server at no cost of its own ends the client's connection, and only that.
//! The frames are written by hand: no client library would send them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::cases::{self, Case};
use crate::client::{Ask, Http, assert_same, within};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

const CASE: Case = cases::CHAT;

const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The header block of a `GET` (RFC 7541: indexed method and scheme, literal authority and path).
fn get(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    for (index, text) in [(1, CASE.host), (4, path)] {
        block.extend([index, u8::try_from(text.len()).unwrap()]);
        block.extend(text.as_bytes());
    }
    block
}

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

pub(crate) async fn opened(gateway: &Gateway) -> TlsStream<TcpStream> {
    let mut io = gateway.client().open_tls_for(CASE.host, Http::V2).await;
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    opening.extend(frame(SETTINGS, 0, 0, b""));
    io.write_all(&opening).await.unwrap();
    io
}

/// Sends frames until the gateway has had enough: a GOAWAY with an error, or the end of the connection.
async fn is_ended_by(io: TlsStream<TcpStream>, mut frames: impl FnMut(u32) -> Vec<u8> + Send + 'static) {
    let (mut reading, mut writing) = tokio::io::split(io);
    let writer = tokio::spawn(async move {
        for round in 0..2_000 {
            let portion: Vec<u8> = (0..100).flat_map(|number| frames(round * 100 + number)).collect();
            if writing.write_all(&portion).await.is_err() || writing.flush().await.is_err() {
                return true;
            }
        }
        false
    });
    let mut header = [0; 9];
    while within("the end", reading.read_exact(&mut header)).await.is_ok() {
        let [high, middle, low, kind, ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        if reading.read_exact(&mut payload).await.is_err() {
            break;
        }
        if kind == GOAWAY && payload[4..8] != [0; 4] {
            writer.abort();
            return;
        }
    }
    let broke_off = within("the writer", writer).await.unwrap();
    assert!(broke_off, "200,000 frames were taken");
}

/// Another client is served as if nothing had happened.
async fn is_well(gateway: &Gateway) {
    let mut session = gateway.client().open(CASE.host, Http::V2).await;
    let ask = Ask::post(CASE.path, CASE.request).header("authorization", "Bearer sk-user");
    let answer = session.send(ask).await;
    assert_eq!(answer.status, 200);
    assert_same(&answer.bytes().await, CASE.reply, CASE.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_opened_and_reset_at_once_end_the_connection() {
    let (_fake, gateway) = started().await;
    is_ended_by(opened(&gateway).await, |number| {
        let stream = 2 * number + 1;
        let mut bytes = frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &get("/v1/chat/completions"),
        );
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        bytes
    })
    .await;
    is_well(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_block_without_end_ends_the_connection() {
    for filling in [&b""[..], &[0x82; 64]] {
        let (fake, gateway) = started().await;
        let mut io = opened(&gateway).await;
        io.write_all(&frame(HEADERS, END_STREAM, 1, &get("/v1/models")))
            .await
            .unwrap();
        is_ended_by(io, move |_| frame(CONTINUATION, 0, 1, filling)).await;
        is_well(&gateway).await;
        assert_eq!(
            fake.requests().len(),
            1,
            "the request without an end went nowhere"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_only_want_an_answer_end_the_connection() {
    let (_fake, gateway) = started().await;
    let floods: [(&str, Vec<u8>); 5] = [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("empty SETTINGS", frame(SETTINGS, 0, 0, b"")),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 16])),
        ("a frame nobody knows", frame(0xbb, 0, 0, b"?")),
    ];
    for (name, bytes) in floods {
        eprintln!("{name}");
        is_ended_by(opened(&gateway).await, move |_| bytes.clone()).await;
    }
    is_well(&gateway).await;
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains("causeway_refusals_total{reason=\"http2_flood\"} 5"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_list_over_64_kib_goes_nowhere() {
    let (fake, gateway) = started().await;
    let io = gateway.client().open_tls_for(CASE.host, Http::V2).await;
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().uri(format!("https://{}/v1/models", CASE.host));
    for number in 0..70 {
        request = request.header(format!("x-filler-{number}"), "x".repeat(1024));
    }
    let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    match within("an answer", answer).await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        Err(error) => assert!(error.is_reset() || error.is_go_away(), "{error}"),
    }
    is_well(&gateway).await;
    assert_eq!(fake.requests().len(), 1);
}
