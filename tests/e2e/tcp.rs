//! A plain TCP server that speaks first, then echoes, and says goodbye only after the client has finished:
//! what a tunnel must carry without waiting for the client and without losing a half-closed connection's last
//! bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What the server says before it has read anything.
pub(crate) const GREETING: &[u8] = b"220 hello, \x00\xff and good day\r\n";
/// What it says after the client has closed its half.
pub(crate) const GOODBYE: &[u8] = b"221 goodbye\r\n";

/// A running echo server; it stops when dropped.
pub(crate) struct Echo {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    acceptor: AbortHandle,
}

impl Echo {
    /// Starts one on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let acceptor = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(tcp));
            }
        });
        Self {
            address,
            connections,
            acceptor: acceptor.abort_handle(),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn serve(mut tcp: TcpStream) -> std::io::Result<()> {
    tcp.write_all(GREETING).await?;
    let mut buffer = [0; 16 * 1024];
    loop {
        match tcp.read(&mut buffer).await? {
            0 => break,
            size => tcp.write_all(&buffer[..size]).await?,
        }
    }
    tcp.write_all(GOODBYE).await?;
    tcp.shutdown().await
}
