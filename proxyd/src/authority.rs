//! The target of a CONNECT: `host:port` (RFC 9110 section 9.3.6), read strictly.
//!
//! What one program reads as a name and another as an address is refused: a host that ends in a number must be
//! a plain dotted quad, so that `2130706433`, `0x7f.1` or `127.1` never slip past the address guard. An IPv4
//! address inside an IPv6 one is the IPv4 address, so that it meets the same claims and lists.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

/// The port of `http`.
pub const HTTP_PORT: NonZeroU16 = NonZeroU16::new(80).expect("not zero");
/// The port of `https`.
pub const HTTPS_PORT: NonZeroU16 = NonZeroU16::new(443).expect("not zero");

/// Where a CONNECT wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// A lower-case name without trailing dot, or an address without brackets.
    pub host: Arc<str>,
    /// The address, if the host is one.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: NonZeroU16,
}

/// Why a target cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// There is no port, or none from 1 to 65535.
    #[error("the target needs a port from 1 to 65535")]
    Port,
    /// The host is neither a name nor an address.
    #[error("the target's host is neither a name nor an address")]
    Host,
}

impl Authority {
    /// Reads `host:port`.
    ///
    /// # Errors
    /// The text is something else.
    pub fn parse(text: &str) -> Result<Authority, AuthorityError> {
        let (host, port) = text.rsplit_once(':').ok_or(AuthorityError::Port)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = Some(port)
            .filter(|_| digits)
            .and_then(|port| port.parse().ok())
            .ok_or(AuthorityError::Port)?;
        let (host, address) = parse_host(host).ok_or(AuthorityError::Host)?;
        Ok(Authority { host, address, port })
    }

    /// Reads `host` or `host:port`, as in a URL or a `Host` field.
    ///
    /// # Errors
    /// The text is something else.
    pub fn parse_or(text: &str, default: NonZeroU16) -> Result<Authority, AuthorityError> {
        match text.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => Authority::parse(text),
            _ => Authority::parse(&format!("{text}:{default}")),
        }
    }

    /// How the target stands in a `Host` field: without the port if that is `default`.
    pub fn without(&self, default: NonZeroU16) -> String {
        let mut text = self.to_string();
        if self.port == default {
            text.truncate(text.rfind(':').unwrap_or(text.len()));
        }
        text
    }

    /// Whether a `Host` or `:authority` value names this target. A missing port is the default one of HTTPS.
    pub fn is_named_by(&self, value: &str) -> bool {
        let (host, port) = match value.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (value, "443"),
        };
        port.parse() == Ok(self.port.get()) && parse_host(host).is_some_and(|(host, _)| host == self.host)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(_)) => write!(f, "[{}]:{}", self.host, self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Reads a name, a dotted quad or a bracketed IPv6 address.
pub(crate) fn parse_host(text: &str) -> Option<(Arc<str>, Option<IpAddr>)> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        let address = address.to_canonical();
        return Some((Arc::from(address.to_string()), Some(address)));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return Some((Arc::from(name), Some(IpAddr::V4(address))));
    }
    let last = name.rsplit('.').next()?;
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    (!numeric && is_name(&name)).then(|| (Arc::from(name), None))
}

fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner)
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_in_their_plain_forms() {
        for (text, host, port) in [
            ("api.openai.com:443", "api.openai.com", 443),
            ("API.OpenAI.com.:443", "api.openai.com", 443),
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[2001:DB8::1]:443", "2001:db8::1", 443),
            ("[::ffff:192.0.2.7]:443", "192.0.2.7", 443),
            ("[::FFFF:c000:207]:443", "192.0.2.7", 443),
            ("xn--bcher-kva.example:443", "xn--bcher-kva.example", 443),
            ("localhost:65535", "localhost", 65535),
        ] {
            let authority = Authority::parse(text).unwrap();
            assert_eq!((&*authority.host, authority.port.get()), (host, port), "{text}");
        }
    }

    #[test]
    fn ambiguous_and_malformed_targets_are_refused() {
        for text in [
            "api.openai.com",
            "api.openai.com:",
            "api.openai.com:0",
            "api.openai.com:65536",
            "api.openai.com:+443",
            "user@api.openai.com:443",
            "api.openai.com/path:443",
            ":443",
            ".:443",
            "a..b:443",
            "2130706433:443",
            "0x7f000001:443",
            "127.1:443",
            "0177.0.0.1:443",
            "1.2.3.0x4:443",
            "2001:db8::1:443",
            "[::1:443",
            "[fe80::1%eth0]:443",
            "bücher.example:443",
            "*.openai.com:443",
            "a b:443",
        ] {
            assert!(Authority::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_port_has_a_default_where_urls_have_one() {
        for (text, want, field) in [
            ("example.test", "example.test:80", "example.test"),
            ("example.test:80", "example.test:80", "example.test"),
            ("example.test:8080", "example.test:8080", "example.test:8080"),
            ("[2001:db8::1]", "[2001:db8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]:81", "[2001:db8::1]:81", "[2001:db8::1]:81"),
        ] {
            let authority = Authority::parse_or(text, HTTP_PORT).unwrap();
            assert_eq!(authority.to_string(), want, "{text}");
            assert_eq!(authority.without(HTTP_PORT), field, "{text}");
        }
        for text in ["", ":80", "example.test:", "a@example.test", "2001:db8::1"] {
            assert!(Authority::parse_or(text, HTTP_PORT).is_err(), "{text}");
        }
    }

    #[test]
    fn host_headers_are_compared_as_names() {
        let target = Authority::parse("api.openai.com:443").unwrap();
        for (value, want) in [
            ("api.openai.com", true),
            ("API.OPENAI.COM:443", true),
            ("api.openai.com.", true),
            ("api.openai.com:8443", false),
            ("evil.test", false),
            ("api.openai.com.evil.test", false),
            ("", false),
        ] {
            assert_eq!(target.is_named_by(value), want, "{value}");
        }
        let v6 = Authority::parse("[2001:db8::1]:8443").unwrap();
        assert!(v6.is_named_by("[2001:db8:0::1]:8443"));
        assert!(!v6.is_named_by("[2001:db8::1]"));
    }
}
