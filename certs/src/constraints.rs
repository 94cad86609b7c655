//! Name constraints (RFC 5280 section 4.2.1.10): which hosts an authority may sign for.
//!
//! They are written into a new authority on request, so that a stolen key forges nothing else, and read from every
//! certificate of a given chain and obeyed before signing, because not every client checks them on a root.

use std::net::IpAddr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::extensions::{GeneralName, GeneralSubtree as ReadSubtree};
use x509_parser::prelude::X509Certificate;

use crate::name::LeafName;

/// What one certificate permits.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

#[derive(Debug)]
enum Subtree {
    Dns(String),
    Ip { base: Vec<u8>, mask: Vec<u8> },
}

impl Constraints {
    /// Reads those of `certificate`; `None` if it has some that cannot be read.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Option<Constraints> {
        let Some(found) = certificate.name_constraints().ok()? else {
            return Some(Constraints::default());
        };
        Some(Constraints {
            permitted: subtrees(found.value.permitted_subtrees.as_deref()),
            excluded: subtrees(found.value.excluded_subtrees.as_deref()),
        })
    }

    /// Whether the certificate may sign for `name`. A kind of name of which no subtree is permitted is free.
    pub(crate) fn permit(&self, name: &LeafName) -> bool {
        let mut of_kind = self
            .permitted
            .iter()
            .filter(|subtree| subtree.is_of_kind(name))
            .peekable();
        let permitted = of_kind.peek().is_none() || of_kind.any(|subtree| subtree.contains(name));
        permitted && !self.excluded.iter().any(|subtree| subtree.contains(name))
    }
}

impl Subtree {
    fn is_of_kind(&self, name: &LeafName) -> bool {
        matches!(
            (self, name),
            (Subtree::Dns(_), LeafName::Dns(_)) | (Subtree::Ip { .. }, LeafName::Ip(_))
        )
    }

    fn contains(&self, name: &LeafName) -> bool {
        match (self, name) {
            (Subtree::Dns(base), LeafName::Dns(name)) => {
                let inner = base.trim_start_matches('.');
                let is_below = name
                    .strip_suffix(inner)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                // A leading dot means subdomains only; an empty base means every name.
                inner.is_empty() || is_below && !(base.starts_with('.') && name == inner)
            }
            (Subtree::Ip { base, mask }, LeafName::Ip(address)) => {
                let octets = octets(*address);
                let same = octets
                    .iter()
                    .zip(base)
                    .zip(mask)
                    .all(|((octet, base), mask)| octet & mask == base & mask);
                octets.len() == base.len() && same
            }
            _ => false,
        }
    }
}

/// The extension that permits `names` and nothing else.
pub(crate) fn only(names: &[LeafName]) -> NameConstraints {
    let subtree = |name: &LeafName| match name {
        LeafName::Dns(name) => GeneralSubtree::DnsName(name.clone()),
        LeafName::Ip(address) => GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
            *address,
            if address.is_ipv4() { 32 } else { 128 },
        )),
    };
    // Of a kind that is not mentioned, every name is permitted: addresses must be excluded as a whole.
    let has_address = names.iter().any(|name| matches!(name, LeafName::Ip(_)));
    let every_address = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
    let excluded = every_address.map(|any| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(any, 0)));
    NameConstraints {
        permitted_subtrees: names.iter().map(subtree).collect(),
        excluded_subtrees: if has_address { Vec::new() } else { excluded.into() },
    }
}

fn subtrees(found: Option<&[ReadSubtree<'_>]>) -> Vec<Subtree> {
    let read = |subtree: &ReadSubtree<'_>| match &subtree.base {
        GeneralName::DNSName(name) => Some(Subtree::Dns(name.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => {
            let (base, mask) = bytes.split_at(bytes.len() / 2);
            Some(Subtree::Ip {
                base: base.to_vec(),
                mask: mask.to_vec(),
            })
        }
        // Other kinds of names are never in a leaf of ours.
        _ => None,
    };
    found.unwrap_or_default().iter().filter_map(read).collect()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtrees_hold_a_name_and_what_is_below_it() {
        let dns = |base: &str| Subtree::Dns(base.to_owned());
        for (base, name, want) in [
            ("openai.com", "openai.com", true),
            ("openai.com", "api.openai.com", true),
            ("openai.com", "notopenai.com", false),
            (".openai.com", "api.openai.com", true),
            (".openai.com", "openai.com", false),
            ("", "anything.test", true),
        ] {
            assert_eq!(
                dns(base).contains(&LeafName::parse(name).unwrap()),
                want,
                "{base} {name}"
            );
        }
        let net = Subtree::Ip {
            base: vec![10, 0, 0, 0],
            mask: vec![255, 0, 0, 0],
        };
        assert!(net.contains(&LeafName::parse("10.9.8.7").unwrap()));
        assert!(!net.contains(&LeafName::parse("11.0.0.1").unwrap()));
        assert!(!net.contains(&LeafName::parse("[::1]").unwrap()));
    }
}
