//! The proxy's listener with TLS, and CONNECT over HTTP/2 there and on the plain port.

use ::bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cases::{self, Case};
use crate::client::{Ask, Head, Http, ProxyClient, Session, assert_same, within};
use crate::fake::{FakeProvider, Offers, Reply};
use crate::harness::{Gateway, Settings};
use crate::proxy::echo_through;
use crate::tcp::Echo;

const CASE: Case = cases::CHAT;

async fn started(echo: &Echo, tls: &str) -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let settings = Settings::in_front_of(&fake)
        .proxy("allow-private = [\"127.0.0.0/8\"]")
        .proxy(&format!("allowed-ports = [443, {}]", echo.address().port()))
        .proxy(&format!("[proxy.tls]\nlisten = \"127.0.0.1:0\"\n{tls}"));
    (fake, Gateway::start(settings).await)
}

async fn check_works(mut session: Session) {
    let ask = Ask::post(CASE.path, CASE.request).header("authorization", "Bearer sk-user");
    let answer = session.send(ask).await;
    assert_eq!(answer.status, 200);
    assert_same(&answer.bytes().await, CASE.reply, CASE.name);
}

/// An HTTP/2 connection to the proxy.
struct Multiplexed(SendRequest<Empty<Bytes>>);

impl Multiplexed {
    async fn over(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(io));
        let (sender, connection) = within("HTTP/2", handshake).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn connect(
        &mut self,
        target: &str,
        authorization: &str,
    ) -> Result<TokioIo<Upgraded>, (u16, String)> {
        let mut request = Request::connect(target);
        if !authorization.is_empty() {
            request = request.header("proxy-authorization", authorization);
        }
        let sent = self.0.send_request(request.body(Empty::new()).unwrap());
        let response = within("the answer to CONNECT", sent).await.unwrap();
        if response.status() == StatusCode::OK {
            return Ok(TokioIo::new(hyper::upgrade::on(response).await.unwrap()));
        }
        let reason = response.headers().get("x-causeway-reason");
        let reason = reason.map(|value| value.to_str().unwrap().to_owned());
        Err((response.status().as_u16(), reason.unwrap_or_default()))
    }
}

async fn check_multiplexed(mut proxy: Multiplexed, client: &ProxyClient, echo: &Echo) {
    let target = echo.address().to_string();
    let refused = proxy.connect(&target, "").await.err();
    assert_eq!(refused, Some((407, "token_missing".to_owned())));
    let refused = proxy
        .connect("api.openai.com:22", client.authorization())
        .await
        .err();
    assert_eq!(refused, Some((403, "port_not_allowed".to_owned())));
    let refused = proxy
        .connect("api.openai.com", client.authorization())
        .await
        .err();
    assert_eq!(refused, Some((400, "bad_target".to_owned())));

    // Two tunnels and two interceptions at once on the one connection.
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let tunnel = proxy.connect(&target, client.authorization()).await.unwrap();
        tunnels.push(tokio::spawn(echo_through(tunnel)));
    }
    for http in [Http::V1, Http::V2] {
        let tunnel = proxy.connect("api.openai.com:443", client.authorization()).await;
        check_works(client.session(tunnel.unwrap(), CASE.host, http).await).await;
    }
    for tunnel in tunnels {
        tunnel.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_carries_many_connects_over_tls() {
    let echo = Echo::start().await;
    let (_fake, gateway) = started(&echo, "names = [\"proxy.corp\"]").await;
    let client = gateway.client();
    let tls = client
        .tls_to_proxy(gateway.proxy_tls(), "proxy.corp", Http::V2)
        .await;
    check_multiplexed(Multiplexed::over(tls).await, &client, &echo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge_works_on_the_plain_port() {
    let echo = Echo::start().await;
    let (_fake, gateway) = started(&echo, "").await;
    let tcp = TcpStream::connect(gateway.proxy()).await.unwrap();
    check_multiplexed(Multiplexed::over(tcp).await, &gateway.client(), &echo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_connect_works_over_tls() {
    let echo = Echo::start().await;
    let (_fake, gateway) = started(&echo, "").await;
    let client = gateway.client();
    for target in [echo.address().to_string(), format!("{}:443", CASE.host)] {
        // The default certificate is for the address that is listened on.
        let mut tls = client
            .tls_to_proxy(gateway.proxy_tls(), "127.0.0.1", Http::V1)
            .await;
        tls.write_all(client.connect_head(&target).as_bytes())
            .await
            .unwrap();
        let head = Head::read(&mut tls).await;
        assert_eq!(head.status, 200, "{target}: {head:?}");
        if target.ends_with(":443") {
            check_works(client.session(tls, CASE.host, Http::V2).await).await;
        } else {
            echo_through(tls).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_for_the_name_asked_for_if_listed() {
    let echo = Echo::start().await;
    let (_fake, gateway) = started(&echo, "names = [\"proxy.corp\", \"127.0.0.1\", \"gate.corp\"]").await;
    for name in ["proxy.corp", "127.0.0.1", "gate.corp"] {
        let client = gateway.client();
        client.tls_to_proxy(gateway.proxy_tls(), name, Http::V1).await;
    }
    let address = gateway.proxy_tls();
    let client = gateway.client();
    let other = tokio::spawn(async move {
        client.tls_to_proxy(address, "api.openai.com", Http::V1).await;
    });
    assert!(
        other.await.is_err(),
        "a certificate for a host that is not the proxy's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_may_be_the_operators() {
    let dir = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now();
    let made = certs::Authority::generate(
        &certs::CaProfile {
            common_name: "Operator's CA",
            only: None,
        },
        now,
    )
    .unwrap();
    let authority = certs::Authority::from_pem(&made.cert_pem, &made.key_pem, now).unwrap();
    let leaf = authority
        .issue(&certs::LeafName::parse("proxy.corp").unwrap(), now)
        .unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("ca.pem"), &made.cert_pem).unwrap();
    std::fs::write(path("cert.pem"), pem("CERTIFICATE", &leaf.chain[0])).unwrap();
    std::fs::write(path("key.pem"), pem("PRIVATE KEY", leaf.key.secret_der())).unwrap();
    let echo = Echo::start().await;
    let files = format!("cert = {:?}\nkey = {:?}", path("cert.pem"), path("key.pem"));
    let (_fake, gateway) = started(&echo, &files).await;
    let client = ProxyClient::new(gateway.proxy(), String::new(), &path("ca.pem"));
    client
        .tls_to_proxy(gateway.proxy_tls(), "proxy.corp", Http::V2)
        .await;
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_over_tls_in_both_versions() {
    let echo = Echo::start().await;
    let (_fake, gateway) = started(&echo, "names = [\"proxy.corp\"]").await;
    let client = gateway.client();
    let mut tls = client
        .tls_to_proxy(gateway.proxy_tls(), "proxy.corp", Http::V1)
        .await;
    tls.write_all(b"GET /proxy.pac HTTP/1.0\r\nHost: proxy.corp:8889\r\n\r\n")
        .await
        .unwrap();
    let said = String::from_utf8(crate::proxy::until_closed(&mut tls).await).unwrap();
    assert!(said.contains("\"HTTPS proxy.corp:8889\""), "{said}");

    let tls = client
        .tls_to_proxy(gateway.proxy_tls(), "proxy.corp", Http::V2)
        .await;
    let mut proxy = Multiplexed::over(tls).await;
    for (path, status, part) in [
        ("/", 200, "SHA-256"),
        ("/ca.pem", 200, "BEGIN CERTIFICATE"),
        ("/x", 404, ""),
    ] {
        let request = Request::get(format!("https://proxy.corp:8889{path}"));
        let sent = proxy.0.send_request(request.body(Empty::new()).unwrap());
        let response = within("the page", sent).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(part), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_are_forwarded_over_http2_too() {
    let web = FakeProvider::in_clear().await;
    web.on(
        "/path",
        Reply::json(b"{}")
            .header("connection", "x-hop")
            .header("x-hop", "1"),
    );
    let fake = FakeProvider::start(Offers::Both).await;
    let settings = Settings::in_front_of(&fake)
        .proxy("allow-private = [\"127.0.0.0/8\"]")
        .proxy(&format!("allowed-ports = [443, {}]", web.address().port()))
        .proxy("[proxy.tls]\nlisten = \"127.0.0.1:0\"");
    let gateway = Gateway::start(settings).await;
    let client = gateway.client();
    let tls = client
        .tls_to_proxy(gateway.proxy_tls(), "127.0.0.1", Http::V2)
        .await;
    let mut proxy = Multiplexed::over(tls).await;
    let request = Request::get(format!("http://{}/path", web.address()))
        .header("proxy-authorization", client.authorization());
    let sent = proxy.0.send_request(request.body(Empty::new()).unwrap());
    let response = within("the reply", sent).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("x-hop"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{}");
    let seen = web.last_request();
    assert_eq!(seen.header("host"), web.address().to_string());
    assert_eq!(seen.header("proxy-authorization"), "");
}
