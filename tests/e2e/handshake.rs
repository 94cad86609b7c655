//! TLS with clients of every age: version 1.2 works, tickets resume, and a ticket never carries one host's identity
//! to another.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cases::{self, Case};
use crate::client::{Head, within};
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings};

const CASE: Case = cases::CHAT;
const OTHER: &str = "api.anthropic.com";

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

/// A client that keeps its tickets and speaks one version.
fn client(gateway: &Gateway, version: &'static SupportedProtocolVersion) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(gateway.ca_file()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// CONNECT to `host`, then TLS in which the client asks for `name`.
async fn open(
    gateway: &Gateway,
    tls: &TlsConnector,
    host: &str,
    name: &'static str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let (head, tcp) = gateway.client().connect(&format!("{host}:443")).await;
    assert_eq!(head.status, 200);
    let name = ServerName::try_from(name).unwrap();
    within("a handshake", tls.connect(name, tcp)).await
}

/// A refusal for another host's name, or any answer at all: it also brings the tickets.
async fn answers(io: &mut TlsStream<TcpStream>, host: &str) -> u16 {
    let request = format!("GET /v1/nothing HTTP/1.1\r\nHost: {host}\r\n\r\n");
    io.write_all(request.as_bytes()).await.unwrap();
    let head = Head::read(io).await;
    let mut body = vec![
        0;
        head.header("content-length")
            .map_or(0, |text| text.parse().unwrap())
    ];
    io.read_exact(&mut body).await.unwrap();
    head.status
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_tls_work_and_resume() {
    let (_fake, gateway) = started().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = client(&gateway, version);
        for want in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut io = open(&gateway, &tls, CASE.host, CASE.host).await.unwrap();
            assert_ne!(answers(&mut io, CASE.host).await, 421);
            let session = io.get_ref().1;
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.handshake_kind(), Some(want), "{:?}", version.version);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_one_host_is_none_of_another() {
    let (fake, gateway) = started().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = client(&gateway, version);
        let mut io = open(&gateway, &tls, CASE.host, CASE.host).await.unwrap();
        assert_ne!(answers(&mut io, CASE.host).await, 421);
        let before = fake.requests().len();
        // Behind a CONNECT to another host, the client shows the ticket that it has for the first: were it taken,
        // the client would not see whose certificate that is.
        let refused = open(&gateway, &tls, OTHER, CASE.host).await;
        let error = refused.map(drop).unwrap_err().to_string();
        assert!(error.contains("certificate not valid for name"), "{error}");
        assert_eq!(fake.requests().len(), before);
    }
}
