//! What HTTP says beside methods, fields and bodies survives the way through: trailers, interim replies,
//! replies without a body, `OPTIONS *`, cookies, and connections that can be used again after all of it.

use ::bytes::Bytes;
use http::{HeaderMap, Method, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;

use crate::client::{Http, within};
use crate::fake::{Offers, tls_config};
use crate::harness::{Gateway, Settings};
use crate::raw::{RawProvider, read_to};

const HOST: &str = "api.openai.com";

async fn started() -> (RawProvider, Gateway) {
    let provider = RawProvider::start().await;
    let gateway = Gateway::start(Settings::in_front_of_address(
        provider.address(),
        provider.ca_file(),
    ))
    .await;
    (provider, gateway)
}

/// Sends a request by hand over HTTP/1.1; gives the reply's head.
async fn ask(io: &mut TlsStream<TcpStream>, line: &str, rest: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n{rest}");
    io.write_all(request.as_bytes()).await.unwrap();
    within("a reply", read_to(io, "\r\n\r\n"))
        .await
        .expect("a reply's head")
}

/// The head's lines less the one that names the request.
fn lines(head: &str) -> Vec<&str> {
    head.trim_end()
        .lines()
        .filter(|line| !line.starts_with("x-causeway-request-id: "))
        .collect()
}

async fn h2_client(gateway: &Gateway) -> h2::client::SendRequest<Bytes> {
    let io = gateway.client().open_tls_for(HOST, Http::V2).await;
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A reply read to its end.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

/// Sends a request over HTTP/2, its body in two parts, with trailers if there are any.
async fn ask_h2(
    client: &mut h2::client::SendRequest<Bytes>,
    request: http::request::Builder,
    body: Option<(&'static str, HeaderMap)>,
) -> Reply {
    let (answer, mut sending) = client
        .send_request(request.body(()).unwrap(), body.is_none())
        .unwrap();
    if let Some((body, trailers)) = body {
        let (one, two) = body.as_bytes().split_at(body.len() / 2);
        sending.send_data(Bytes::from_static(one), false).unwrap();
        sending
            .send_data(Bytes::from_static(two), trailers.is_empty())
            .unwrap();
        if !trailers.is_empty() {
            sending.send_trailers(trailers).unwrap();
        }
    }
    let (head, mut stream) = within("a reply", answer).await.unwrap().into_parts();
    let mut body = Vec::new();
    while let Some(data) = within("the body", stream.data()).await {
        body.extend_from_slice(&data.unwrap());
    }
    let trailers = within("the trailers", stream.trailers()).await.unwrap();
    Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
        trailers: trailers.unwrap_or_default(),
    }
}

fn to(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://{HOST}{path}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_keep_their_order_and_spelling_both_ways() {
    let (provider, gateway) = started().await;
    provider.then(
        "HTTP/1.1 200 OK\r\nX-Zulu: 1\r\nContent-Type: text/plain\r\nSet-Cookie: a=1\r\nX-ALPHA: 2\r\nset-cookie: b=2\r\nAlt-Svc: h3=\":443\"\r\nContent-Length: 2\r\n\r\nok",
    );
    let mut io = gateway.client().open_tls(HOST).await;
    let head = ask(
        &mut io,
        "GET /v1/models",
        "X-Zulu: 1\r\nuser-agent: U\r\nX-ALPHA: 2\r\nAuthorization: Bearer sk-user\r\n\r\n",
    )
    .await;
    let seen = provider.last_request();
    let sent: Vec<&str> = seen.lines().filter(|line| !line.starts_with("Host: ")).collect();
    assert_eq!(
        sent,
        [
            "GET /v1/models HTTP/1.1",
            "X-Zulu: 1",
            "user-agent: U",
            "X-ALPHA: 2",
            "Authorization: Bearer sk-user",
            ""
        ]
    );
    assert!(seen.contains("\r\nHost: api.openai.com\r\n"), "{seen}");
    assert_eq!(
        lines(&head),
        [
            "HTTP/1.1 200 OK",
            "X-Zulu: 1",
            "Content-Type: text/plain",
            "Set-Cookie: a=1",
            "set-cookie: b=2",
            "X-ALPHA: 2",
            "Content-Length: 2"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_replies_do_not_hide_the_final_one() {
    let (provider, gateway) = started().await;
    let reply = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut io = gateway.client().open_tls(HOST).await;
    let mut client = h2_client(&gateway).await;
    for _ in 0..2 {
        provider.then(reply);
        let head = ask(&mut io, "GET /v1/models", "\r\n").await;
        assert_eq!(lines(&head), ["HTTP/1.1 200 OK", "Content-Length: 2"]);
        assert_eq!(read_to(&mut io, "ok").await.unwrap(), "ok");
        provider.then(reply);
        let reply = ask_h2(&mut client, to("GET", "/v1/models"), None).await;
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]));
    }
    assert_eq!(provider.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_gets_it_and_the_upstream_is_not_asked() {
    let (provider, gateway) = started().await;
    let mut io = gateway.client().open_tls(HOST).await;
    // One that is read as a whole, and one that streams through.
    for line in ["POST /v1/chat/completions", "PUT /v1/files/1"] {
        provider.then("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok");
        let interim = ask(&mut io, line, "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
        assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n", "{line}");
        io.write_all(b"{}").await.unwrap();
        let head = read_to(&mut io, "\r\n\r\n").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 201 Created\r\n"), "{line}: {head}");
        assert_eq!(read_to(&mut io, "ok").await.unwrap(), "ok");
        let seen = provider.last_request();
        assert!(
            !seen.contains("100-continue") && seen.ends_with("\r\n\r\n{}"),
            "{seen}"
        );
    }
}

/// Replies without a body, whatever their fields say.
const BODILESS: [(&str, &str, u16); 4] = [
    (
        "HEAD",
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12345\r\n\r\n",
        200,
    ),
    ("GET", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204),
    ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304),
    ("DELETE", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
];

#[tokio::test(flavor = "multi_thread")]
async fn replies_without_a_body_keep_their_fields_and_the_connection() {
    let (provider, gateway) = started().await;
    let mut io = gateway.client().open_tls(HOST).await;
    let mut client = h2_client(&gateway).await;
    for (method, reply, status) in BODILESS {
        provider.then(reply);
        let head = ask(&mut io, &format!("{method} /v1/models"), "\r\n").await;
        assert_eq!(lines(&head), lines(reply), "{method}");
        provider.then(reply);
        let answer = ask_h2(&mut client, to(method, "/v1/models"), None).await;
        assert_eq!(
            (answer.status, answer.body.len()),
            (status, 0),
            "{method} {status}"
        );
        if method == "HEAD" {
            assert_eq!(answer.headers["content-length"], "12345");
        }
    }
    assert_eq!(provider.connections(), 1, "each reply left its connection usable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_ends_with_its_connection_is_whole() {
    let (provider, gateway) = started().await;
    let reply = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the last byte";
    provider.then(reply);
    let mut io = gateway.client().open_tls(HOST).await;
    let head = ask(&mut io, "GET /v1/models", "\r\n").await;
    assert_eq!(lines(&head), ["HTTP/1.1 200 OK", "transfer-encoding: chunked"]);
    let body = read_to(&mut io, "\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(body, "10\r\nto the last byte\r\n0\r\n\r\n");
    provider.then(reply);
    let reply = ask_h2(&mut h2_client(&gateway).await, to("GET", "/v1/models"), None).await;
    assert_eq!(reply.body, b"to the last byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_options_request_for_the_server_itself_arrives_as_one() {
    let (provider, gateway) = started().await;
    provider.then("HTTP/1.1 204 No Content\r\nAllow: GET, POST\r\n\r\n");
    let mut io = gateway.client().open_tls(HOST).await;
    let head = ask(&mut io, "OPTIONS *", "\r\n").await;
    assert_eq!(lines(&head), ["HTTP/1.1 204 No Content", "Allow: GET, POST"]);
    assert!(provider.last_request().starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_that_http2_has_split_arrive_as_one_field() {
    let (provider, gateway) = started().await;
    provider.then("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let request = to("GET", "/v1/models")
        .header("cookie", "a=1")
        .header("x-between", "y")
        .header("cookie", "b=2; c=3");
    ask_h2(&mut h2_client(&gateway).await, request, None).await;
    let seen = provider.last_request();
    assert!(seen.contains("\r\ncookie: a=1; b=2; c=3\r\n"), "{seen}");
    assert_eq!(seen.matches("cookie").count(), 1, "{seen}");
}

const TRAILED: &str =
    "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_reply_reach_a_client_that_takes_them() {
    let (provider, gateway) = started().await;
    provider.then(TRAILED);
    let mut io = gateway.client().open_tls(HOST).await;
    let head = ask(
        &mut io,
        "GET /v1/models",
        "TE: trailers\r\nConnection: TE\r\n\r\n",
    )
    .await;
    assert!(head.contains("\r\nTrailer: X-Sum\r\n"), "{head}");
    let body = read_to(&mut io, "\r\n\r\n").await.unwrap();
    assert_eq!(body, "2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n");
    let seen = provider.last_request().to_lowercase();
    assert!(
        seen.contains("\r\nte: trailers\r\n") && seen.contains("\r\nconnection: te\r\n"),
        "{seen}"
    );

    provider.then(TRAILED);
    let head = ask(&mut io, "GET /v1/models", "\r\n").await;
    assert!(head.contains("\r\nTrailer: X-Sum\r\n"), "{head}");
    assert_eq!(
        read_to(&mut io, "\r\n\r\n").await.unwrap(),
        "2\r\nok\r\n0\r\n\r\n"
    );

    provider.then(TRAILED);
    let request = to("GET", "/v1/models").header("te", "trailers");
    let reply = ask_h2(&mut h2_client(&gateway).await, request, None).await;
    assert_eq!(
        (reply.body.as_slice(), &reply.trailers["x-sum"]),
        (&b"ok"[..], &"7".parse().unwrap())
    );
    assert_eq!(provider.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_request_reach_the_upstream() {
    let (provider, gateway) = started().await;
    let done = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let want = "\r\n0\r\nx-sum: 7\r\n\r\n";
    provider.then(done);
    let mut io = gateway.client().open_tls(HOST).await;
    let body = "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n";
    ask(&mut io, "PUT /v1/files/1", body).await;
    assert!(
        provider.last_request().ends_with(want),
        "{}",
        provider.last_request()
    );

    provider.then(done);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let request = to("PUT", "/v1/files/1").header("trailer", "x-sum");
    ask_h2(&mut h2_client(&gateway).await, request, Some(("body", trailers))).await;
    assert!(
        provider.last_request().ends_with(want),
        "{}",
        provider.last_request()
    );
}

/// A provider that speaks HTTP/2 by hand, for one connection: interim replies first, trailers last.
async fn h2_provider(dir: &std::path::Path) -> std::net::SocketAddr {
    let tls = TlsAcceptor::from(std::sync::Arc::new(tls_config(
        Offers::Http2,
        &dir.join("provider-ca.pem"),
    )));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let io = tls.accept(tcp).await.unwrap();
        let mut connection = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(answer_h2(request, respond));
        }
    });
    address
}

/// Echoes the body and its trailers.
async fn answer_h2(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let interim = http::Response::builder().status(103).header("link", "</a>");
    respond.send_informational(interim.body(()).unwrap()).unwrap();
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        body.extend_from_slice(&data.unwrap());
    }
    let mut trailers = stream.trailers().await.unwrap().unwrap_or_default();
    trailers.insert("x-end", "1".parse().unwrap());
    let asked = format!("{} {:?} ", head.method, head.uri.path());
    body.splice(0..0, asked.into_bytes());
    let response = http::Response::builder().header("trailer", "x-end");
    let mut sending = respond.send_response(response.body(()).unwrap(), false).unwrap();
    sending.send_data(body.into(), false).unwrap();
    sending.send_trailers(trailers).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_holds_for_an_upstream_that_speaks_http2() {
    let dir = tempfile::tempdir().unwrap();
    let address = h2_provider(dir.path()).await;
    let settings = Settings::in_front_of_address(address, &dir.path().join("provider-ca.pem"));
    let gateway = Gateway::start(settings).await;

    let mut client = h2_client(&gateway).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let reply = ask_h2(&mut client, to("PUT", "/v1/files/1"), Some(("body", trailers))).await;
    assert_eq!(
        (reply.status, reply.body.as_slice()),
        (200, &b"PUT \"/v1/files/1\" body"[..])
    );
    assert_eq!(reply.trailers["x-sum"], "7");
    assert_eq!(reply.trailers["x-end"], "1");

    let mut io = gateway.client().open_tls(HOST).await;
    let head = ask(
        &mut io,
        "GET /v1/models",
        "TE: trailers\r\nConnection: TE\r\n\r\n",
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let body = read_to(&mut io, "\r\n\r\n").await.unwrap();
    assert_eq!(body, "11\r\nGET \"/v1/models\" \r\n0\r\nx-end: 1\r\n\r\n");

    let head = ask(&mut io, "OPTIONS *", "\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let body = read_to(&mut io, "\r\n0\r\n\r\n").await.unwrap();
    assert!(body.contains("OPTIONS \"*\""), "{body}");
    let mut request = Request::new(());
    *request.method_mut() = Method::OPTIONS;
    let uri = http::Uri::builder().scheme("https").authority(HOST);
    *request.uri_mut() = uri.path_and_query("*").build().unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let mut stream = within("a reply", answer).await.unwrap().into_body();
    let data = within("the body", stream.data()).await.unwrap().unwrap();
    assert_eq!(&data[..], b"OPTIONS \"*\" ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_inside_a_body_is_told_so() {
    let (provider, gateway) = started().await;
    provider.then("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let mut slow = gateway.client().open_tls(HOST).await;
    slow.write_all(
        format!("PUT /v1/files/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nhalf").as_bytes(),
    )
    .await
    .unwrap();
    let mut reply = String::new();
    let closed = tokio::time::timeout(
        std::time::Duration::from_secs(60),
        slow.read_to_string(&mut reply),
    );
    let _ = closed.await.expect("the gateway closes");
    assert!(reply.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{reply}");
}
