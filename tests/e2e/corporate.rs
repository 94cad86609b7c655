//! An organisation's own proxy, over TCP or TLS: opens tunnels to one place whatever is asked for, or answers
//! what the test says; keeps the heads of all requests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use certs::{Authority, LeafName};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// What it does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// Connects to this address. The first bytes from there are sent in one piece with the head.
    Tunnel(SocketAddr),
    /// Connects to this address, where the client speaks first.
    Carry(SocketAddr),
    /// Says this, then closes.
    Say(&'static str),
    /// Says nothing.
    Silence,
}

/// A running proxy; it stops when dropped.
pub(crate) struct Corporate {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    acceptor: AbortHandle,
    ca_file: PathBuf,
    _dir: TempDir,
}

impl Corporate {
    /// Starts one without TLS.
    pub(crate) async fn start(answer: Answer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::listening(dir, None, answer).await
    }

    /// Starts one with TLS, as `localhost`.
    pub(crate) async fn start_tls(answer: Answer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tls = tls_config(&dir.path().join("corporate-ca.pem"));
        Self::listening(dir, Some(TlsAcceptor::from(Arc::new(tls))), answer).await
    }

    async fn listening(dir: TempDir, tls: Option<TlsAcceptor>, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&heads);
        let acceptor = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (heads, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, &heads, answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, &heads, answer).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            heads,
            acceptor: acceptor.abort_handle(),
            ca_file: dir.path().join("corporate-ca.pem"),
            _dir: dir,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority of its certificate.
    pub(crate) fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Corporate {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn serve<T>(mut io: T, heads: &Mutex<Vec<String>>, answer: Answer)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = io.read_u8().await else { return };
        head.push(byte);
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    match answer {
        Answer::Tunnel(address) => {
            let mut far = TcpStream::connect(address).await.unwrap();
            let mut first = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 corporate\r\n\r\n".to_vec();
            far.read_buf(&mut first).await.unwrap();
            io.write_all(&first).await.unwrap();
            io.flush().await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut io, &mut far).await;
        }
        Answer::Carry(address) => {
            let mut far = TcpStream::connect(address).await.unwrap();
            io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            io.flush().await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut io, &mut far).await;
        }
        Answer::Say(text) => {
            // The gateway may have heard enough.
            let _ = io.write_all(text.as_bytes()).await;
            let _ = io.shutdown().await;
        }
        Answer::Silence => std::future::pending().await,
    }
}

fn tls_config(ca_file: &Path) -> ServerConfig {
    let now = SystemTime::now();
    let made = Authority::generate(
        &certs::CaProfile {
            common_name: "Corporate CA of the tests",
            only: None,
        },
        now,
    )
    .unwrap();
    std::fs::write(ca_file, &made.cert_pem).unwrap();
    let authority = Authority::from_pem(&made.cert_pem, &made.key_pem, now).unwrap();
    let leaf = authority
        .issue(&LeafName::parse("localhost").unwrap(), now)
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain, leaf.key)
        .unwrap()
}
