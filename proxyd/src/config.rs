//! `[proxy]` and `[ca]`: what the text may say (`*File` types) and what runs (`Config`).
//!
//! `build` turns the one into the other; holding a `Config` is proof that it was checked.

mod build;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use bridged::config::Span;
use bridged::secret::Secret;
use certs::LeafName;
use serde::Deserialize;

use crate::guard::Guard;
use crate::hosts::HostList;
use crate::upstream_proxy::UpstreamProxy;

/// `[proxy]` as it stands in the text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProxyFile {
    /// Address of the proxy's listener.
    pub listen: Option<String>,
    /// What happens to hosts that no provider claims: `open` (anyone may reach them), `authenticated` (known
    /// users may; the default) or `deny` (only those in `allow-hosts` are reached, by known users).
    pub tunnel: Option<TunnelPolicy>,
    /// With `tunnel = "deny"`, the hosts that known users may reach nevertheless: names, addresses, and
    /// `*.example.com` for every name below `example.com`.
    pub allow_hosts: Vec<String>,
    /// Hosts that nobody may reach, written as in `allow-hosts`. They win over everything else, also over the
    /// claim of a provider.
    pub deny_hosts: Vec<String>,
    /// The ports that CONNECT and `http://` URLs may name. Default: 80 and 443.
    pub allowed_ports: Option<BTreeSet<u16>>,
    /// Networks that tunnels and `http://` requests may reach although private, e.g. `10.1.0.0/16`.
    pub allow_private: Vec<String>,
    /// Longest silence of a tunnel or of a forwarded request. Default: 10 minutes.
    pub tunnel_idle: Option<Span>,
    /// How long an intercepted connection, or one with many tunnels over HTTP/2, may be without a request or a tunnel.
    /// Default: 2 minutes.
    pub client_idle: Option<Span>,
    /// Deadline for the head of a request, for the next one on the same connection, and for the handshake of
    /// the TLS port. Default: 10 seconds.
    pub head_timeout: Option<Span>,
    /// Most tunnels and forwarded requests at a time. Default: 4096.
    pub max_tunnels: Option<NonZeroUsize>,
    /// Most tunnels and forwarded requests of one user at a time; where no token is asked for, of one client
    /// address. Default: 256.
    pub max_tunnels_per_user: Option<NonZeroUsize>,
    /// Most connections to the proxy at a time. Default: 16384.
    pub max_connections: Option<NonZeroUsize>,
    /// The organisation's own proxy, through which tunnels and `http://` requests leave:
    /// `http://USER:PASSWORD@HOST:PORT`, or `https` for TLS with it. Characters that URLs reserve are
    /// percent-encoded. Requests to AI providers never use it, and the proxy variables of the environment are not
    /// read. Private addresses are refused here as ever; but names are looked up by that proxy, so what they
    /// lead to is for that proxy to judge.
    pub upstream_proxy: Option<Secret>,
    /// A PEM file of certificates trusted, beside the system's roots, in TLS with `upstream-proxy`.
    pub upstream_proxy_ca: Option<PathBuf>,
    /// What is reached without `upstream-proxy`: hosts as in `allow-hosts`, and networks such as `10.0.0.0/8`
    /// for targets that are written as addresses.
    pub no_proxy: Vec<String>,
    /// A second listener, with TLS.
    pub tls: Option<TlsFile>,
}

/// `[proxy.tls]` as it stands in the text: a listener that speaks TLS, then HTTP/1.1 or HTTP/2.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TlsFile {
    /// Address of the listener. Default: 127.0.0.1:8889.
    pub listen: Option<String>,
    /// A certificate (chain) in PEM. Without it, the gateway's own CA makes one.
    pub cert: Option<PathBuf>,
    /// Its key in PEM.
    pub key: Option<PathBuf>,
    /// The names and addresses that clients know the listener by, for a certificate of the gateway's own CA.
    /// Default: the address of `listen`.
    pub names: Vec<String>,
}

/// `[ca]` as it stands in the text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaFile {
    /// The certificate (chain) in PEM.
    pub cert: Option<PathBuf>,
    /// Its key in PEM.
    pub key: Option<PathBuf>,
    /// Whether a CA that is made here may sign for the claimed hosts only.
    pub name_constraints: bool,
}

/// What happens to hosts that no provider claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelPolicy {
    /// Anyone may reach them.
    Open,
    /// Known users may reach them.
    Authenticated,
    /// Only listed hosts are reached.
    Deny,
}

/// What the proxy runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Address of the proxy's listener.
    pub listen: SocketAddr,
    /// What happens to hosts that no provider claims.
    pub tunnel: TunnelPolicy,
    /// Hosts that `TunnelPolicy::Deny` leaves open.
    pub allow_hosts: HostList,
    /// Hosts that nobody may reach.
    pub deny_hosts: HostList,
    /// The ports that may be named.
    pub allowed_ports: BTreeSet<u16>,
    /// Which addresses may be reached.
    pub guard: Guard,
    /// Longest silence of a tunnel.
    pub tunnel_idle: Duration,
    /// How long a client's connection may be without a request.
    pub client_idle: Duration,
    /// Deadline for the head of a request.
    pub head_timeout: Duration,
    /// Most tunnels at a time.
    pub max_tunnels: usize,
    /// Most tunnels of one user at a time.
    pub max_tunnels_per_user: usize,
    /// Most connections at a time.
    pub max_connections: usize,
    /// The organisation's own proxy.
    pub upstream_proxy: Option<UpstreamProxy>,
    /// The listener with TLS.
    pub tls: Option<TlsConfig>,
    /// The CA's certificate.
    pub ca_cert: PathBuf,
    /// The CA's key.
    pub ca_key: PathBuf,
    /// Whether a CA that is made here may sign for the claimed hosts only.
    pub name_constraints: bool,
}

impl Config {
    /// The keys whose values differ in `other` and cannot change while the process runs.
    pub fn fixed_keys(&self, other: &Config) -> Vec<&'static str> {
        let address = |config: &Config| config.tls.as_ref().map(|tls| tls.listen);
        let keys = [
            ("proxy.listen", self.listen != other.listen),
            ("proxy.tls.listen", address(self) != address(other)),
        ];
        let changed = keys.into_iter().filter(|(_, differs)| *differs);
        changed.map(|(key, _)| key).collect()
    }
}

/// The listener with TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsConfig {
    /// Its address.
    pub listen: SocketAddr,
    /// What it shows.
    pub certificate: DoorCertificate,
}

/// The certificate of the listener with TLS.
#[derive(Clone, Debug, PartialEq)]
pub enum DoorCertificate {
    /// The operator's, in PEM files.
    Files {
        /// The certificate, with its chain.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// One of our own CA, for one of these.
    Own(Vec<LeafName>),
}
