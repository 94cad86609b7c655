//! A provider in this process: TLS with its own authority, HTTP/1.1 and HTTP/2, scripted replies, a record of
//! every request. A scripted stream can hold back each frame until the test has seen the one before at the
//! client, so that "not buffered" is proven without waiting any length of time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

mod reply;
mod socket;

use ::bytes::Bytes;
use certs::{Authority, CaProfile, LeafName};
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCertUsingSni;
use rustls::sign::CertifiedKey;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

pub(crate) use reply::{Gate, Reply};
pub(crate) use socket::{ProviderSocket, SocketProvider, completed};

/// The hosts that the fake has certificates for: those that the built-in providers
/// claim, some that clients use beside them, and its own name.
const HOSTS: [&str; 14] = [
    "localhost",
    "auth.openai.com",
    "api.github.com",
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

    /// The key that it carries.
    pub(crate) fn key(&self) -> &str {
        let bearer = self.header("authorization");
        bearer.strip_prefix("Bearer ").unwrap_or(self.header("x-api-key"))
    }

    /// The model that it asks for.
    pub(crate) fn model(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["model"].as_str().unwrap_or_default().to_owned()
    }

    fn asks_for_a_stream(&self) -> bool {
        serde_json::from_slice::<Value>(&self.body).is_ok_and(|body| body["stream"] == true)
    }
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
    /// To which of the requests on that path.
    fits: Box<dyn Fn(&Seen) -> bool + Send + Sync>,
    reply: Reply,
}

#[derive(Default)]
struct Shared {
    /// The newest that fits decides.
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

impl Shared {
    fn reply(&self, path: &str, seen: &Seen) -> Option<Reply> {
        let rules = self.rules.lock().unwrap();
        rules
            .iter()
            .rev()
            .find(|rule| rule.path == path && (rule.fits)(seen))
            .map(|rule| rule.reply.clone())
    }
}

impl FakeProvider {
    /// Starts a provider on a free port.
    pub(crate) async fn start(offers: Offers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("provider-ca.pem");
        let tls = TlsAcceptor::from(Arc::new(tls_config(offers, &ca_file)));
        Self::listening(dir, ca_file, Some(tls)).await
    }

    /// Starts a web server without TLS on a free port.
    pub(crate) async fn in_clear() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("none.pem");
        Self::listening(dir, ca_file, None).await
    }

    async fn listening(dir: TempDir, ca_file: PathBuf, tls: Option<TlsAcceptor>) -> Self {
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
            let stream = case.stream;
            fake.on_if(
                case.path,
                move |seen| seen.asks_for_a_stream() == stream,
                case.scripted(),
            );
        }
        fake
    }

    /// Answers `reply` on `path` from now on.
    pub(crate) fn on(&self, path: &str, reply: Reply) {
        self.on_if(path, |_| true, reply);
    }

    /// Answers `reply` on `path` from now on, to requests that fit.
    pub(crate) fn on_if(
        &self,
        path: &str,
        fits: impl Fn(&Seen) -> bool + Send + Sync + 'static,
        reply: Reply,
    ) {
        self.shared.rules.lock().unwrap().push(Rule {
            path: path.to_owned(),
            fits: Box::new(fits),
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

/// The provider's TLS; the authority that signs its certificates is written to `ca_file`.
pub(crate) fn tls_config(offers: Offers, ca_file: &Path) -> ServerConfig {
    let now = SystemTime::now();
    let made = Authority::generate(
        &CaProfile {
            common_name: "Provider CA of the tests",
            only: None,
        },
        now,
    )
    .unwrap();
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

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve(tcp, tls.clone(), Arc::clone(&shared)));
    }
}

async fn serve(tcp: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    tcp.set_nodelay(true).unwrap();
    match tls {
        None => speak(tcp, shared).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(tcp).await {
                speak(stream, shared).await;
            }
        }
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, shared: Arc<Shared>) {
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
    let reply = shared.reply(&path, &seen);
    shared.seen.lock().unwrap().push(seen);
    let reply = reply.unwrap_or_else(|| Reply::json(NOT_SCRIPTED).status(404));
    reply.wait_for_its_head().await;
    Ok(reply.response())
}

const NOT_SCRIPTED: &[u8] =
    br#"{"error":{"message":"not scripted","type":"invalid_request_error","param":null,"code":null}}"#;
