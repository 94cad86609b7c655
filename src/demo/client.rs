//! A small AI client: CONNECT with proxy credentials, TLS that trusts the demo's CA only, then one request.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use uuid::Uuid;

use super::samples::Sample;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::probe;

/// A client of the demo's gateway.
pub(super) struct Client {
    proxy: SocketAddr,
    token: String,
    tls: TlsConnector,
    issuer: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) request_id: Uuid,
    pub(super) frames: usize,
    pub(super) protocol: &'static str,
    pub(super) issuer: String,
}

impl Client {
    pub(super) fn new(gateway: &Gateway) -> Result<Client, Failure> {
        let token = std::fs::read_to_string(&gateway.token_file);
        let token = token.map_err(|error| Failure::because("the demo's token cannot be read", error))?;
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(&gateway.ca.certificate);
        let certificate =
            certificate.map_err(|error| Failure::because("the demo's CA cannot be read", error))?;
        roots
            .add(certificate)
            .map_err(|error| Failure::because("the demo's CA cannot be trusted", error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::because("TLS cannot be set up", error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Client {
            proxy: gateway.addresses.proxy,
            token: token.trim().to_owned(),
            tls: TlsConnector::from(Arc::new(config)),
            issuer: format!(
                "Causeway CA {}…",
                gateway.ca.fingerprint.get(..8).unwrap_or_default()
            ),
        })
    }

    /// Sends a sample on a connection of its own.
    pub(super) async fn send(&self, sample: &Sample) -> Result<Answer, Failure> {
        let stream = self
            .open(sample.host)
            .await
            .map_err(|error| Failure::because("no connection", error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| Failure::because("no HTTP", error))?;
        let request = Request::post(sample.path)
            .header("host", sample.host)
            .header("content-type", "application/json")
            .header("user-agent", sample.user_agent)
            .header("authorization", "Bearer sk-demo-key-of-the-user")
            .body(Full::new(Bytes::from_static(sample.body.as_bytes())))
            .map_err(|error| Failure::because("no request", error))?;
        // The sender is dropped with the exchange, which ends the connection.
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let (head, mut body) = response.into_parts();
            let mut frames = 0;
            while let Some(frame) = body.frame().await {
                frames += usize::from(frame?.is_data());
            }
            Ok::<_, hyper::Error>((head, frames))
        };
        let (exchanged, _) = tokio::join!(exchange, async { drop(connection.await) });
        let (head, frames) = exchanged.map_err(|error| Failure::because("no reply", error))?;
        Ok(Answer {
            status: head.status.as_u16(),
            request_id: request_id(&head.headers)?,
            frames,
            protocol: "HTTP/1.1",
            issuer: self.issuer.clone(),
        })
    }

    async fn open(&self, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let connected = probe::connect(self.proxy, &format!("{host}:443"), Some(&self.token)).await;
        let tcp = connected.map_err(std::io::Error::other)?;
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.tls.connect(name, tcp).await
    }
}

fn request_id(headers: &HeaderMap) -> Result<Uuid, Failure> {
    let value = headers
        .get(&bridged::headers::REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|text| Uuid::parse_str(text).ok())
        .ok_or_else(|| Failure::new("the reply names no request id, so it did not come through the gateway"))
}
