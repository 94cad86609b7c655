//! What the configuration decides for the proxy: hosts, addresses, caps, deadlines, the CA, the way out.
//!
//! Settings come in and become `Rules`, whole or not at all; the proxy swaps them for those before. A request is
//! judged by the rules of one moment, together with the bridge's snapshot that belongs to them: no host falls
//! between a claim that is gone and a ban that is not there yet. What is open goes on as it began.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use bridged::snapshot::Snapshot;
use certs::{Authority, LeafCache};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;

use crate::authority;
use crate::config::Config;
use crate::listeners::Listeners;
use crate::proxy::{ProxyError, server_config};
use crate::refusal::Refusal;
use crate::slots::Most;
use crate::tls::Certificate;
use crate::upstream_proxy::{self, Chain};

/// Hosts whose certificates are kept: the claimed hosts are a few dozen.
const LEAVES: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// Settings that a proxy can run with: everything that can fail is done.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    authority: Authority,
    chain: Option<Chain>,
    door_certificate: Option<Arc<Certificate>>,
}

impl Prepared {
    /// Makes what `config` asks for; the CA is `authority`.
    ///
    /// # Errors
    /// TLS cannot be set up, or a file that the configuration names cannot be used.
    pub fn new(
        config: Config,
        authority: Authority,
        crypto: &Arc<CryptoProvider>,
    ) -> Result<Prepared, ProxyError> {
        let make = |chain, key| server_config(crypto, chain, key);
        let tls = config.tls.as_ref();
        Ok(Prepared {
            chain: config.upstream_proxy.clone().map(Chain::new).transpose()?,
            door_certificate: tls
                .map(|tls| Certificate::load(tls, make))
                .transpose()?
                .map(Arc::new),
            config,
            authority,
        })
    }

    /// The rules that follow `previous`, judged together with `snapshot`.
    pub(crate) fn after(self, previous: Option<&Rules>, snapshot: Arc<Snapshot>) -> Rules {
        let same_ca = |old: &&Rules| old.authority.fingerprint() == self.authority.fingerprint();
        let leaves = previous.filter(same_ca).map(|old| old.leaves.clone());
        // A port that is open needs its certificate, also where its section is gone from the text.
        let door = || previous.and_then(|old| old.door_certificate.clone());
        Rules {
            door_certificate: self.door_certificate.or_else(door),
            leaves: leaves.unwrap_or_else(|| Arc::new(LeafCache::new(LEAVES))),
            authority: Arc::new(self.authority),
            chain: self.chain,
            config: self.config,
            snapshot,
        }
    }
}

/// What the configuration decides for the proxy, as it is now.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) config: Config,
    /// The CA.
    pub(crate) authority: Arc<Authority>,
    /// The certificates that it has made.
    pub(crate) leaves: Arc<LeafCache<Arc<ServerConfig>>>,
    /// What the TLS port shows.
    pub(crate) door_certificate: Option<Arc<Certificate>>,
    /// What the bridge goes by.
    pub(crate) snapshot: Arc<Snapshot>,
    chain: Option<Chain>,
}

impl Rules {
    /// The organisation's proxy, if `target` is reached through it.
    ///
    /// # Errors
    /// `target` is an address that is not allowed. Names are for the organisation's proxy to look up and judge.
    pub(crate) fn chain_for(
        &self,
        target: &authority::Authority,
        own: &Listeners,
    ) -> Result<Option<&Chain>, Refusal> {
        let chained = |chain: &&Chain| !chain.settings().exempt.contains(target);
        let Some(chain) = self.chain.as_ref().filter(chained) else {
            return Ok(None);
        };
        let loopback =
            || upstream_proxy::is_localhost(&target.host).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        match target.address.or_else(loopback) {
            Some(address) if own.contain((address, target.port.get()).into()) => Err(Refusal::Loop),
            Some(address) if !self.config.guard.allows(address) => Err(Refusal::Address),
            _ => Ok(Some(chain)),
        }
    }

    /// How many tunnels there may be.
    pub(crate) fn most_tunnels(&self) -> Most {
        Most {
            all: self.config.max_tunnels,
            of_one_caller: self.config.max_tunnels_per_user,
        }
    }
}
