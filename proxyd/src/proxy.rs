//! A running proxy: what its connections share, and its listener.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bridged::app::App;
use bridged::serve;
use certs::{Authority, LeafCache, LeafName, Lookup};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::authority;
use crate::config::Config;
use crate::front::{self, Door};
use crate::listeners::Listeners;
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::slots::Slots;
use crate::tls::Certificate;
use crate::upstream_proxy::{self, Chain};

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
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    pub(crate) listeners: Listeners,
    pub(crate) slots: Arc<Slots>,
    pub(crate) door_certificate: Option<Certificate>,
    places: Arc<Semaphore>,
    chain: Option<Chain>,
    authority: ArcSwap<Authority>,
    leaves: LeafCache<Arc<ServerConfig>>,
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
        let make = |chain, key| server_config(&crypto, chain, key);
        let tls = config.tls.as_ref();
        let proxy = Arc::new(Proxy {
            app,
            metrics,
            listeners,
            slots: Slots::new(config.max_tunnels, config.max_tunnels_per_user),
            places: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            chain: config.upstream_proxy.clone().map(Chain::new).transpose()?,
            door_certificate: tls.map(|tls| Certificate::load(tls, make)).transpose()?,
            config,
            authority: ArcSwap::from_pointee(authority),
            leaves: LeafCache::new(LEAVES),
            crypto,
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
        let Ok(place) = self.places.clone().try_acquire_owned() else {
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

    /// The CA.
    pub(crate) fn authority(&self) -> Arc<Authority> {
        self.authority.load_full()
    }

    /// The organisation's proxy, if `target` is reached through it.
    ///
    /// # Errors
    /// `target` is an address that is not allowed. Names are for the organisation's proxy to look up and judge.
    pub(crate) fn chain_for(&self, target: &authority::Authority) -> Result<Option<&Chain>, Refusal> {
        let chained = |chain: &&Chain| !chain.settings().exempt.contains(target);
        let Some(chain) = self.chain.as_ref().filter(chained) else {
            return Ok(None);
        };
        let loopback =
            || upstream_proxy::is_localhost(&target.host).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        match target.address.or_else(loopback) {
            Some(address) if self.listeners.contain((address, target.port.get()).into()) => {
                Err(Refusal::Loop)
            }
            Some(address) if !self.config.guard.allows(address) => Err(Refusal::Address),
            _ => Ok(Some(chain)),
        }
    }

    /// The TLS settings for `host`, with a certificate of its own.
    pub(crate) fn tls_for(&self, host: &LeafName) -> Result<Arc<ServerConfig>, ProxyError> {
        let now = self.app.clock.now();
        let (config, found) = self.leaves.get_or_issue(host, now, || {
            let leaf = self.authority.load().issue(host, now)?;
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

fn server_config(
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
