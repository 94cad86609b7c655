//! The proxy's front door: who may pass, where to, and the shapes of `CONNECT` that real clients send.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::cases::{self, Case};
use crate::client::{Ask, Head, Http, ProxyClient, Session, assert_same, basic, within};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};
use crate::tcp::{Echo, GOODBYE, GREETING};

const CASE: Case = cases::CHAT;

async fn started() -> (FakeProvider, Gateway) {
    started_with(|settings| settings).await
}

async fn started_with(change: impl FnOnce(Settings) -> Settings) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = Gateway::start(change(Settings::in_front_of(&fake))).await;
    (fake, gateway)
}

fn request() -> Ask {
    Ask::post(CASE.path, CASE.request).header("authorization", "Bearer sk-user")
}

async fn check_works(mut session: Session) {
    let answer = session.send(request()).await;
    assert_eq!(answer.status, 200);
    assert_same(&answer.bytes().await, CASE.reply, CASE.name);
}

/// Reads to the end; a reset counts as one.
pub(crate) async fn until_closed(tcp: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = within("the proxy to close", tcp.read_to_end(&mut rest)).await;
    rest
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_for_credentials_and_takes_them_on_the_same_connection() {
    let (fake, gateway) = started().await;
    let client = gateway.client();
    let (head, mut tcp) = client
        .connect_raw("CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n")
        .await;
    assert_eq!(head.status, 407);
    assert_eq!(
        head.header("proxy-authenticate"),
        Some("Basic realm=\"Causeway\"")
    );
    let length = head
        .header("content-length")
        .expect("a length, so that the connection stays usable");
    let mut body = vec![0; length.parse().unwrap()];
    tcp.read_exact(&mut body).await.unwrap();
    assert_eq!(fake.connections(), 0);

    // git sends none at first, and then repeats itself on the connection that it has.
    tcp.write_all(client.connect_head("api.openai.com:443").as_bytes())
        .await
        .unwrap();
    assert_eq!(Head::read(&mut tcp).await.status, 200);
    check_works(client.session(tcp, CASE.host, Http::V1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_wrong_token_before_any_tls() {
    let (fake, gateway) = started().await;
    let good = gateway.token();
    let mut altered = good.clone();
    altered.pop();
    let wrong = ["cw_0000000000000000", "", &altered, &format!("{good}x")].map(basic);
    for authorization in wrong
        .iter()
        .map(String::as_str)
        .chain(["Bearer nonsense", "Basic %%%", "Digest x"])
    {
        let client = ProxyClient::new(gateway.proxy(), authorization.to_owned(), &gateway.ca_file());
        for target in ["api.openai.com:443", "unclaimed.example:443"] {
            let (head, _) = client.connect(target).await;
            assert!(
                [403, 407].contains(&head.status),
                "{authorization} for {target}: {head:?}"
            );
        }
    }
    assert_eq!(fake.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_the_token_in_every_usual_spelling() {
    let (_fake, gateway) = started().await;
    let token = gateway.token();
    let spellings = [
        basic(&token),
        basic(&token).replace("Basic", "basic"),
        format!("Bearer {token}"),
        format!("bearer {token}"),
    ];
    for authorization in spellings {
        let client = ProxyClient::new(gateway.proxy(), authorization, &gateway.ca_file());
        check_works(client.open(CASE.host, Http::V1).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_connect_as_real_clients_write_it() {
    let (_fake, gateway) = started().await;
    let client = gateway.client();
    let credentials = format!("Proxy-Authorization: {}\r\n", basic(&gateway.token()));
    let heads = [
        ("HTTP/1.0 without Host", "CONNECT api.openai.com:443 HTTP/1.0\r\n"),
        (
            "Host without port, Connection: close",
            "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com\r\nConnection: close\r\n",
        ),
        (
            "Proxy-Connection",
            "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com\r\nProxy-Connection: keep-alive\r\n",
        ),
        (
            "capitals",
            "CONNECT API.OpenAI.com:443 HTTP/1.1\r\nHost: API.OpenAI.com:443\r\n",
        ),
        (
            "a trailing dot",
            "CONNECT api.openai.com.:443 HTTP/1.1\r\nHost: api.openai.com.:443\r\n",
        ),
    ];
    for (name, head) in heads {
        let (answer, tcp) = client.connect_raw(&format!("{head}{credentials}\r\n")).await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        check_works(client.session(tcp, CASE.host, Http::V1).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_connect_that_is_not_host_and_port() {
    let (fake, gateway) = started().await;
    let credentials = format!("Proxy-Authorization: {}\r\n", basic(&gateway.token()));
    for target in [
        "api.openai.com",
        "api.openai.com:",
        "api.openai.com:0",
        "api.openai.com:65536",
        "api.openai.com:+443",
        "2001:db8::7:443",
        "[2001:db8::7]",
        "user@api.openai.com:443",
        "user:pass@api.openai.com:443",
        "/",
        "/api.openai.com:443",
        "*",
        "http://api.openai.com:443",
        "http://api.openai.com:443/",
        "https://api.openai.com:443/v1/models",
        "2130706433:443",
        "0x7f.1:443",
        "127.1:443",
        "0177.0.0.1:443",
    ] {
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: api.openai.com:443\r\n{credentials}\r\n");
        let (answer, mut tcp) = gateway.client().connect_raw(&head).await;
        assert_eq!(answer.status, 400, "{target}: {answer:?}");
        until_closed(&mut tcp).await;
    }
    assert_eq!(fake.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_addresses_and_a_labels_in_every_plain_form() {
    let mut instances = String::new();
    for (number, host) in ["192.0.2.7", "[2001:db8::7]", "xn--bcher-kva.example"]
        .iter()
        .enumerate()
    {
        instances += &format!(
            "[[provider]]\nname = \"more-{number}\"\nkind = \"openai\"\nbase-url = \"https://{host}/v1\"\n"
        );
    }
    let (_fake, gateway) = started_with(|settings| settings.more(&instances)).await;
    for (target, name) in [
        ("192.0.2.7:443", "192.0.2.7"),
        // Whoever claims an address is not gone around by writing it as an IPv6 one.
        ("[::ffff:192.0.2.7]:443", "192.0.2.7"),
        ("[::ffff:c000:207]:443", "192.0.2.7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("[2001:DB8:0:0::7]:443", "2001:db8::7"),
        ("xn--bcher-kva.example:443", "xn--bcher-kva.example"),
        ("XN--Bcher-KVA.example.:443", "xn--bcher-kva.example"),
    ] {
        let (answer, tcp) = gateway.client().connect(target).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        // The client trusts the gateway's CA alone, and wants a certificate for this name.
        gateway.client().session(tcp, name, Http::V1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_connect_with_a_body() {
    let (fake, gateway) = started().await;
    let credentials = format!("Proxy-Authorization: {}\r\n", basic(&gateway.token()));
    for field in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let head = format!("CONNECT api.openai.com:443 HTTP/1.1\r\n{credentials}{field}\r\n\r\n");
        let (answer, mut tcp) = gateway.client().connect_raw(&head).await;
        assert_eq!(answer.status, 400, "{field}: {answer:?}");
        assert_eq!(
            answer.header("x-causeway-reason"),
            Some("connect_with_body"),
            "{field}"
        );
        until_closed(&mut tcp).await;
    }
    let head = format!("CONNECT api.openai.com:443 HTTP/1.1\r\n{credentials}Content-Length: 0\r\n\r\n");
    let (answer, tcp) = gateway.client().connect_raw(&head).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    check_works(gateway.client().session(tcp, CASE.host, Http::V1).await).await;
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_port_that_is_not_allowed() {
    let (fake, gateway) = started().await;
    for target in ["api.openai.com:22", "unclaimed.example:25"] {
        assert_eq!(gateway.client().connect(target).await.0.status, 403, "{target}");
    }
    assert_eq!(fake.connections(), 0);
}

/// More than any one buffer on the way, and no two kilobytes alike.
pub(crate) fn payload() -> Vec<u8> {
    (0..300_000u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// Checks that a tunnel to an [`Echo`] carries everything, both ways, to the last byte.
pub(crate) async fn echo_through(tunnel: impl AsyncRead + AsyncWrite + Send + 'static) {
    let (mut reading, mut writing) = tokio::io::split(tunnel);
    let mut greeting = vec![0; GREETING.len()];
    within(
        "the server, which speaks first",
        reading.read_exact(&mut greeting),
    )
    .await
    .unwrap();
    assert_eq!(greeting, GREETING);
    let sent = payload();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        writing.write_all(&copy).await.unwrap();
        writing.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    within("the echo", reading.read_to_end(&mut received))
        .await
        .unwrap();
    writer.await.unwrap();
    assert_eq!(received.len(), sent.len() + GOODBYE.len());
    assert!(received.starts_with(&sent), "the echo is what was sent");
    assert!(
        received.ends_with(GOODBYE),
        "the last words after the client's half is closed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_an_unclaimed_host_byte_for_byte() {
    let echo = Echo::start().await;
    let port = echo.address().port();
    let allow = |settings: Settings| {
        let settings = settings.proxy("allow-private = [\"127.0.0.0/8\"]");
        settings.proxy(&format!("allowed-ports = [443, {port}]"))
    };
    let (_fake, gateway) = started_with(allow).await;
    for target in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        let (head, tunnel) = gateway.client().connect(&target).await;
        assert_eq!(head.status, 200, "{target}: {head:?}");
        echo_through(tunnel).await;
    }
    assert_eq!(echo.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_to_tunnel_to_a_private_address() {
    let echo = Echo::start().await;
    let port = echo.address().port();
    let (_fake, gateway) =
        started_with(|settings| settings.proxy(&format!("allowed-ports = [443, {port}]"))).await;
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
    ] {
        let (head, _) = gateway.client().connect(&format!("{host}:{port}")).await;
        assert_eq!(head.status, 403, "{host}: {head:?}");
    }
    assert_eq!(echo.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_to_a_closed_port_is_not_opened() {
    let echo = Echo::start().await;
    let port = echo.address().port();
    drop(echo);
    let allow = |settings: Settings| {
        settings
            .proxy("allow-private = [\"127.0.0.0/8\"]")
            .proxy(&format!("allowed-ports = [{port}]"))
    };
    let (_fake, gateway) = started_with(allow).await;
    let (head, _) = gateway.client().connect(&format!("127.0.0.1:{port}")).await;
    assert_eq!(head.status, 502, "{head:?}");
    assert_eq!(head.header("x-causeway-reason"), Some("host_unreachable"));
    let (head, _) = gateway.client().connect(&format!("nowhere.invalid:{port}")).await;
    assert_eq!(head.status, 502, "{head:?}");
    assert_eq!(head.header("x-causeway-reason"), Some("host_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_to_a_host_that_does_not_answer_is_given_up() {
    // Its queue is full after the first connections: what comes then gets no answer from the system.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let waiting: Vec<_> = (0..8)
        .map(|_| tokio::spawn(TcpStream::connect(address)))
        .collect();
    eventually("a full queue", async || {
        let attempt = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address));
        attempt.await.is_err().then_some(())
    })
    .await;
    let allow = |settings: Settings| {
        settings
            .proxy("allow-private = [\"127.0.0.0/8\"]")
            .proxy(&format!("allowed-ports = [{}]", address.port()))
    };
    let (_fake, gateway) = started_with(allow).await;
    let (head, _) = gateway.client().connect(&address.to_string()).await;
    assert_eq!(head.status, 504, "{head:?}");
    assert_eq!(head.header("x-causeway-reason"), Some("host_timeout"));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_bytes_on_a_claimed_host_never_reach_the_origin() {
    let (fake, gateway) = started().await;
    // The second begins as a TLS record does: a proxy that decides on a short read would open a raw tunnel.
    let openings: [&[&[u8]]; 3] = [
        &[b"GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"],
        &[b"\x16", b"GET / HTTP/1.1\r\nHost: api.openai.com\r\n\r\n"],
        &[b"SSH-2.0-OpenSSH_9.9\r\n"],
    ];
    for opening in openings {
        let (head, mut tcp) = gateway.client().connect("api.openai.com:443").await;
        assert_eq!(head.status, 200);
        for part in opening {
            // The proxy may have seen enough and closed.
            let _ = tcp.write_all(part).await;
        }
        let said = until_closed(&mut tcp).await;
        assert!(!said.starts_with(b"HTTP/"), "{opening:?} was answered {said:?}");
    }
    assert_eq!(fake.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_request_for_another_host_than_the_tunnels() {
    let (fake, gateway) = started().await;
    for http in [Http::V1, Http::V2] {
        for other in [
            "evil.example",
            "api.anthropic.com",
            "api.openai.com.evil.example",
            "127.0.0.1",
        ] {
            let mut session = gateway.client().open(CASE.host, http).await;
            let answer = session.send(request().authority(other)).await;
            assert_eq!(answer.status, 421, "{other} over {http:?}");
        }
        for same in ["api.openai.com", "api.openai.com:443", "API.OPENAI.COM"] {
            let mut session = gateway.client().open(CASE.host, http).await;
            let answer = session.send(request().authority(same)).await;
            assert_eq!(answer.status, 200, "{same} over {http:?}");
        }
    }
    assert!(fake.requests().iter().all(|seen| seen.authority == CASE.host));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_for_the_connect_host_alone() {
    let (_fake, gateway) = started().await;
    let (_, tcp) = gateway.client().connect("api.anthropic.com:443").await;
    // The client asks for another name inside the tunnel; it must not get a certificate for it.
    let session =
        tokio::spawn(async move { gateway.client().session(tcp, "api.openai.com", Http::V1).await });
    assert!(
        session.await.is_err(),
        "a server name other than the CONNECT host changed the identity"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_never_names_an_inner_error() {
    let (_fake, gateway) = started().await;
    let (head, mut tcp) = gateway.client().connect("169.254.169.254:443").await;
    let length: usize = head
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await.unwrap();
    let text = String::from_utf8_lossy(&body).to_lowercase();
    for leak in ["os error", "rustls", "hyper", "src/"] {
        assert!(!text.contains(leak), "{text}");
    }
    assert_eq!(
        gateway.api("/api/v1/interceptions").await["items"],
        Value::Array(Vec::new())
    );
}
