//! Where one gateway is: what stands in the places of the clients' texts.
//!
//! The token is written in the form that each output takes: read from its file when a shell runs the line, or a
//! word to be replaced. Only `--show-token` and `causeway run` put the token itself there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// A gateway as its clients see it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The proxy's host and port.
    pub(crate) proxy: (String, u16),
    /// The bridge's address.
    pub(crate) bridge: String,
    pub(crate) ca: PathBuf,
    pub(crate) bundle: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) token: PathBuf,
}

impl Place {
    /// The gateway of `config` at these addresses.
    pub(crate) fn new(config: &Config, proxy: SocketAddr, bridge: SocketAddr) -> Place {
        let proxy = reachable(proxy);
        Place {
            proxy: (host(proxy), proxy.port()),
            bridge: reachable(bridge).to_string(),
            ca: config.proxy.ca_cert.clone(),
            bundle: config.data_dir.join(crate::bundle::NAME),
            data_dir: config.data_dir.clone(),
            token: config.data_dir.join("token"),
        }
    }

    /// `text` with this gateway in its places, but for the token.
    pub(crate) fn fill(&self, text: &str) -> String {
        let (host, port) = &self.proxy;
        let path = |path: &Path| path.display().to_string();
        text.replace("{proxy_url}", &format!("http://x:{TOKEN}@{host}:{port}"))
            .replace("{proxy_host}", host)
            .replace("{proxy_port}", &port.to_string())
            .replace("{bridge_url}", &format!("http://{}", self.bridge))
            .replace("{ca}", &path(&self.ca))
            .replace("{bundle}", &path(&self.bundle))
            .replace("{data_dir}", &path(&self.data_dir))
    }

    /// The variables that lead most clients here, with the token's place.
    pub(crate) fn proxy_variables(&self) -> [(&'static str, String); 6] {
        let url = self.fill("{proxy_url}");
        [
            ("HTTPS_PROXY", url.clone()),
            ("HTTP_PROXY", url.clone()),
            ("https_proxy", url.clone()),
            ("http_proxy", url),
            ("NO_PROXY", NO_PROXY.to_owned()),
            ("no_proxy", NO_PROXY.to_owned()),
        ]
    }
}

/// The token's place in texts.
pub(crate) const TOKEN: &str = "{token}";
/// What clients reach without the proxy: themselves and the gateway's own ports.
pub(crate) const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// A listener on every address is reached at this machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}
