//! The name that a leaf is issued for. A host as a client wrote it comes in, one canonical spelling goes out,
//! so that a cache has one entry per host and nothing odd is ever signed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// The host that a leaf certificate is valid for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeafName {
    /// A DNS name: lower case, A-labels, no trailing dot.
    Dns(String),
    /// An IP address, which goes into the certificate as an address and not as text.
    Ip(IpAddr),
}

/// Why a host is not a name that the gateway signs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was left to name.
    #[error("the host is empty")]
    Empty,
    /// Longer than DNS allows.
    #[error("the host has more than {MAX_NAME} characters")]
    TooLong,
    /// Two dots in a row, or one at the start.
    #[error("the host has an empty label")]
    EmptyLabel,
    /// A label longer than DNS allows.
    #[error("a label of the host has more than {MAX_LABEL} characters")]
    LabelTooLong,
    /// A wildcard would be valid for hosts that nobody asked for.
    #[error("the host is a wildcard")]
    Wildcard,
    /// Something that is no letter, digit, hyphen or underscore, or a hyphen at the edge of a label.
    #[error("the host has a character that a DNS name cannot have there")]
    Character,
    /// `127.1`, `0x7f.1` or `2130706433`: resolvers read these as addresses, certificates do not.
    #[error("the host looks like an IP address in a short or non-decimal spelling")]
    AddressLike,
    /// The part in brackets is no IPv6 address.
    #[error("the host in brackets is not an IPv6 address")]
    Brackets,
}

impl LeafName {
    /// Reads a host as it stands in a `CONNECT` request, without its port.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with a host that is neither a plain DNS name nor an IP address.
    pub fn parse(host: &str) -> Result<Self, NameError> {
        if let Some(inner) = host.strip_prefix('[') {
            let literal = inner.strip_suffix(']').ok_or(NameError::Brackets)?;
            let address: Ipv6Addr = literal.parse().map_err(|_| NameError::Brackets)?;
            return Ok(Self::Ip(address.into()));
        }
        if let Ok(address) = host.parse::<Ipv6Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        check_dns(name)?;
        Ok(Self::Dns(name.to_ascii_lowercase()))
    }

    /// Holds for every value that [`parse`](Self::parse) made; a value built by hand may fail it.
    pub(crate) fn check(&self) -> Result<(), NameError> {
        match self {
            Self::Dns(name) if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                Err(NameError::Character)
            }
            Self::Dns(name) => check_dns(name),
            Self::Ip(_) => Ok(()),
        }
    }
}

impl fmt::Display for LeafName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

fn check_dns(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    name.split('.').try_for_each(check_label)?;
    match name.rsplit('.').next() {
        Some(last) if is_number(last) => Err(NameError::AddressLike),
        _ => Ok(()),
    }
}

fn check_label(label: &str) -> Result<(), NameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if label.is_empty() {
        Err(NameError::EmptyLabel)
    } else if label.len() > MAX_LABEL {
        Err(NameError::LabelTooLong)
    } else if label == "*" {
        Err(NameError::Wildcard)
    } else if !label.bytes().all(allowed) || label.starts_with('-') || label.ends_with('-') {
        Err(NameError::Character)
    } else {
        Ok(())
    }
}

/// True of a last label that a URL parser would read as part of an IPv4 address.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_hosts_into_one_spelling() {
        let cases = [
            ("api.openai.com", "api.openai.com"),
            ("API.OpenAI.com.", "api.openai.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("_dmarc.example", "_dmarc.example"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("[::1]", "::1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("1e100.net", "1e100.net"),
        ];
        for (host, want) in cases {
            assert_eq!(
                LeafName::parse(host).map(|name| name.to_string()),
                Ok(want.to_owned()),
                "{host}"
            );
        }
    }

    #[test]
    fn tells_addresses_from_names() {
        assert!(matches!(LeafName::parse("10.0.0.1"), Ok(LeafName::Ip(_))));
        assert!(matches!(LeafName::parse("[fe80::1]"), Ok(LeafName::Ip(_))));
        assert!(matches!(LeafName::parse("10.0.0.one"), Ok(LeafName::Dns(_))));
    }

    #[test]
    fn refuses_what_it_must_not_sign() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = ["a"; 128].join(".");
        let cases = [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("a..b", NameError::EmptyLabel),
            (".example", NameError::EmptyLabel),
            ("example..", NameError::EmptyLabel),
            ("*.example", NameError::Wildcard),
            ("*", NameError::Wildcard),
            ("w*.example", NameError::Character),
            ("bücher.example", NameError::Character),
            ("-a.example", NameError::Character),
            ("a-.example", NameError::Character),
            ("a b.example", NameError::Character),
            ("a\0.example", NameError::Character),
            ("host:443", NameError::Character),
            ("fe80::1%eth0", NameError::Character),
            ("127.1", NameError::AddressLike),
            ("0x7f.1", NameError::AddressLike),
            ("0x7f000001", NameError::AddressLike),
            ("2130706433", NameError::AddressLike),
            ("127.0.0.01", NameError::AddressLike),
            ("[127.0.0.1]", NameError::Brackets),
            ("[::1", NameError::Brackets),
            (&long_label, NameError::LabelTooLong),
            (&long_name, NameError::TooLong),
        ];
        for (host, want) in cases {
            assert_eq!(LeafName::parse(host), Err(want), "{host}");
        }
    }

    proptest! {
        #[test]
        fn parsing_its_own_spelling_changes_nothing(host in "\\PC{0,40}|[a-z0-9.:-]{0,20}") {
            if let Ok(name) = LeafName::parse(&host) {
                prop_assert_eq!(LeafName::parse(&name.to_string()), Ok(name.clone()));
                prop_assert_eq!(name.check(), Ok(()));
            }
        }
    }
}
