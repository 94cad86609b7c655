//! A running proxy: what its connections share, and its listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bridged::app::App;
use bridged::serve;
use bridged::snapshot::Snapshot;
use certs::{Authority, LeafName, Lookup};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

use crate::config::Config;
use crate::front::{self, Door};
use crate::listeners::Listeners;
use crate::metrics::Metrics;
use crate::rules::{Prepared, Rules};
use crate::slots::{Places, Slots};

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
    /// A file of `[proxy.tls]` cannot be used.
    #[error("{} of proxy.tls cannot be used", path.display())]
    DoorFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: rustls::pki_types::pem::Error,
    },
    /// The file of `proxy.upstream-proxy-ca` holds nothing to trust.
    #[error("{} of proxy.upstream-proxy-ca holds no PEM certificate that can be trusted", path.display())]
    UpstreamProxyCa {
        /// The file.
        path: PathBuf,
    },
    /// The host of `proxy.upstream-proxy` can have no certificate.
    #[error("the host of proxy.upstream-proxy is not a name that a certificate could have")]
    UpstreamProxyName,
}

/// The answer to a connection for which there is no place. The client has not been heard, and gets no more time.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
    x-causeway-reason: too_many_connections\r\nconnection: close\r\ncontent-length: 32\r\n\r\n\
    Causeway: too many connections.\n";

/// What the connections of a proxy share.
#[derive(Debug)]
pub struct Proxy {
    pub(crate) app: Arc<App>,
    pub(crate) metrics: Metrics,
    pub(crate) listeners: Listeners,
    pub(crate) slots: Arc<Slots>,
    places: Arc<Places>,
    rules: ArcSwap<Rules>,
    crypto: Arc<CryptoProvider>,
}

impl Proxy {
    /// A proxy that signs with `authority` and hands requests to `app`; `listeners` are all of the process.
    ///
    /// # Errors
    /// TLS cannot be set up, or a file that the configuration names cannot be used.
    pub fn new(
        app: Arc<App>,
        config: Config,
        authority: Authority,
        listeners: Listeners,
    ) -> Result<Arc<Proxy>, ProxyError> {
        let metrics = app.metrics.resolve(Metrics::new);
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let rules = Prepared::new(config, authority, &crypto)?.after(None, app.snapshot());
        let proxy = Arc::new(Proxy {
            app,
            metrics,
            listeners,
            slots: Arc::default(),
            places: Arc::default(),
            rules: ArcSwap::from_pointee(rules),
            crypto,
        });
        proxy.app.tracker.spawn(proxy.clone().watch_expiry());
        Ok(proxy)
    }

    /// The rules as they are now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Checks whole what [`Proxy::switch_to`] can take.
    ///
    /// # Errors
    /// As for [`Proxy::new`]; nothing has changed.
    pub fn prepare(&self, config: Config, authority: Authority) -> Result<Prepared, ProxyError> {
        Prepared::new(config, authority, &self.crypto)
    }

    /// Goes by `prepared` from now on, together with `snapshot`, by which the bridge goes. Open connections keep
    /// their certificates, open tunnels their ways and deadlines.
    pub fn switch_to(&self, prepared: Prepared, snapshot: Arc<Snapshot>) {
        let rules = prepared.after(Some(&self.rules.load()), snapshot);
        self.rules.store(Arc::new(rules));
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
        let until = self.rules.load().authority.not_after();
        let left = until.duration_since(self.app.clock.now());
        self.metrics.ca_expiry.set(left.unwrap_or_default().as_secs_f64());
    }

    /// Serves the plain port until the app stops.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        let app = self.app.clone();
        serve::accept(app, listener, move |tcp, peer| {
            let proxy = self.clone();
            async move {
                match proxy.admit(&tcp, peer, false) {
                    Some(door) => front::serve(proxy, tcp, door).await,
                    // Best effort: nobody waits for a client that may not read.
                    None => drop(tcp.try_write(FULL)),
                }
            }
        })
        .await;
    }

    /// Serves the TLS port until the app stops.
    pub async fn run_tls(self: Arc<Self>, listener: TcpListener) {
        let app = self.app.clone();
        serve::accept(app, listener, move |tcp, peer| {
            let proxy = self.clone();
            async move {
                if let Some(door) = proxy.admit(&tcp, peer, true) {
                    front::serve_tls(proxy, tcp, door).await;
                }
            }
        })
        .await;
    }

    fn admit(&self, tcp: &TcpStream, peer: SocketAddr, tls: bool) -> Option<Door> {
        let Some(place) = self.places.take(self.rules.load().config.max_connections) else {
            self.app.metrics.refused("too_many_connections");
            return None;
        };
        Some(Door {
            peer,
            local: tcp.local_addr().ok()?,
            tls,
            _place: Arc::new(place),
        })
    }

    /// The TLS settings for `host`, with a certificate of its own.
    pub(crate) fn tls_for(&self, host: &LeafName) -> Result<Arc<ServerConfig>, ProxyError> {
        let (rules, now) = (self.rules.load(), self.app.clock.now());
        let (config, found) = rules.leaves.get_or_issue(host, now, || {
            let leaf = rules.authority.issue(host, now)?;
            let renew_at = leaf.renew_at;
            let config = server_config(&self.crypto, leaf.chain, leaf.key)?;
            Ok::<_, ProxyError>((Arc::new(config), renew_at))
        })?;
        match found {
            Lookup::Hit => self.metrics.leaf_hits.increment(1),
            Lookup::Minted => self.metrics.leaf_minted.increment(1),
        }
        Ok(config)
    }
}

pub(crate) fn server_config(
    crypto: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, ProxyError> {
    let mut config = ServerConfig::builder_with_provider(crypto.clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // Whatever the upstream speaks: between it and the client stands the bridge.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Each host has its own: whoever resumes is not shown a certificate, so no ticket may be good for another host.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(config)
}
