//! Lists of hosts as operators write them: `github.com`, `*.github.com`, an address, and where it makes sense a
//! network.
//!
//! `*.github.com` means every name below `github.com` at any depth, and not `github.com` itself.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use bridged::cidr::Cidr;

use crate::authority::{self, Authority};

/// A list of hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostList {
    exact: HashSet<Arc<str>>,
    /// Suffixes with their leading dot.
    below: Vec<String>,
    networks: Vec<Cidr>,
}

impl HostList {
    /// Adds a name, a wildcard or an address; false when the text is something else.
    pub fn add(&mut self, text: &str) -> bool {
        if let Some(parent) = text.strip_prefix("*.") {
            let Some((name, None)) = authority::parse_host(parent) else {
                return false;
            };
            self.below.push(format!(".{name}"));
            return true;
        }
        let host = match text.parse::<IpAddr>() {
            Ok(address) => Some(Arc::from(address.to_string())),
            Err(_) => authority::parse_host(text).map(|(host, _)| host),
        };
        let known = host.is_some();
        self.exact.extend(host);
        known
    }

    /// Adds a network, for targets that are addresses already; false when the text is no network.
    pub fn add_network(&mut self, text: &str) -> bool {
        let network = Cidr::parse(text);
        self.networks.extend(network);
        network.is_some()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty() && self.networks.is_empty()
    }

    /// Whether the target's host is in the list.
    pub fn contains(&self, target: &Authority) -> bool {
        let listed = |address: IpAddr| {
            let address = address.to_canonical();
            self.networks.iter().any(|network| network.contains(address))
        };
        let below = || {
            self.below
                .iter()
                .any(|suffix| target.host.ends_with(suffix.as_str()))
        };
        self.exact.contains(&target.host) || target.address.map_or_else(below, listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(list: &[&str], host: &str) -> bool {
        let mut hosts = HostList::default();
        for text in list {
            assert!(hosts.add(text) || hosts.add_network(text), "{text}");
        }
        hosts.contains(&Authority::parse(&format!("{host}:443")).unwrap())
    }

    #[test]
    fn names_match_whole_and_wildcards_only_below() {
        for (list, host, want) in [
            ("github.com", "github.com", true),
            ("GitHub.com.", "github.com", true),
            ("github.com", "api.github.com", false),
            ("github.com", "notgithub.com", false),
            ("*.github.com", "api.github.com", true),
            ("*.github.com", "API.v3.GitHub.com", true),
            ("*.github.com", "github.com", false),
            ("*.github.com", "evilgithub.com", false),
            ("*.github.com", "github.com.evil.test", false),
            ("*.internal", "a.internal", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("2001:db8::1", "[2001:db8:0::1]", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "[::ffff:10.9.8.7]", true),
            ("10.0.0.0/8", "11.0.0.1", false),
        ] {
            assert_eq!(contains(&[list], host), want, "{list} and {host}");
        }
    }

    #[test]
    fn other_patterns_are_no_hosts() {
        for text in [
            "",
            "*",
            "*.",
            "*.*.com",
            "git*.com",
            ".github.com",
            "github.com:443",
            "https://github.com",
            "*.10.0.0.1",
            "10.0.0.0/8",
            "a b",
        ] {
            assert!(!HostList::default().add(text), "{text}");
        }
    }
}
