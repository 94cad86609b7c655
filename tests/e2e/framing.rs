//! Requests that two readers could read differently are refused before either has read them, on every
//! listener that takes requests; and a head that has begun must end in time.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cases::{self, Case};
use crate::client::{Head, basic, within};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

const CASE: Case = cases::CHAT;

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

/// A connection as hyper gets it: inside an intercepted tunnel, or the bridge's own.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The two ways to the gateway, with the path prefix of each.
async fn ways(gateway: &Gateway) -> [(&'static str, Box<dyn Io>, &'static str); 2] {
    let tunnel = gateway.client().open_tls(CASE.host).await;
    let bridge = TcpStream::connect(gateway.bridge()).await.unwrap();
    [
        ("intercepted", Box::new(tunnel), ""),
        ("bridge", Box::new(bridge), "/openai"),
    ]
}

/// Reads to the end; a reset counts as one.
async fn until_closed(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = within("the gateway to close", io.read_to_end(&mut rest)).await;
    rest
}

/// A request line and what follows it, up to and with the empty line.
const UNSOUND: [(&str, &str); 19] = [
    (
        "both framings",
        " HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        " HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nbody",
    ),
    (
        "a list of lengths",
        " HTTP/1.1\r\nHost: HOST\r\nContent-Length: 4, 4\r\n\r\nbody",
    ),
    (
        "a signed length",
        " HTTP/1.1\r\nHost: HOST\r\nContent-Length: +4\r\n\r\nbody",
    ),
    (
        "another coding first",
        " HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "another coding last",
        " HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        " HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks in HTTP/1.0",
        " HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a bare CR", " HTTP/1.1\r\nHost: HOST\r\nX: a\rb\r\n\r\n"),
    ("a bare LF", " HTTP/1.1\r\nHost: HOST\r\nX: a\nY: b\r\n\r\n"),
    ("bare LFs only", " HTTP/1.1\nHost: HOST\n\n"),
    ("a NUL", " HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n"),
    ("a folded line", " HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\n\r\n"),
    (
        "white space before a colon",
        " HTTP/1.1\r\nHost: HOST\r\nX : a\r\n\r\n",
    ),
    (
        "white space before the first name",
        " HTTP/1.1\r\n Host: HOST\r\n\r\n",
    ),
    ("no Host", " HTTP/1.1\r\nX: a\r\n\r\n"),
    ("two Hosts", " HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
    ("no version", "\r\n\r\n"),
    ("another version", " HTTP/3.0\r\nHost: HOST\r\n\r\n"),
];

fn unsound(prefix: &str, rest: &str) -> String {
    format!("POST {prefix}{}{}", CASE.path, rest.replace("HOST", CASE.host))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_a_400_and_the_end_of_the_connection() {
    let (fake, gateway) = started().await;
    for (name, rest) in UNSOUND {
        for (way, mut io, prefix) in ways(&gateway).await {
            let request = unsound(prefix, rest);
            io.write_all(request.as_bytes()).await.unwrap();
            let head = Head::read(&mut io).await;
            assert_eq!(head.status, 400, "{name} over {way}: {head:?}");
            let after = until_closed(&mut io).await;
            assert!(after.is_empty(), "{name} over {way}: {after:?}");
        }
    }
    assert!(fake.requests().is_empty());
    let metrics = gateway.metrics().await;
    assert!(
        metrics.contains("causeway_refusals_total{reason=\"malformed_request\"} 38"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_too_long_is_a_414_that_says_so() {
    let (fake, gateway) = started().await;
    for (way, mut io, prefix) in ways(&gateway).await {
        for text in unsound(prefix, UNSOUND[0].1).as_bytes().chunks(7) {
            io.write_all(text).await.unwrap();
            io.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let head = Head::read(&mut io).await;
        assert_eq!(head.status, 400, "in portions over {way}");
    }
    for (way, mut io, _) in ways(&gateway).await {
        let before = "GET /api/v1/none HTTP/1.1\r\nHost: HOST\r\n\r\n";
        let query = "a".repeat(1 << 20);
        let request =
            format!("{before}GET /api/v1/sessions?user={query} HTTP/1.1\r\nHost: HOST\r\nX: y\r\n\r\n");
        io.write_all(request.replace("HOST", CASE.host).as_bytes())
            .await
            .unwrap();
        // The reply to the request before it comes first.
        let first = Head::read(&mut io).await;
        assert_ne!(first.status, 414, "over {way}");
        let text = String::from_utf8(until_closed(&mut io).await).unwrap();
        let at = text
            .find("HTTP/1.1 414 URI Too Long\r\n")
            .unwrap_or_else(|| panic!("over {way}: {text}"));
        let (head, body) = text[at..].split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("content-type: application/problem+json"),
            "over {way}: {head}"
        );
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "over {way}: {head}"
        );
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&problem["status"], &problem["field"]),
            (&414.into(), &"query".into())
        );
    }
    assert!(
        fake.requests()
            .iter()
            .all(|request| !request.path.contains("user="))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsound_request_is_refused_after_the_reply_to_the_one_before_it() {
    let (fake, gateway) = started().await;
    let body = std::str::from_utf8(CASE.request).unwrap();
    for (name, rest) in UNSOUND {
        let mut io = gateway.client().open_tls(CASE.host).await;
        let sound = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer sk-user\r\nContent-Length: {}\r\n\r\n{body}",
            CASE.path,
            CASE.host,
            body.len()
        );
        let both = sound + &unsound("", rest);
        io.write_all(both.as_bytes()).await.unwrap();
        let all = until_closed(&mut io).await;
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {text}");
        let refused = text.matches("HTTP/1.1 400 Bad Request\r\n").count();
        assert_eq!(refused, 1, "{name}: {text}");
    }
    assert_eq!(
        fake.requests().len(),
        UNSOUND.len(),
        "each sound request, and no other"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_are_not_sound_are_a_400_and_the_end_of_the_connection() {
    let (fake, gateway) = started().await;
    for chunks in [
        "4 \r\nbody\r\n0\r\n\r\n",
        "4\nbody\r\n0\r\n\r\n",
        "+4\r\nbody\r\n0\r\n\r\n",
        "0\r\nHost: evil\r\n\r\n",
    ] {
        let head = " HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n";
        let read_whole = unsound("", head);
        let passed_through = read_whole.replacen(&format!("POST {}", CASE.path), "PUT /v1/files/1", 1);
        let known = format!("X-Coder-AI-Governance-Token: {}\r\nTransfer", gateway.token());
        let at_bridge = unsound("/openai", &head.replace("Transfer", &known));
        for (way, request) in [(0, read_whole), (0, passed_through), (1, at_bridge)] {
            let (_, mut io, _) = ways(&gateway).await.into_iter().nth(way).unwrap();
            let request = request + chunks + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
            io.write_all(request.as_bytes()).await.unwrap();
            let text = String::from_utf8(until_closed(&mut io).await).unwrap();
            assert!(
                text.starts_with("HTTP/1.1 400 Bad Request\r\n"),
                "{request}: {text}"
            );
            assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{request}: {text}");
        }
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_is_closed_by_its_deadline_and_an_idle_connection_is_not() {
    let (_fake, gateway) = started().await;
    let [(_, mut tunnel, _), (_, mut bridge, _)] = ways(&gateway).await;
    let mut idle = TcpStream::connect(gateway.bridge()).await.unwrap();
    let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    idle.write_all(whole.as_bytes()).await.unwrap();
    assert_eq!(Head::read(&mut idle).await.status, 200);
    let mut second = TcpStream::connect(gateway.bridge()).await.unwrap();
    second
        .write_all(format!("{whole}GET /").as_bytes())
        .await
        .unwrap();
    let mut silent_h2 = TcpStream::connect(gateway.bridge()).await.unwrap();
    silent_h2.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();

    let mut first_byte = TcpStream::connect(gateway.bridge()).await.unwrap();
    first_byte.write_all(b"P").await.unwrap();

    let half = b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nX-";
    tunnel.write_all(half).await.unwrap();
    bridge.write_all(half).await.unwrap();
    assert!(until_closed(&mut tunnel).await.is_empty());
    assert!(until_closed(&mut bridge).await.is_empty());
    let first_reply = String::from_utf8(until_closed(&mut second).await).unwrap();
    assert_eq!(first_reply.matches("HTTP/1.1 ").count(), 1, "{first_reply}");
    until_closed(&mut silent_h2).await;
    until_closed(&mut first_byte).await;

    // The welcome's body is still there to be read, and then one more reply.
    idle.write_all(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let rest = String::from_utf8(until_closed(&mut idle).await).unwrap();
    assert!(rest.contains("HTTP/1.1 404 Not Found\r\n"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_port_refuses_what_can_be_read_in_two_ways() {
    let (fake, gateway) = started().await;
    let token = basic(&gateway.token());
    for (name, rest) in UNSOUND {
        let connect = format!("CONNECT {}:443", CASE.host);
        let forward = format!("POST http://{}{}", CASE.host, CASE.path);
        for start in [connect, forward] {
            // Some clients name no host beside the one that they connect to.
            if name == "no Host" && start.starts_with("CONNECT") {
                continue;
            }
            let fields = rest.replacen(
                "\r\n\r\n",
                &format!("\r\nProxy-Authorization: {token}\r\n\r\n"),
                1,
            );
            let request = start.clone() + &fields.replace("HOST", CASE.host);
            let (head, mut tcp) = gateway.client().connect_raw(&request).await;
            assert_eq!(head.status, 400, "{name} in {start}: {head:?}");
            let text = String::from_utf8(until_closed(&mut tcp).await).unwrap();
            assert!(!text.contains("HTTP/1.1 "), "{name} in {start}: {text}");
        }
    }
    assert!(fake.requests().is_empty() && fake.connections() == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_too_early_behind_a_connect_is_tls_or_the_next_request() {
    let (_fake, gateway) = started().await;
    let known = gateway.client().connect_head(&format!("{}:443", CASE.host));
    let unknown = "CONNECT api.openai.com:443 HTTP/1.1\r\n\r\n";
    // Refused, then in the same packet the same again with a token, then bytes for whoever is connected.
    let early = format!("{unknown}{unknown}{known}\x16\x03\x01");
    let (first, mut tcp) = gateway.client().connect_raw(&early).await;
    let mut statuses = vec![first.status];
    let mut body = vec![0; first.header("content-length").unwrap().parse().unwrap()];
    for _ in 0..2 {
        within("a refusal", tcp.read_exact(&mut body)).await.unwrap();
        statuses.push(Head::read(&mut tcp).await.status);
    }
    assert_eq!(statuses, [407, 407, 200]);
    // The rest is no handshake: an alert, and the end.
    tcp.write_all(b"\0\x05nope!").await.unwrap();
    let said = until_closed(&mut tcp).await;
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
}
