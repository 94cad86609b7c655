//! WebSockets reach the upstream as WebSockets, whether the client asks over HTTP/1.1 or over HTTP/2, and end
//! with either side. Where they are switched off, each client gets the status on which it falls back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ::bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::{Head, Http, within};
use crate::fake::{Offers, tls_config};
use crate::harness::{Gateway, Settings, eventually};
use crate::raw::{RawProvider, read_to};

pub(crate) const HOST: &str = "api.openai.com";
const RESPONSES: &str = "/v1/responses?api-version=1";

/// A provider that accepts every WebSocket and echoes its messages; it stops when dropped.
struct Echo {
    address: std::net::SocketAddr,
    ca_file: PathBuf,
    seen: Arc<Mutex<Vec<Request<()>>>>,
    ended: mpsc::UnboundedReceiver<()>,
    acceptor: AbortHandle,
    _dir: TempDir,
}

impl Echo {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("provider-ca.pem");
        let tls = TlsAcceptor::from(Arc::new(tls_config(Offers::Both, &ca_file)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::default());
        let (ending, ended) = mpsc::unbounded_channel();
        let seeing = Arc::clone(&seen);
        let acceptor = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(echo(tcp, tls.clone(), Arc::clone(&seeing), ending.clone()));
            }
        });
        Self {
            address,
            ca_file,
            seen,
            ended,
            acceptor: acceptor.abort_handle(),
            _dir: dir,
        }
    }

    fn last_request(&self) -> Request<()> {
        let seen = self.seen.lock().unwrap();
        seen.last().expect("no request reached the provider").clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Echoes until the socket ends; a message `break` breaks the connection.
async fn echo(
    tcp: TcpStream,
    tls: TlsAcceptor,
    seen: Arc<Mutex<Vec<Request<()>>>>,
    ending: mpsc::UnboundedSender<()>,
) {
    tcp.set_nodelay(true).unwrap();
    let io = tls.accept(tcp).await.unwrap();
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let answer = |request: &Request<()>, mut response: Response<()>| {
        let headers = response.headers_mut();
        headers.insert("x-codex-turn-state", "state".parse().unwrap());
        headers.insert("openai-model", "gpt-5.2".parse().unwrap());
        seen.lock().unwrap().push(request.clone());
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(io, answer).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if message == Message::text("break") {
            break;
        }
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            break;
        }
    }
    let _ = ending.send(());
}

async fn started() -> (Echo, Gateway) {
    let echo = Echo::start().await;
    let settings = Settings::in_front_of_address(echo.address, &echo.ca_file);
    let gateway = Gateway::start(settings).await;
    (echo, gateway)
}

/// What Codex and the gateway's own users send.
pub(crate) fn client_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer sk-user"),
        ("openai-beta", "responses_websockets=2026-02-06"),
        ("x-codex-turn-metadata", "{}"),
        (
            "sec-websocket-extensions",
            "permessage-deflate; client_max_window_bits",
        ),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    headers
}

/// Asks over HTTP/1.1; the answer's head comes with the socket.
pub(crate) async fn open_http1<T>(
    io: T,
    host: &str,
    path: &str,
    headers: HeaderMap,
) -> Result<(WebSocketStream<T>, HeaderMap), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("wss://{host}{path}").into_client_request().unwrap();
    request.headers_mut().extend(headers);
    let any_size = Some(
        WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None),
    );
    let opening = Box::pin(tokio_tungstenite::client_async_with_config(request, io, any_size));
    let opened = within("the handshake", opening).await;
    opened.map(|(socket, response)| (socket, response.headers().clone()))
}

/// Asks over HTTP/2.
async fn ask_http2(gateway: &Gateway, host: &str, path: &str, headers: HeaderMap) -> Response<Incoming> {
    let io = gateway.client().open_tls_for(host, Http::V2).await;
    let handshake = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(io));
    let (mut sender, connection) = handshake.await.unwrap();
    eventually("the offer of extended CONNECT", async || {
        connection.is_extended_connect_protocol_enabled().then_some(())
    })
    .await;
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("https://{host}{path}"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::new())
        .unwrap();
    request.headers_mut().extend(headers);
    within("the answer", sender.send_request(request)).await.unwrap()
}

pub(crate) async fn open_http2(
    gateway: &Gateway,
    path: &str,
) -> (WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, HeaderMap) {
    let mut response = ask_http2(gateway, HOST, path, client_headers()).await;
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let upgraded = within("the upgrade", hyper::upgrade::on(&mut response))
        .await
        .unwrap();
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    (socket, headers)
}

async fn echoes<T>(socket: &mut WebSocketStream<T>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let large: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let messages = [
        Message::text(r#"{"type":"response.create"}"#),
        Message::text(""),
        Message::binary(large),
    ];
    for message in messages {
        socket.send(message.clone()).await.unwrap();
        let back = within("the echo", socket.next()).await.unwrap().unwrap();
        assert!(
            back == message,
            "a message of {} bytes came back as another",
            message.len()
        );
    }
}

/// Closes the socket in good order.
async fn closes<T>(mut socket: WebSocketStream<T>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    socket.close(None).await.unwrap();
    while let Some(message) = within("the end", socket.next()).await {
        assert!(message.unwrap().is_close());
    }
}

async fn open_sockets(gateway: &Gateway, want: u32) {
    let line = format!("causeway_websockets_open{{provider=\"openai\"}} {want}\n");
    eventually(&line, async || {
        gateway.metrics().await.contains(&line).then_some(())
    })
    .await;
}

fn check_upstream_handshake(seen: &Request<()>, path: &str, compression: bool) {
    assert_eq!(seen.uri(), path);
    let headers = seen.headers();
    assert_eq!(headers["host"], HOST);
    assert_eq!(headers["authorization"], "Bearer sk-user");
    assert_eq!(headers["openai-beta"], "responses_websockets=2026-02-06");
    assert_eq!(headers["x-codex-turn-metadata"], "{}");
    assert_eq!(headers["sec-websocket-version"], "13");
    assert_eq!(headers.contains_key("sec-websocket-extensions"), compression);
    let internal = ["x-coder", "proxy-", "x-causeway", ":"];
    let leaked = headers
        .keys()
        .find(|name| internal.iter().any(|prefix| name.as_str().starts_with(prefix)));
    assert_eq!(leaked, None);
}

fn check_answer(headers: &HeaderMap) {
    assert_eq!(headers["x-codex-turn-state"], "state");
    assert_eq!(headers["openai-model"], "gpt-5.2");
    assert!(headers.contains_key("x-causeway-request-id"), "{headers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_over_http1_is_carried_both_ways_until_it_closes() {
    let (mut echo, gateway) = started().await;
    for (path, compression) in [(RESPONSES, false), ("/v1/realtime?model=x", true)] {
        let io = gateway.client().open_tls(HOST).await;
        let (mut socket, headers) = open_http1(io, HOST, path, client_headers()).await.unwrap();
        check_upstream_handshake(&echo.last_request(), path, compression);
        check_answer(&headers);
        open_sockets(&gateway, 1).await;
        echoes(&mut socket).await;
        closes(socket).await;
        within("the upstream's end", echo.ended.recv()).await.unwrap();
        open_sockets(&gateway, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_over_http2_is_carried_both_ways_until_it_closes() {
    let (mut echo, gateway) = started().await;
    let (mut socket, headers) = open_http2(&gateway, RESPONSES).await;
    check_upstream_handshake(&echo.last_request(), RESPONSES, false);
    check_answer(&headers);
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!headers.contains_key(name), "{name} has no place in HTTP/2");
    }
    open_sockets(&gateway, 1).await;
    echoes(&mut socket).await;
    closes(socket).await;
    within("the upstream's end", echo.ended.recv()).await.unwrap();
    open_sockets(&gateway, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_in_base_url_mode_goes_below_the_providers_base_url() {
    let (echo, gateway) = started().await;
    let token = gateway.token();
    let mut headers = client_headers();
    headers.insert("x-coder-ai-governance-token", token.parse().unwrap());
    let io = TcpStream::connect(gateway.bridge()).await.unwrap();
    let opened = open_http1(io, "bridge", "/openai/v1/responses?api-version=1", headers).await;
    let (mut socket, headers) = opened.unwrap();
    check_upstream_handshake(&echo.last_request(), RESPONSES, false);
    check_answer(&headers);
    echoes(&mut socket).await;

    let io = TcpStream::connect(gateway.bridge()).await.unwrap();
    let refused = open_http1(io, "bridge", "/openai/v1/responses", client_headers()).await;
    assert_eq!(status_of(refused), 401, "the user's key is no gateway token");
    let mut headers = client_headers();
    headers.insert("x-coder-ai-governance-token", token.parse().unwrap());
    let io = TcpStream::connect(gateway.bridge()).await.unwrap();
    let refused = open_http1(io, "bridge", "/openai/v1/realtime", headers).await;
    assert_eq!(status_of(refused), 404, "not on the list of base-URL mode");
}

fn status_of<T>(refused: Result<T, Error>) -> u16 {
    match refused {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => 101,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_when_either_side_breaks_off() {
    let (mut echo, gateway) = started().await;
    for by_client in [true, false] {
        let io = gateway.client().open_tls(HOST).await;
        let (mut one, _) = open_http1(io, HOST, RESPONSES, client_headers()).await.unwrap();
        let (mut two, _) = open_http2(&gateway, RESPONSES).await;
        open_sockets(&gateway, 2).await;
        if by_client {
            drop((one, two));
        } else {
            one.send(Message::text("break")).await.unwrap();
            two.send(Message::text("break")).await.unwrap();
            assert!(!matches!(within("the end", one.next()).await, Some(Ok(_))));
            assert!(!matches!(within("the end", two.next()).await, Some(Ok(_))));
        }
        for _ in 0..2 {
            within("the upstream's end", echo.ended.recv()).await.unwrap();
        }
        open_sockets(&gateway, 0).await;
    }
}

/// What a client writes by hand to open a socket.
fn upgrade(host: &str) -> String {
    format!(
        "GET /v1/responses HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_answers_instead_reaches_the_client_as_it_is() {
    let provider = RawProvider::start().await;
    let settings = Settings::in_front_of_address(provider.address(), provider.ca_file());
    let gateway = Gateway::start(settings).await;
    let refusals = [(401, "Unauthorized"), (426, "Upgrade Required"), (200, "OK")];
    for (status, reason) in refusals {
        let reply =
            format!("HTTP/1.1 {status} {reason}\r\nX-Request-Id: r\r\nContent-Length: 5\r\n\r\nsorry");
        provider.then(reply.as_str());
        let mut io = gateway.client().open_tls(HOST).await;
        io.write_all(upgrade(HOST).as_bytes()).await.unwrap();
        let head = Head::read(&mut io).await;
        assert_eq!(head.status, status);
        assert_eq!(head.header("x-request-id"), Some("r"));
        assert_eq!(read_to(&mut io, "sorry").await.as_deref(), Some("sorry"));

        provider.then(reply);
        let answer = ask_http2(&gateway, HOST, RESPONSES, client_headers()).await;
        if status == 200 {
            assert_eq!(
                answer.status(),
                502,
                "to an HTTP/2 client a 200 would open the socket"
            );
            continue;
        }
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["x-request-id"], "r");
        let body = within("the body", answer.into_body().collect()).await.unwrap();
        assert_eq!(body.to_bytes(), "sorry");
    }
    // The upstream claims to switch, but has not read the key.
    provider.then("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    let answer = ask_http2(&gateway, HOST, RESPONSES, client_headers()).await;
    assert_eq!(answer.status(), 502);
    // It agrees to an extension that was not offered to it.
    provider.then("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    let mut io = gateway.client().open_tls(HOST).await;
    io.write_all(upgrade(HOST).as_bytes()).await.unwrap();
    assert_eq!(Head::read(&mut io).await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sockets_are_switched_off_each_client_gets_the_status_it_falls_back_on() {
    let echo = Echo::start().await;
    let settings = Settings::in_front_of_address(echo.address, &echo.ca_file);
    let gateway = Gateway::start(settings.provider("websockets = false")).await;
    for (host, path, status) in [
        (HOST, RESPONSES, 426),
        ("chatgpt.com", "/backend-api/codex/responses", 426),
        ("api.individual.githubcopilot.com", "/responses", 501),
    ] {
        let io = gateway.client().open_tls(host).await;
        let refused = open_http1(io, host, path, client_headers()).await;
        assert_eq!(status_of(refused), status, "{host}");
        let answer = ask_http2(&gateway, host, path, client_headers()).await;
        assert_eq!(answer.status(), status, "{host} over HTTP/2");
        assert_eq!(answer.headers()["x-causeway-reason"], "websocket_unavailable");
    }
    assert!(echo.seen.lock().unwrap().is_empty());

    // The connection stays, and so does its guard.
    let mut io = gateway.client().open_tls(HOST).await;
    for _ in 0..2 {
        io.write_all(upgrade(HOST).as_bytes()).await.unwrap();
        let head = Head::read(&mut io).await;
        assert_eq!(head.status, 426);
        let mut body = vec![0; head.header("content-length").unwrap().parse().unwrap()];
        io.read_exact(&mut body).await.unwrap();
    }
    io.write_all(b"GET / HTTP/1.1\r\nHost: api.openai.com\r\nX : y\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(Head::read(&mut io).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_inside_a_tunnel_goes_nowhere() {
    let (echo, gateway) = started().await;
    let mut io = gateway.client().open_tls(HOST).await;
    io.write_all(b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(Head::read(&mut io).await.status, 400);

    let io = gateway.client().open_tls_for(HOST, Http::V2).await;
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("{HOST}:443"));
    let (answer, _) = client.send_request(request.body(()).unwrap(), false).unwrap();
    assert_eq!(within("the answer", answer).await.unwrap().status(), 400);
    assert!(echo.seen.lock().unwrap().is_empty());
}
