//! A running proxy: what its connections share, and its listener.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
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
    authority: ArcSwap<Authority>,
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
        let proxy = Arc::new(Proxy {
            app,
            config,
            metrics,
            authority: ArcSwap::from_pointee(authority),
            leaves: LeafCache::new(LEAVES),
            crypto: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            tickets: rustls::crypto::aws_lc_rs::Ticketer::new()?,
        });
        proxy.app.tracker.spawn(proxy.clone().watch_expiry());
        Ok(proxy)
    }

    /// Signs with `authority` from now on. Open connections keep their certificates.
    pub fn replace_authority(&self, authority: Authority) {
        self.authority.store(Arc::new(authority));
        self.leaves.clear();
        self.publish_expiry();
    }

    /// Keeps the gauge of the CA's remaining time right until the app stops.
    async fn watch_expiry(self: Arc<Self>) {
        let mut hourly = tokio::time::interval(Duration::from_secs(3_600));
        loop {
            tokio::select! {
                _ = hourly.tick() => self.publish_expiry(),
                () = self.app.stopping.cancelled() => return,
            }
        }
    }

    fn publish_expiry(&self) {
        let left = self
            .authority
            .load()
            .not_after()
            .duration_since(self.app.clock.now());
        self.metrics.ca_expiry.set(left.unwrap_or_default().as_secs_f64());
    }

    /// Serves until the app stops.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let app = self.app.clone();
        serve::accept(app, listener, move |tcp, peer| {
            front::serve(self.clone(), TokioIo::new(tcp), peer)
        })
        .await;
    }

    /// The TLS settings for `host`, with a certificate of its own.
    pub(crate) fn tls_for(&self, host: &LeafName) -> Result<Arc<ServerConfig>, ProxyError> {
        let now = self.app.clock.now();
        let (config, found) = self.leaves.get_or_issue(host, now, || {
            let leaf = self.authority.load().issue(host, now)?;
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
