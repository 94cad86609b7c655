//! TLS with clients of every age and kind: version 1.2 works, so do hellos of several packets; tickets resume, and
//! never carry one host's identity to another; the CONNECT alone says whose certificate it is; a handshake that
//! fails is counted by its reason.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cases::{self, Case};
use crate::client::{Head, within};
use crate::clients::run;
use crate::fake::{FakeProvider, Offers};
use crate::harness::{Gateway, Settings, eventually};

const CASE: Case = cases::CHAT;
const OTHER: &str = "api.anthropic.com";

async fn started() -> (FakeProvider, Gateway) {
    let fake = FakeProvider::answering(Offers::Both, &[CASE]).await;
    let gateway = Gateway::start(Settings::in_front_of(&fake)).await;
    (fake, gateway)
}

/// A client that keeps its tickets and speaks one version.
fn client(gateway: &Gateway, version: &'static SupportedProtocolVersion) -> TlsConnector {
    TlsConnector::from(Arc::new(config(&[version], &gateway.ca_file(), |_| {})))
}

/// A client's settings, less common than those of other tests.
fn config(
    versions: &[&'static SupportedProtocolVersion],
    ca_file: &Path,
    change: impl FnOnce(&mut CryptoProvider),
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca_file).unwrap())
        .unwrap();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    change(&mut provider);
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
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
async fn answers<T: AsyncRead + AsyncWrite + Unpin>(io: &mut TlsStream<T>, host: &str) -> u16 {
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
    for version in [&TLS12, &TLS13] {
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
    for version in [&TLS12, &TLS13] {
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

/// Sends what is written in packets of 500 bytes, with a pause after each.
fn in_packets(tcp: TcpStream) -> DuplexStream {
    tcp.set_nodelay(true).unwrap();
    let (near, far) = duplex(64 << 10);
    let ((mut from_far, mut to_far), (mut from_tcp, mut to_tcp)) = (tokio::io::split(far), tcp.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_tcp, &mut to_far).await });
    tokio::spawn(async move {
        let mut packet = [0; 500];
        while let Ok(size @ 1..) = from_far.read(&mut packet).await {
            to_tcp.write_all(&packet[..size]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    near
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_of_several_packets_is_read_whole() {
    let (_fake, gateway) = started().await;
    let hybrid = |provider: &mut CryptoProvider| provider.kx_groups = vec![X25519MLKEM768];
    let config = Arc::new(config(&[&TLS13], &gateway.ca_file(), hybrid));
    let name = ServerName::try_from(CASE.host).unwrap();
    let mut hello = Vec::new();
    let mut unsent = ClientConnection::new(Arc::clone(&config), name.clone()).unwrap();
    unsent.write_tls(&mut hello).unwrap();
    assert!(hello.len() > 1_200, "{} bytes take three packets", hello.len());

    let (head, tcp) = gateway.client().connect(&format!("{}:443", CASE.host)).await;
    assert_eq!(head.status, 200);
    let opening = TlsConnector::from(config).connect(name, in_packets(tcp));
    let mut io = within("a handshake", opening).await.unwrap();
    let group = io.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_ne!(answers(&mut io, CASE.host).await, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_name_the_certificate_is_for_the_connect_host() {
    let (_fake, gateway) = started().await;
    for version in [&TLS12, &TLS13] {
        let mut config = config(&[version], &gateway.ca_file(), |_| {});
        config.enable_sni = false;
        let tls = TlsConnector::from(Arc::new(config));
        let mut io = open(&gateway, &tls, CASE.host, CASE.host).await.unwrap();
        assert_ne!(answers(&mut io, CASE.host).await, 421);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_name_that_is_an_address_changes_nothing() {
    let (_fake, gateway) = started().await;
    let mut command = Command::new("openssl");
    command.args(["s_client", "-servername", "192.0.2.1", "-verify_return_error"]);
    command.args([
        "-verify_hostname",
        CASE.host,
        "-connect",
        "api.openai.com:443",
        "-brief",
    ]);
    command.args(["-proxy", &gateway.proxy().to_string(), "-proxy_user", "x"]);
    command.args(["-proxy_pass", &format!("pass:{}", gateway.token())]);
    command
        .arg("-CAfile")
        .arg(gateway.ca_file())
        .stdin(std::process::Stdio::null());
    let Some(output) = run(command).await else { return };
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && text.contains("Verification: OK"),
        "{text}"
    );
}

/// A client's clock, years ahead: what it sees has expired.
#[derive(Debug)]
struct YearsAhead;

impl TimeProvider for YearsAhead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Some(UnixTime::since_unix_epoch(
            now + Duration::from_secs(2 * 365 * 86_400),
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_fails_is_counted_by_its_reason() {
    let (fake, gateway) = started().await;
    let (ours, versions) = (gateway.ca_file(), [&TLS12, &TLS13]);
    let mut late = config(&versions, &ours, |_| {});
    late.time_provider = Arc::new(YearsAhead);
    let mut stranger = config(&versions, &ours, |_| {});
    stranger.alpn_protocols = vec![b"gopher".to_vec()];
    for (result, config, name) in [
        ("unknown_ca", config(&versions, fake.ca_file(), |_| {}), CASE.host),
        ("bad_certificate", config(&versions, &ours, |_| {}), OTHER),
        ("certificate_expired", late, CASE.host),
        ("failed", stranger, CASE.host),
    ] {
        let tls = TlsConnector::from(Arc::new(config));
        let failed = open(&gateway, &tls, CASE.host, name).await;
        assert!(failed.is_err(), "{result}");
        drop(failed);
        is_counted(&gateway, result).await;
    }
    let (_, mut tcp) = gateway.client().connect(&format!("{}:443", CASE.host)).await;
    tcp.write_all(b"\x16\x03\x01").await.unwrap();
    drop(tcp);
    is_counted(&gateway, "client_left").await;
    assert_eq!(fake.connections(), 0);
}

async fn is_counted(gateway: &Gateway, result: &str) {
    let name = format!("causeway_tls_handshakes_total{{result=\"{result}\"}}");
    eventually(&name, async || (gateway.metric(&name).await == 1).then_some(())).await;
}
