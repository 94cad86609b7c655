//! Making one connection to an upstream: look-up, TCP, TLS, HTTP handshake, all within one deadline.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use providers::{Scheme, Target};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::TaskTracker;

use super::pool::Sender;
use super::trust::Trust;
use crate::body::RequestBody;

/// Why a connection could not be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address.
    #[error("the host name cannot be resolved")]
    Resolve(#[source] Arc<io::Error>),
    /// No address takes a connection.
    #[error("the host cannot be connected to")]
    Connect(#[source] Arc<io::Error>),
    /// TLS failed: most often an unknown root (see `upstream.extra-ca`).
    #[error("the TLS handshake failed")]
    Tls(#[source] Arc<io::Error>),
    /// The host is no name that a certificate could have.
    #[error("the host is not a valid server name")]
    Name,
    /// The HTTP handshake failed.
    #[error("the HTTP handshake failed")]
    Http(#[source] Arc<hyper::Error>),
    /// It all took too long.
    #[error("no connection within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl DialError {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            DialError::Resolve(_) => "resolve",
            DialError::Connect(_) => "connect",
            DialError::Tls(_) | DialError::Name => "tls",
            DialError::Http(_) => "http",
            DialError::Timeout(_) => "connect_timeout",
        }
    }
}

/// The sending half of an HTTP/1.1 connection.
pub(crate) type Http1Sender = http1::SendRequest<RequestBody>;

/// Knows how to reach one host.
#[derive(Debug)]
pub(super) struct Dialler {
    host: String,
    port: u16,
    connect_to: Option<SocketAddr>,
    tls: Option<TlsSetup>,
    timeout: Duration,
}

struct TlsSetup {
    connector: TlsConnector,
    /// For connections that are to speak HTTP/1.1.
    http1: TlsConnector,
    name: Result<ServerName<'static>, DialError>,
}

impl std::fmt::Debug for TlsSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSetup")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Dialler {
    pub(super) fn new(
        target: &Target,
        connect_to: Option<SocketAddr>,
        timeout: Duration,
        trust: &Trust,
    ) -> Dialler {
        let tls = (target.scheme == Scheme::Https).then(|| TlsSetup {
            connector: TlsConnector::from(trust.tls.clone()),
            http1: TlsConnector::from(trust.tls_http1.clone()),
            name: ServerName::try_from(target.host.clone()).map_err(|_| DialError::Name),
        });
        Dialler {
            host: target.host.clone(),
            port: target.port,
            connect_to,
            tls,
            timeout,
        }
    }

    /// Makes a connection; its driver runs on `tracker`.
    pub(super) async fn dial(&self, tracker: &TaskTracker) -> Result<Sender, DialError> {
        tokio::time::timeout(self.timeout, self.connect(tracker))
            .await
            .unwrap_or(Err(DialError::Timeout(self.timeout)))
    }

    async fn connect(&self, tracker: &TaskTracker) -> Result<Sender, DialError> {
        let tcp = self.tcp().await?;
        let Some(tls) = &self.tls else {
            return h1(TokioIo::new(tcp), tracker).await;
        };
        let stream = tls.shake_hands(&tls.connector, tcp).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            h2(TokioIo::new(stream), tracker).await
        } else {
            h1(TokioIo::new(stream), tracker).await
        }
    }

    /// Makes an HTTP/1.1 connection of its own for one request, which may be upgraded.
    pub(super) async fn dial_http1(&self, tracker: &TaskTracker) -> Result<Http1Sender, DialError> {
        let connect = async {
            let tcp = self.tcp().await?;
            match &self.tls {
                None => upgradeable(tcp, tracker).await,
                Some(tls) => upgradeable(tls.shake_hands(&tls.http1, tcp).await?, tracker).await,
            }
        };
        tokio::time::timeout(self.timeout, connect)
            .await
            .unwrap_or(Err(DialError::Timeout(self.timeout)))
    }

    async fn tcp(&self) -> Result<TcpStream, DialError> {
        let addresses: Vec<SocketAddr> = match self.connect_to {
            Some(address) => vec![address],
            None => {
                let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
                found
                    .map_err(|error| DialError::Resolve(Arc::new(error)))?
                    .collect()
            }
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address)
                .await
                .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = error,
            }
        }
        Err(DialError::Connect(Arc::new(last)))
    }
}

impl TlsSetup {
    async fn shake_hands(
        &self,
        connector: &TlsConnector,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let name = self.name.clone()?;
        let connected = connector.connect(name, tcp).await;
        connected.map_err(|error| DialError::Tls(Arc::new(error)))
    }
}

async fn upgradeable<IO>(io: IO, tracker: &TaskTracker) -> Result<Http1Sender, DialError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new()
        .preserve_header_case(true)
        .handshake::<_, RequestBody>(TokioIo::new(io));
    let (sender, connection) = handshake
        .await
        .map_err(|error| DialError::Http(Arc::new(error)))?;
    tracker.spawn(drive(connection.with_upgrades()));
    Ok(sender)
}

/// Keeps a connection going until it ends.
async fn drive(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "an upstream connection ended"
        );
    }
}

async fn h1<IO>(io: TokioIo<IO>, tracker: &TaskTracker) -> Result<Sender, DialError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::Builder::new()
        .preserve_header_case(true)
        .handshake::<_, RequestBody>(io);
    let (sender, connection) = handshake
        .await
        .map_err(|error| DialError::Http(Arc::new(error)))?;
    tracker.spawn(drive(connection));
    Ok(Sender::H1(sender))
}

async fn h2<IO>(io: TokioIo<IO>, tracker: &TaskTracker) -> Result<Sender, DialError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Small windows throttle long replies: the defaults are 64 KiB.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .max_header_list_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .handshake::<_, RequestBody>(io);
    let (sender, connection) = handshake
        .await
        .map_err(|error| DialError::Http(Arc::new(error)))?;
    tracker.spawn(drive(connection));
    Ok(Sender::H2(sender))
}
