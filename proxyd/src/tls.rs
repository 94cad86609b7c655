//! The TLS port of the proxy: for clients on networks that should not see their tokens, and for HTTP/2 CONNECT.
//!
//! The certificate is the operator's, or one of our own CA for the names that clients know the port by.

use std::net::IpAddr;
use std::sync::Arc;

use bridged::serve::Protocol;
use certs::LeafName;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, ClientHello};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

use crate::config::{DoorCertificate, TlsConfig};
use crate::proxy::{Proxy, ProxyError};
use crate::troubles;

/// Which certificate the port shows.
#[derive(Debug)]
pub(crate) enum Certificate {
    /// The operator's.
    Given(Arc<ServerConfig>),
    /// One of our own CA: for the name that the client asks for if it is listed, else for the first.
    Own(Vec<LeafName>),
}

impl Certificate {
    pub(crate) fn load(
        config: &TlsConfig,
        make: impl FnOnce(
            Vec<CertificateDer<'static>>,
            PrivateKeyDer<'static>,
        ) -> Result<ServerConfig, ProxyError>,
    ) -> Result<Certificate, ProxyError> {
        let (cert, key) = match &config.certificate {
            DoorCertificate::Own(names) => return Ok(Certificate::Own(names.clone())),
            DoorCertificate::Files { cert, key } => (cert, key),
        };
        let unreadable = |path: &std::path::Path| {
            let path = path.to_owned();
            move |source| ProxyError::DoorFile { path, source }
        };
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect)
            .map_err(unreadable(cert))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
        Ok(Certificate::Given(Arc::new(make(chain, key)?)))
    }

    fn config(&self, proxy: &Proxy, hello: &ClientHello<'_>, local: IpAddr) -> Option<Arc<ServerConfig>> {
        let names = match self {
            Certificate::Given(config) => return Some(config.clone()),
            Certificate::Own(names) => names,
        };
        let asked = match hello.server_name() {
            Some(name) => LeafName::parse(name).ok(),
            // Clients do not name a port that they know by its address.
            None => Some(LeafName::Ip(local)),
        };
        let name = asked.filter(|name| names.contains(name));
        let made = proxy.tls_for(name.as_ref().or(names.first())?);
        if let Err(error) = &made {
            let error = error as &dyn std::error::Error;
            tracing::error!(error, "the TLS port has no certificate");
        }
        made.ok()
    }
}

/// Performs the handshake within `head-timeout`.
pub(crate) async fn accept(proxy: &Proxy, tcp: TcpStream) -> Option<(TlsStream<TcpStream>, Protocol)> {
    let limit = proxy.rules().config.head_timeout;
    let accepted = tokio::time::timeout(limit, handshake(proxy, tcp)).await;
    let metrics = &proxy.metrics;
    let Ok(accepted) = accepted else {
        metrics.handshakes_slow.increment(1);
        return None;
    };
    let Some(stream) = accepted else {
        metrics.handshake_impossible();
        return None;
    };
    metrics.handshakes_done.increment(1);
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Some((stream, protocol))
}

async fn handshake(proxy: &Proxy, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
    let (local, peer) = (
        tcp.local_addr().ok()?.ip().to_canonical(),
        tcp.peer_addr().ok()?.ip(),
    );
    let noted = |error| proxy.trouble(peer, "", troubles::of_handshake(&error));
    let start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await;
    let start = start.map_err(noted).ok()?;
    let certificate = proxy.rules().door_certificate.clone()?;
    let config = certificate.config(proxy, &start.client_hello(), local)?;
    let stream = start.into_stream(config).await;
    stream.map_err(noted).ok().map(TlsStream::from)
}
