//! The load: a number of keep-alive connections that send one request after the other for a while.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::upstream::{Shape, Upstream};

const HOST: &str = "api.openai.com";

/// How requests reach the upstream.
#[derive(Clone)]
pub(crate) struct Route {
    address: SocketAddr,
    credentials: Option<String>,
    tls: TlsConnector,
    tunnelled: SocketAddr,
}

impl Route {
    pub(crate) fn direct(upstream: &Upstream) -> Route {
        Route {
            address: upstream.address,
            credentials: None,
            tls: trusting(&upstream.ca_pem),
            tunnelled: upstream.address,
        }
    }

    pub(crate) fn through(
        proxy: SocketAddr,
        credentials: String,
        ca_pem: &str,
        tunnelled: SocketAddr,
    ) -> Route {
        Route {
            address: proxy,
            credentials: Some(credentials),
            tls: trusting(ca_pem),
            tunnelled,
        }
    }

    /// A connection that the gateway holds: an intercepted one after one request, or a tunnel.
    pub(crate) async fn hold(&self, kind: Kind) -> Held {
        match kind {
            Kind::Tunnel => Held::Tunnel(self.connect(&self.tunnelled.to_string()).await),
            Kind::Http1 => {
                let mut sender = self.open().await;
                ask(&mut sender, &Shape::Blocking.request()).await;
                Held::Http1(sender)
            }
            Kind::Http2 => {
                let mut config = (**self.tls.config()).clone();
                config.alpn_protocols = vec![b"h2".to_vec()];
                let stream = TokioIo::new(self.open_tls(&Arc::new(config).into()).await);
                let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                tokio::spawn(connection);
                let uri = format!("https://{HOST}/v1/chat/completions");
                let request = post(&uri).body(Full::new(Shape::Blocking.request())).unwrap();
                finished(sender.send_request(request).await.unwrap()).await;
                Held::Http2(sender)
            }
        }
    }

    async fn open(&self) -> SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.open_tls(&self.tls).await);
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn open_tls(&self, tls: &TlsConnector) -> TlsStream<TcpStream> {
        let tcp = self.connect(&format!("{HOST}:443")).await;
        let name = ServerName::try_from(HOST).unwrap();
        tls.connect(name, tcp).await.unwrap()
    }

    async fn connect(&self, target: &str) -> TcpStream {
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let Some(credentials) = &self.credentials else {
            return tcp;
        };
        let connect = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n"
        );
        tcp.write_all(connect.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        assert!(
            head.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        tcp
    }
}

/// What is kept open.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Http1,
    Http2,
    Tunnel,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Http1 => "intercepted, HTTP/1.1",
            Kind::Http2 => "intercepted, HTTP/2",
            Kind::Tunnel => "tunnel",
        }
    }
}

/// A connection that is kept open.
#[expect(dead_code, reason = "held, not used")]
pub(crate) enum Held {
    Http1(SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
    Tunnel(TcpStream),
}

fn trusting(pem: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Each connection is a client of its own.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

pub(crate) struct Load {
    pub(crate) shape: Shape,
    pub(crate) connections: usize,
    pub(crate) span: Duration,
}

pub(crate) struct Outcome {
    pub(crate) requests: usize,
    latencies: Vec<Duration>,
    took: Duration,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn median_ms(&self) -> f64 {
        self.latencies[self.latencies.len() / 2].as_secs_f64() * 1e3
    }
}

impl Load {
    /// As `run`, with a new connection for each request.
    pub(crate) async fn run_fresh(&self, route: &Route) -> Outcome {
        let began = Instant::now();
        let end = began + self.span;
        let worker = |_| tokio::spawn(work_fresh(route.clone(), self.shape.request(), end));
        let workers: Vec<_> = (0..self.connections).map(worker).collect();
        let mut latencies = Vec::new();
        for worker in workers {
            latencies.extend(worker.await.unwrap());
        }
        let took = began.elapsed();
        latencies.sort_unstable();
        Outcome {
            requests: latencies.len(),
            latencies,
            took,
        }
    }

    pub(crate) async fn run(&self, route: &Route) -> Outcome {
        let mut senders = Vec::new();
        for _ in 0..self.connections {
            senders.push(route.open().await);
        }
        let began = Instant::now();
        let end = began + self.span;
        let workers: Vec<_> = senders
            .into_iter()
            .map(|sender| tokio::spawn(work(sender, self.shape, end)))
            .collect();
        let mut latencies = Vec::new();
        for worker in workers {
            latencies.extend(worker.await.unwrap());
        }
        let took = began.elapsed();
        latencies.sort_unstable();
        Outcome {
            requests: latencies.len(),
            latencies,
            took,
        }
    }
}

async fn work(mut sender: SendRequest<Full<Bytes>>, shape: Shape, end: Instant) -> Vec<Duration> {
    let body = shape.request();
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        ask(&mut sender, &body).await;
        latencies.push(began.elapsed());
        sender.ready().await.unwrap();
    }
    latencies
}

async fn work_fresh(route: Route, body: Bytes, end: Instant) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        ask(&mut route.open().await, &body).await;
        latencies.push(began.elapsed());
    }
    latencies
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, body: &Bytes) {
    let request = post("/v1/chat/completions")
        .header("host", HOST)
        .body(Full::new(body.clone()))
        .unwrap();
    finished(sender.send_request(request).await.unwrap()).await;
}

fn post(uri: &str) -> http::request::Builder {
    Request::post(uri)
        .header("content-type", "application/json")
        .header("authorization", "Bearer sk-bench-0123456789")
        .header("user-agent", "OpenAI/Python 3.54.0")
}

async fn finished(response: Response<Incoming>) {
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
}

/// A plain GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    text
}
