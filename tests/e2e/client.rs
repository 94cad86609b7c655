//! Clients: one that goes through the proxy as IDEs and agents do, one that uses the bridge's address as SDKs
//! do. The `CONNECT` is written by hand, so that tests can write it as badly as real clients do.

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::bytes::{Bytes, BytesMut};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The HTTP version that a client insists on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    V1,
    V2,
}

/// Waits for what must happen soon; a hang becomes a failure that says what was awaited.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Fails with both texts if they are not the same bytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], want: &[u8], what: &str) {
    let at = got
        .iter()
        .zip(want)
        .take_while(|(one, other)| one == other)
        .count();
    let (got_text, want_text) = (String::from_utf8_lossy(got), String::from_utf8_lossy(want));
    assert!(
        got == want,
        "{what}: different at byte {at}\n got: {got_text}\nwant: {want_text}"
    );
}

/// `Proxy-Authorization` as clients make it from `http://ignored:TOKEN@proxy`.
pub(crate) fn basic(token: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("ignored:{token}")))
}

/// A head that was read byte by byte, so that nothing behind it is lost.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    text: String,
}

impl Head {
    /// Reads the head of a response.
    pub(crate) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let byte = within("a response head", io.read_u8()).await;
            let so_far = String::from_utf8_lossy(&bytes);
            bytes.push(byte.unwrap_or_else(|error| panic!("{error} after a head of {so_far:?}")));
        }
        let text = String::from_utf8(bytes).unwrap();
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no status in {text:?}")),
            text,
        }
    }

    /// A header's value, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
    }
}

/// Sends bytes while reading the answer, as a client must that may be refused half-way: a server that has
/// heard enough closes, and then a failed write says less than what is there to read.
pub(crate) async fn exchange_raw<T>(io: T, request: Vec<u8>) -> (Head, Vec<u8>)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reading, mut writing) = tokio::io::split(io);
    let writer = tokio::spawn(async move {
        let _ = writing.write_all(&request).await;
        let _ = writing.flush().await;
        writing
    });
    let head = Head::read(&mut reading).await;
    let length = head
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    within("the body", reading.read_exact(&mut body)).await.unwrap();
    writer.abort();
    (head, body)
}

/// A client behind the proxy.
#[derive(Clone)]
pub(crate) struct ProxyClient {
    proxy: SocketAddr,
    authorization: String,
    roots: Arc<RootCertStore>,
}

impl ProxyClient {
    /// A client that sends `authorization` to the proxy and trusts only `ca_file`.
    pub(crate) fn new(proxy: SocketAddr, authorization: String, ca_file: &Path) -> Self {
        Self {
            proxy,
            authorization,
            roots: Arc::new(roots(ca_file)),
        }
    }

    /// Sends a head to the proxy as it is; the answer and the connection come back.
    pub(crate) async fn connect_raw(&self, head: &str) -> (Head, TcpStream) {
        let mut tcp = within("the proxy", TcpStream::connect(self.proxy)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.write_all(head.as_bytes()).await.unwrap();
        (Head::read(&mut tcp).await, tcp)
    }

    /// A well-formed `CONNECT` for `target`, a host with its port.
    pub(crate) async fn connect(&self, target: &str) -> (Head, TcpStream) {
        self.connect_raw(&self.connect_head(target)).await
    }

    /// The head that [`connect`](Self::connect) sends.
    pub(crate) fn connect_head(&self, target: &str) -> String {
        let authorization = &self.authorization;
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {authorization}\r\n\r\n")
    }

    /// A session with `host`, port 443, through the proxy.
    pub(crate) async fn open(&self, host: &str, http: Http) -> Session {
        let (head, tcp) = self.connect(&format!("{host}:443")).await;
        assert_eq!(head.status, 200, "CONNECT {host}: {head:?}");
        self.session(tcp, host, http).await
    }

    /// TLS and HTTP with `host` over an open tunnel.
    pub(crate) async fn session<T>(&self, tunnel: T, host: &str, http: Http) -> Session
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = tls(tunnel, host, http, &self.roots).await;
        Session::over(stream, http, "https", host).await
    }

    /// TLS with the proxy itself at `address`, which shows a certificate for `host`.
    pub(crate) async fn tls_to_proxy(
        &self,
        address: SocketAddr,
        host: &str,
        http: Http,
    ) -> TlsStream<TcpStream> {
        let tcp = within("the proxy", TcpStream::connect(address)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        tls(tcp, host, http, &self.roots).await
    }

    /// The value of `Proxy-Authorization` that this client sends.
    pub(crate) fn authorization(&self) -> &str {
        &self.authorization
    }

    /// Nothing but TLS with `host`, for HTTP/1.1 written by hand.
    pub(crate) async fn open_tls(&self, host: &str) -> TlsStream<TcpStream> {
        self.open_tls_for(host, Http::V1).await
    }

    /// Nothing but TLS with `host`, for a protocol written by hand.
    pub(crate) async fn open_tls_for(&self, host: &str, http: Http) -> TlsStream<TcpStream> {
        let (head, tcp) = self.connect(&format!("{host}:443")).await;
        assert_eq!(head.status, 200, "CONNECT {host}: {head:?}");
        tls(tcp, host, http, &self.roots).await
    }
}

/// A session with `host` at `address`, with no proxy between.
pub(crate) async fn direct(address: SocketAddr, host: &str, ca_file: &Path, http: Http) -> Session {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let stream = tls(tcp, host, http, &Arc::new(roots(ca_file))).await;
    Session::over(stream, http, "https", host).await
}

/// A plain-text HTTP/1.1 session with the bridge's own address.
pub(crate) async fn base_url(bridge: SocketAddr) -> Session {
    let tcp = within("the bridge", TcpStream::connect(bridge)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    Session::over(tcp, Http::V1, "http", &bridge.to_string()).await
}

fn roots(ca_file: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let pem = fs::read(ca_file).unwrap();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    assert!(!roots.is_empty(), "{} holds a certificate", ca_file.display());
    roots
}

/// TLS that trusts only `ca_file`, and may fail for it.
pub(crate) async fn try_tls(tcp: TcpStream, host: &str, ca_file: &Path) -> io::Result<TlsStream<TcpStream>> {
    handshake(tcp, host, b"http/1.1", &Arc::new(roots(ca_file))).await
}

async fn tls<T>(io: T, host: &str, http: Http, roots: &Arc<RootCertStore>) -> TlsStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let protocol: &[u8] = if http == Http::V2 { b"h2" } else { b"http/1.1" };
    let stream = handshake(io, host, protocol, roots).await;
    let stream = stream.unwrap_or_else(|error| panic!("TLS with {host}: {error}"));
    assert_eq!(
        stream.get_ref().1.alpn_protocol(),
        Some(protocol),
        "the protocol asked for is agreed on"
    );
    stream
}

async fn handshake<T>(
    io: T,
    host: &str,
    protocol: &[u8],
    roots: &Arc<RootCertStore>,
) -> io::Result<TlsStream<T>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(host.to_owned()).unwrap();
    within(
        "a TLS handshake",
        TlsConnector::from(Arc::new(config)).connect(name, io),
    )
    .await
}

/// A request to send.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    authority: Option<String>,
    body: Bytes,
}

impl Ask {
    /// A `POST` of JSON.
    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let ask = Self {
            method: "POST",
            body: body.into(),
            ..Self::get(path)
        };
        ask.header("content-type", "application/json")
    }

    /// A `GET`.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            headers: Vec::new(),
            authority: None,
            body: Bytes::new(),
        }
    }

    /// A `DELETE`.
    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self {
            method: "DELETE",
            ..Self::get(path)
        }
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// To another path.
    pub(crate) fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// With a `Host` or `:authority` other than the session's.
    pub(crate) fn authority(mut self, authority: &str) -> Self {
        self.authority = Some(authority.to_owned());
        self
    }
}

/// An HTTP connection.
pub(crate) struct Session {
    sender: Sender,
    scheme: &'static str,
    authority: String,
}

enum Sender {
    V1(http1::SendRequest<Full<Bytes>>),
    V2(http2::SendRequest<Full<Bytes>>),
}

impl Session {
    async fn over<T>(io: T, http: Http, scheme: &'static str, authority: &str) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(io);
        let sender = match http {
            Http::V1 => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                Sender::V1(sender)
            }
            Http::V2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                Sender::V2(sender)
            }
        };
        Self {
            sender,
            scheme,
            authority: authority.to_owned(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(&mut self, ask: Ask) -> Answer {
        let what = format!("the answer to {} {}", ask.method, ask.path);
        match within(&what, self.try_send(ask)).await {
            Ok(response) => Answer::new(response),
            Err(error) => panic!("{what}: {error:?}"),
        }
    }

    async fn try_send(&mut self, ask: Ask) -> hyper::Result<Response<Incoming>> {
        let authority = ask.authority.as_deref().unwrap_or(&self.authority);
        let mut request = Request::builder().method(ask.method);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        match &mut self.sender {
            Sender::V1(sender) => {
                let request = request.uri(&ask.path).header(header::HOST, authority);
                sender.ready().await?;
                sender
                    .send_request(request.body(Full::new(ask.body)).unwrap())
                    .await
            }
            Sender::V2(sender) => {
                let uri: Uri = format!("{}://{authority}{}", self.scheme, ask.path)
                    .parse()
                    .unwrap();
                sender.ready().await?;
                sender
                    .send_request(request.uri(uri).body(Full::new(ask.body)).unwrap())
                    .await
            }
        }
    }
}

/// An answer whose body is still to come.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    /// What of the body has been read.
    read: BytesMut,
}

impl Answer {
    fn new(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            status: head.status.as_u16(),
            version: head.version,
            headers: head.headers,
            body,
            read: BytesMut::new(),
        }
    }

    /// A header as text, empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The gateway's id of the request.
    pub(crate) fn request_id(&self) -> String {
        let id = self.header("x-causeway-request-id");
        assert!(
            !id.is_empty(),
            "an answer of the gateway names its request: {:?}",
            self.headers
        );
        id.to_owned()
    }

    /// Reads on until at least `length` bytes of the body are here, and gives all that is here.
    pub(crate) async fn read_to(&mut self, length: usize) -> &[u8] {
        while self.read.len() < length {
            let frame = within("more of the body", self.body.frame()).await;
            let frame = frame.unwrap_or_else(|| panic!("the body ended after {} bytes", self.read.len()));
            if let Ok(data) = frame.unwrap().into_data() {
                self.read.extend_from_slice(&data);
            }
        }
        &self.read
    }

    /// Reads the rest of the body, and gives all of it.
    pub(crate) async fn bytes(mut self) -> Bytes {
        let rest = within("the end of the body", self.body.collect())
            .await
            .unwrap()
            .to_bytes();
        self.read.extend_from_slice(&rest);
        self.read.freeze()
    }

    /// The whole body as JSON.
    pub(crate) async fn json(self) -> Value {
        let bytes = self.bytes().await;
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&bytes)))
    }
}
