//! The harness against itself, without the program: the client hears what the fake provider says, a gate
//! holds frames back, and a blind proxy of ten lines passes the checks that a tunnel must pass. What fails
//! elsewhere is then not the harness.

use std::net::SocketAddr;

use http::Version;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cases;
use crate::client::{Ask, Http, ProxyClient, assert_same, basic, direct, within};
use crate::clients;
use crate::fake::{FakeProvider, Offers};
use crate::proxy::echo_through;
use crate::tcp::{Echo, GREETING};

/// Opens a raw tunnel to `target`, whatever is asked for.
async fn blind_proxy(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tcp.read_u8().await.unwrap());
                }
                tcp.write_all(b"HTTP/1.1 200 OK\r\nX-Said: hello\r\n\r\n")
                    .await
                    .unwrap();
                let mut upstream = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tcp, &mut upstream).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fake_answers_and_records_over_both_http_versions() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    for (http, version) in [(Http::V1, Version::HTTP_11), (Http::V2, Version::HTTP_2)] {
        for case in &cases::ALL {
            let mut session = direct(fake.address(), case.host, fake.ca_file(), http).await;
            let answer = session
                .send(Ask::post(case.path, case.request).header("x-extra", "1"))
                .await;
            assert_eq!((answer.status, answer.version), (200, version), "{}", case.name);
            assert_same(&answer.bytes().await, case.reply, case.name);
            let seen = fake.last_request();
            assert_same(&seen.body, case.request, case.name);
            assert_eq!(
                (seen.version, seen.authority.as_str()),
                (version, case.host),
                "{}",
                case.name
            );
            assert_eq!(seen.header("x-extra"), "1");
        }
    }
    assert_eq!(fake.connections(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_holds_back_each_frame() {
    let fake = FakeProvider::start(Offers::Both).await;
    for http in [Http::V1, Http::V2] {
        let case = cases::CHAT_STREAM;
        let (reply, gate) = case.scripted().gated();
        let frames = reply.frames().to_vec();
        assert!(frames.len() > 5);
        fake.on(case.path, reply);
        let mut session = direct(fake.address(), case.host, fake.ca_file(), http).await;
        let mut answer = session.send(Ask::post(case.path, case.request)).await;
        let mut length = 0;
        for (index, frame) in frames.iter().enumerate() {
            length += frame.len();
            assert_same(answer.read_to(length).await, &case.reply[..length], case.name);
            assert_eq!(gate.sent(), index + 1);
            gate.let_one_out();
        }
        assert_same(&answer.bytes().await, case.reply, case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_speaks_through_a_proxy() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let client = ProxyClient::new(blind_proxy(fake.address()).await, basic("cw_x"), fake.ca_file());
    for http in [Http::V1, Http::V2] {
        let answer = client
            .open("api.anthropic.com", http)
            .await
            .send(Ask::get("/nowhere"))
            .await;
        assert_eq!(answer.status, 404);
        assert!(answer.json().await["error"].is_object());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_reads_a_head_and_not_a_byte_more() {
    let (echo, fake) = (Echo::start().await, FakeProvider::start(Offers::Both).await);
    let client = ProxyClient::new(blind_proxy(echo.address()).await, basic("x"), fake.ca_file());
    let (head, mut tcp) = client.connect("any:1").await;
    assert_eq!((head.status, head.header("x-SAID")), (200, Some("hello")));
    let mut greeting = vec![0; GREETING.len()];
    within("the greeting", tcp.read_exact(&mut greeting))
        .await
        .unwrap();
    assert_eq!(greeting, GREETING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_loses_nothing_passes_the_echo_check() {
    let (echo, fake) = (Echo::start().await, FakeProvider::start(Offers::Both).await);
    let client = ProxyClient::new(blind_proxy(echo.address()).await, basic("x"), fake.ca_file());
    echo_through(client.connect("any:1").await.1).await;
    assert_eq!(echo.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_understand_the_fixtures() {
    let fake = FakeProvider::answering(Offers::Both, &cases::ALL).await;
    let proxy = format!("http://{}", blind_proxy(fake.address()).await);
    clients::check_curl(&fake, &proxy, fake.ca_file()).await;
    clients::check_sdks(&fake, &proxy, fake.ca_file()).await;
}
