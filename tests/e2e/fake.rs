//! A provider in this process: TLS with its own authority, HTTP/1.1 and HTTP/2, scripted replies, a record of
//! every request. A scripted stream can hold back each frame until the test has seen the one before at the
//! client, so that "not buffered" is proven without waiting any length of time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::SystemTime;

use ::bytes::Bytes;
use certs::{Authority, LeafName};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// The hosts that the fake has certificates for: those that the built-in providers claim.
const HOSTS: [&str; 11] = [
    "api.openai.com",
    "api.anthropic.com",
    "chatgpt.com",
    "api.githubcopilot.com",
    "copilot-proxy.githubusercontent.com",
    "api.individual.githubcopilot.com",
    "proxy.individual.githubcopilot.com",
    "api.business.githubcopilot.com",
    "proxy.business.githubcopilot.com",
    "api.enterprise.githubcopilot.com",
    "proxy.enterprise.githubcopilot.com",
];

/// The protocols that the fake offers in its TLS handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offers {
    Both,
    Http1,
    Http2,
}

impl Offers {
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Both => &[b"h2", b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[b"h2"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) version: Version,
    /// From `Host`, or the `:authority` of HTTP/2.
    pub(crate) authority: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// A header as text, empty if it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What the fake answers on a path.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    frames: Vec<Bytes>,
    gate: Option<Gate>,
}

impl Reply {
    /// A JSON body with its length.
    pub(crate) fn json(body: &'static [u8]) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/json")],
            frames: vec![Bytes::from_static(body)],
            gate: None,
        }
    }

    /// A stream of events, one frame for each.
    pub(crate) fn sse(body: &'static [u8]) -> Self {
        let headers = vec![
            ("content-type", "text/event-stream; charset=utf-8"),
            ("cache-control", "no-cache"),
        ];
        Self {
            status: 200,
            headers,
            frames: events(body),
            gate: None,
        }
    }

    /// With another status.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Held back: after the first frame, each waits for the gate.
    pub(crate) fn gated(mut self) -> (Self, Gate) {
        let gate = Gate {
            permits: Arc::new(Semaphore::new(0)),
            sent: Arc::default(),
        };
        self.gate = Some(gate.clone());
        (self, gate)
    }

    /// The body's frames.
    pub(crate) fn frames(&self) -> &[Bytes] {
        &self.frames
    }

    fn response(self) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(*name, *value);
        }
        let body = match (self.gate, <[Bytes; 1]>::try_from(self.frames)) {
            (None, Ok([whole])) => Full::new(whole).boxed_unsync(),
            (gate, Ok(frame)) => paced(frame.into(), gate),
            (gate, Err(frames)) => paced(frames, gate),
        };
        response.body(body).unwrap()
    }
}

/// Lets the frames of a reply out one by one.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    sent: Arc<AtomicUsize>,
}

impl Gate {
    /// Lets one more frame out.
    pub(crate) fn let_one_out(&self) {
        self.permits.add_permits(1);
    }

    /// Waits for its turn, unless it is the first.
    async fn pass(&self, index: usize) {
        if index > 0 {
            self.permits.acquire().await.unwrap().forget();
        }
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    /// How many frames have been let out so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

/// A body whose frames are sent by a task of their own.
struct Paced(mpsc::Receiver<Bytes>);

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|frame| frame.map(|data| Ok(Frame::data(data))))
    }
}

fn paced(frames: Vec<Bytes>, gate: Option<Gate>) -> UnsyncBoxBody<Bytes, Infallible> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for (index, frame) in frames.into_iter().enumerate() {
            if let Some(gate) = &gate {
                gate.pass(index).await;
            }
            if sender.send(frame).await.is_err() {
                // The client has left.
                return;
            }
        }
    });
    Paced(receiver).boxed_unsync()
}

/// Cuts a stream's text after each blank line.
fn events(body: &'static [u8]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = body;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\n\n") {
        let (event, after) = rest.split_at(at + 2);
        frames.push(Bytes::from_static(event));
        rest = after;
    }
    assert!(rest.is_empty(), "the fixture ends with a whole event");
    frames
}

/// A running provider; it stops when dropped.
pub(crate) struct FakeProvider {
    address: SocketAddr,
    ca_file: PathBuf,
    shared: Arc<Shared>,
    acceptor: AbortHandle,
    _dir: TempDir,
}

/// When to give a reply.
struct Rule {
    path: String,
    /// Only to requests that ask for a stream, or only to those that do not.
    stream: Option<bool>,
    reply: Reply,
}

impl Rule {
    fn fits(&self, path: &str, body: &[u8]) -> bool {
        let asks = || serde_json::from_slice::<Value>(body).is_ok_and(|body| body["stream"] == true);
        self.path == path && self.stream.is_none_or(|stream| stream == asks())
    }
}

#[derive(Default)]
struct Shared {
    /// The newest that fits decides.
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

impl Shared {
    fn reply(&self, path: &str, body: &[u8]) -> Option<Reply> {
        let rules = self.rules.lock().unwrap();
        rules
            .iter()
            .rev()
            .find(|rule| rule.fits(path, body))
            .map(|rule| rule.reply.clone())
    }
}

impl FakeProvider {
    /// Starts a provider on a free port.
    pub(crate) async fn start(offers: Offers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("provider-ca.pem");
        let tls = TlsAcceptor::from(Arc::new(tls_config(offers, &ca_file)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let acceptor = tokio::spawn(accept(listener, tls, Arc::clone(&shared))).abort_handle();
        Self {
            address,
            ca_file,
            shared,
            acceptor,
            _dir: dir,
        }
    }

    /// A provider that answers every case of [`crate::cases`].
    pub(crate) async fn answering(offers: Offers, cases: &[crate::cases::Case]) -> Self {
        let fake = Self::start(offers).await;
        for case in cases {
            fake.add_rule(case.path, Some(case.stream), case.scripted());
        }
        fake
    }

    /// Answers `reply` on `path` from now on.
    pub(crate) fn on(&self, path: &str, reply: Reply) {
        self.add_rule(path, None, reply);
    }

    fn add_rule(&self, path: &str, stream: Option<bool>, reply: Reply) {
        self.shared.rules.lock().unwrap().push(Rule {
            path: path.to_owned(),
            stream,
            reply,
        });
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority to trust.
    pub(crate) fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The newest request.
    pub(crate) fn last_request(&self) -> Seen {
        self.requests().pop().expect("no request reached the provider")
    }

    /// How many TCP connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

fn tls_config(offers: Offers, ca_file: &Path) -> ServerConfig {
    let now = SystemTime::now();
    let made = Authority::generate("Provider CA of the tests", now).unwrap();
    std::fs::write(ca_file, &made.cert_pem).unwrap();
    let authority = Authority::from_pem(&made.cert_pem, &made.key_pem, now).unwrap();

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut resolver = ResolvesServerCertUsingSni::new();
    for host in HOSTS {
        let leaf = authority.issue(&LeafName::parse(host).unwrap(), now).unwrap();
        let key = CertifiedKey::from_der(leaf.chain, leaf.key, &provider).unwrap();
        resolver.add(host, key).unwrap();
    }
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = offers.protocols();
    config
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(tcp, tls.clone(), Arc::clone(&shared)));
    }
}

async fn serve(tcp: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    tcp.set_nodelay(true).unwrap();
    let Ok(stream) = tls.accept(tcp).await else { return };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { answer(&shared, request).await }
    });
    // A client may leave when it likes.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let host = head
        .headers
        .get(http::header::HOST)
        .map(|host| host.to_str().unwrap().to_owned());
    let authority = head.uri.authority().map(ToString::to_string);
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path_and_query().unwrap().to_string(),
        version: head.version,
        authority: authority.or(host).unwrap_or_default(),
        headers: head.headers,
        body: body.collect().await?.to_bytes(),
    };
    let reply = shared.reply(&path, &seen.body);
    shared.seen.lock().unwrap().push(seen);
    Ok(reply
        .unwrap_or_else(|| Reply::json(NOT_SCRIPTED).status(404))
        .response())
}

const NOT_SCRIPTED: &[u8] =
    br#"{"error":{"message":"not scripted","type":"invalid_request_error","param":null,"code":null}}"#;
