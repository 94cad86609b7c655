//! A provider that speaks HTTP/1.1 by hand: it answers each request with the next of its replies, byte for byte,
//! and keeps what it has read. For replies that a server library would not let a test write.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::fake::{Offers, tls_config};

/// A running provider; it stops when dropped.
pub(crate) struct RawProvider {
    address: SocketAddr,
    ca_file: PathBuf,
    shared: Arc<Shared>,
    acceptor: AbortHandle,
    _dir: TempDir,
}

#[derive(Default)]
struct Shared {
    replies: Mutex<VecDeque<String>>,
    seen: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

impl RawProvider {
    /// Starts one on a free port.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("provider-ca.pem");
        let tls = TlsAcceptor::from(Arc::new(tls_config(Offers::Http1, &ca_file)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let counted = Arc::clone(&shared);
        let acceptor = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(tcp, tls.clone(), Arc::clone(&counted)));
            }
        });
        Self {
            address,
            ca_file,
            shared,
            acceptor: acceptor.abort_handle(),
            _dir: dir,
        }
    }

    /// Adds a reply to those that are given in turn.
    pub(crate) fn then(&self, reply: impl Into<String>) {
        self.shared.replies.lock().unwrap().push_back(reply.into());
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority to trust.
    pub(crate) fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The newest request, as it was on the wire.
    pub(crate) fn last_request(&self) -> String {
        let seen = self.shared.seen.lock().unwrap();
        seen.last().expect("no request reached the provider").clone()
    }

    /// How many TCP connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawProvider {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn serve(tcp: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    tcp.set_nodelay(true).unwrap();
    let Ok(mut io) = tls.accept(tcp).await else { return };
    while let Some(request) = read_request(&mut io).await {
        shared.seen.lock().unwrap().push(request);
        let reply = shared.replies.lock().unwrap().pop_front();
        let Some(reply) = reply else { return };
        let closes = reply.contains("Connection: close\r\n");
        if io.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
        let _ = io.flush().await;
        if closes {
            let _ = io.shutdown().await;
            return;
        }
    }
}

/// Reads a request up to the end of its body.
async fn read_request(io: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = read_to(io, "\r\n\r\n").await?;
    let head = text.to_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        loop {
            let line = read_to(io, "\r\n").await?;
            text += &line;
            if line == "0\r\n" {
                break;
            }
        }
        loop {
            let line = read_to(io, "\r\n").await?;
            text += &line;
            if line == "\r\n" {
                return Some(text);
            }
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    io.read_exact(&mut body).await.ok()?;
    Some(text + std::str::from_utf8(&body).unwrap())
}

/// Reads byte by byte up to and with `end`.
pub(crate) async fn read_to(io: &mut (impl AsyncRead + Unpin), end: &str) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        bytes.push(io.read_u8().await.ok()?);
    }
    Some(String::from_utf8(bytes).unwrap())
}
