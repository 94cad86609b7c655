//! A running proxy: what its connections share, and its listener.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bridged::app::App;
use bridged::serve;
use certs::{Authority, LeafCache, LeafName, Lookup};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::front;
use crate::metrics::Metrics;

/// Hosts whose certificates are kept: the claimed hosts are a few dozen.
const LEAVES: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// Why a proxy cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// No certificate could be made.
    #[error("no certificate can be made for this host")]
    Issue(#[from] certs::IssueError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// What the connections of a proxy share.
#[derive(Debug)]
pub struct Proxy {
    pub(crate) app: Arc<App>,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    authority: Authority,
    leaves: LeafCache<Arc<ServerConfig>>,
    crypto: Arc<CryptoProvider>,
    /// One for all hosts, so that a client's later connections resume.
    tickets: Arc<dyn ProducesTickets>,
}

impl Proxy {
    /// A proxy that signs with `authority` and hands requests to `app`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(app: Arc<App>, config: Config, authority: Authority) -> Result<Arc<Proxy>, ProxyError> {
        let metrics = app.metrics.resolve(Metrics::new);
        Ok(Arc::new(Proxy {
            app,
            config,
            metrics,
            authority,
            leaves: LeafCache::new(LEAVES),
            crypto: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            tickets: rustls::crypto::aws_lc_rs::Ticketer::new()?,
        }))
    }

    /// Serves until the app stops.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let app = self.app.clone();
        serve::accept(app, listener, move |tcp, peer| front::serve(self.clone(), TokioIo::new(tcp), peer)).await;
    }

    /// The TLS settings for `host`, with a certificate of its own.
    pub(crate) fn tls_for(&self, host: &LeafName) -> Result<Arc<ServerConfig>, ProxyError> {
        let now = self.app.clock.now();
        let (config, found) = self.leaves.get_or_issue(host, now, || {
            let leaf = self.authority.issue(host, now)?;
            let renew_at = leaf.renew_at;
            Ok::<_, ProxyError>((Arc::new(self.server_config(leaf)?), renew_at))
        })?;
        match found {
            Lookup::Hit => self.metrics.leaf_hits.increment(1),
            Lookup::Minted => self.metrics.leaf_minted.increment(1),
        }
        Ok(config)
    }

    fn server_config(&self, leaf: certs::Leaf) -> Result<ServerConfig, ProxyError> {
        let mut config = ServerConfig::builder_with_provider(self.crypto.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)?;
        // Whatever the upstream speaks: between it and the client stands the bridge.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = self.tickets.clone();
        Ok(config)
    }
}
