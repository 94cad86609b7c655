//! `[proxy]` and `[ca]`: what the text may say and what runs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bridged::config::{Problems, Source, Span, address};
use serde::Deserialize;

use crate::guard::{Cidr, Guard};

/// `[proxy]` as it stands in the text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProxyFile {
    /// Address of the proxy's listener.
    pub listen: Option<String>,
    /// What happens to hosts that no provider claims.
    pub tunnel: Option<TunnelPolicy>,
    /// The ports that CONNECT may name.
    pub allowed_ports: Option<BTreeSet<u16>>,
    /// Networks that tunnels may reach although private.
    pub allow_private: Vec<String>,
    /// Longest silence of a tunnel.
    pub tunnel_idle: Option<Span>,
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
    /// Nobody may.
    Deny,
}

/// What the proxy runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the proxy's listener.
    pub listen: SocketAddr,
    /// What happens to hosts that no provider claims.
    pub tunnel: TunnelPolicy,
    /// The ports that CONNECT may name.
    pub allowed_ports: BTreeSet<u16>,
    /// Which addresses tunnels may reach.
    pub guard: Guard,
    /// Longest silence of a tunnel.
    pub tunnel_idle: Duration,
    /// The CA's certificate.
    pub ca_cert: PathBuf,
    /// The CA's key.
    pub ca_key: PathBuf,
    /// Whether a CA that is made here may sign for the claimed hosts only.
    pub name_constraints: bool,
}

impl Config {
    /// Turns the text into what runs. Problems are added to `problems`; the result is meant to be used only
    /// when there are none.
    pub fn build(proxy: &ProxyFile, ca: &CaFile, source: &Source, problems: &mut Problems) -> Config {
        if ca.cert.is_some() != ca.key.is_some() {
            problems.add("ca", "`cert` and `key` belong together: set both or neither");
        }
        let path = |given: &Option<PathBuf>, default: &str| match given {
            Some(path) => source.beside(path),
            None => source.in_data_dir(default),
        };
        Config {
            listen: address(
                proxy.listen.as_deref(),
                "proxy.listen",
                ([127, 0, 0, 1], 8888),
                problems,
            ),
            tunnel: proxy.tunnel.unwrap_or(TunnelPolicy::Authenticated),
            // A proxy that reaches every port is a relay for mail and shells.
            allowed_ports: proxy
                .allowed_ports
                .clone()
                .unwrap_or_else(|| BTreeSet::from([80, 443])),
            guard: guard(&proxy.allow_private, problems),
            tunnel_idle: proxy.tunnel_idle.map_or(Duration::from_secs(600), Span::duration),
            ca_cert: path(&ca.cert, "ca.pem"),
            ca_key: path(&ca.key, "ca.key"),
            name_constraints: ca.name_constraints,
        }
    }
}

fn guard(texts: &[String], problems: &mut Problems) -> Guard {
    let mut networks = Vec::new();
    for text in texts {
        match Cidr::parse(text) {
            Some(network) => networks.push(network),
            None => {
                let cure = format!("`{text}` is not a network: write e.g. \"10.1.0.0/16\"");
                problems.add("proxy.allow-private", cure);
            }
        }
    }
    Guard::new(networks)
}
