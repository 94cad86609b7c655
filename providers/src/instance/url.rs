//! Base URLs and host claims, checked once, compared often.
//!
//! Hosts are kept lower-case, without trailing dot and without the brackets of an IPv6 literal.

use std::fmt;

use crate::path;

/// The scheme of an upstream URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that a URL of this scheme leaves out.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Where an instance's API begins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// Its scheme.
    pub scheme: Scheme,
    /// Its host: lower-case, no brackets.
    pub host: String,
    /// Its port, the scheme's own if none was written.
    pub port: u16,
    /// Its path without a slash at the end: empty, or like `/v1`.
    pub path: String,
}

/// Why a text is no base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseUrlError {
    /// It does not begin with `http://` or `https://`.
    #[error("a base URL begins with http:// or https://")]
    Scheme,
    /// It names a user or a password.
    #[error("a base URL carries no user name or password")]
    UserInfo,
    /// Its host or port is missing or malformed.
    #[error("the base URL's host is wrong")]
    Host(#[from] HostClaimError),
    /// It has a query, a fragment, or a path with empty, dot or escaped segments.
    #[error("a base URL's path is plain: no query, fragment, `..`, `//` or escaped dots")]
    Path,
}

impl BaseUrl {
    /// Checks a base URL such as `https://api.openai.com/v1/`.
    ///
    /// # Errors
    /// If it could not be joined with a path safely.
    pub fn parse(text: &str) -> Result<BaseUrl, BaseUrlError> {
        let (scheme, rest) = split_scheme(text.trim()).ok_or(BaseUrlError::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(BaseUrlError::UserInfo);
        }
        let HostClaim { host, port } = HostClaim::parse(authority)?;
        let path = tail.trim_end_matches('/');
        if !path.is_empty() && !path::is_plain(path) {
            return Err(BaseUrlError::Path);
        }
        Ok(BaseUrl {
            scheme,
            host,
            port: port.unwrap_or(scheme.default_port()),
            path: path.to_owned(),
        })
    }
}

fn split_scheme(text: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Some((Scheme::Http, rest)),
        "https" => Some((Scheme::Https, rest)),
        _ => None,
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_origin(f, self.scheme, &self.host, self.port)?;
        f.write_str(&self.path)
    }
}

/// Writes `scheme://host[:port]`, leaving a default port out and bracketing an IPv6 literal.
pub(crate) fn write_origin(out: &mut impl fmt::Write, scheme: Scheme, host: &str, port: u16) -> fmt::Result {
    write!(out, "{}://", scheme.as_str())?;
    write_host(out, host)?;
    if port != scheme.default_port() {
        write!(out, ":{port}")?;
    }
    Ok(())
}

/// Writes a host, bracketing an IPv6 literal.
pub(crate) fn write_host(out: &mut impl fmt::Write, host: &str) -> fmt::Result {
    if host.contains(':') {
        write!(out, "[{host}]")
    } else {
        out.write_str(host)
    }
}

/// A host that an instance claims in proxy mode, on one port or on every allowed one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostClaim {
    /// Lower-case A-label or IP literal, no trailing dot, no brackets.
    pub host: String,
    /// The one port claimed; `None` claims every port.
    pub port: Option<u16>,
}

/// Why a text is no host claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostClaimError {
    /// Nothing stands before the port.
    #[error("the host is missing")]
    Empty,
    /// The name is longer than 253 bytes or a label longer than 63.
    #[error("the host name is too long")]
    Length,
    /// Neither letters, digits, hyphens and dots, nor an IP literal.
    #[error(
        "a host is a DNS name in its ASCII form (xn--…), or an IP literal; wildcards and paths are not hosts"
    )]
    Form,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl HostClaim {
    /// Checks a claim such as `api.openai.com`, `llm.corp:8443` or `[::1]:8443`.
    ///
    /// # Errors
    /// If the host or the port is malformed.
    pub fn parse(text: &str) -> Result<HostClaim, HostClaimError> {
        let (host, port) = split_port(text.trim())?;
        let host = normal_host(host).to_ascii_lowercase();
        check_host(&host)?;
        Ok(HostClaim { host, port })
    }

    /// Whether the claim holds for this host, in any spelling, and port.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|own| own == port) && normal_host(host).eq_ignore_ascii_case(&self.host)
    }

    /// Whether some host and port is covered by both.
    #[must_use]
    pub fn overlaps(&self, other: &HostClaim) -> bool {
        let ports_meet = match (self.port, other.port) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        ports_meet && self.host == other.host
    }
}

impl fmt::Display for HostClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_host(f, &self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A host without brackets and trailing dot; case is left alone.
pub(crate) fn normal_host(host: &str) -> &str {
    let bare = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(host);
    bare.strip_suffix('.').unwrap_or(bare)
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), HostClaimError> {
    let bare_ipv6 = !text.starts_with('[') && text.matches(':').count() > 1;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bare_ipv6 && !port.ends_with(']') => (host, port),
        _ => return Ok((text, None)),
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(HostClaimError::Port);
    }
    match port.parse() {
        Ok(0) | Err(_) => Err(HostClaimError::Port),
        Ok(number) => Ok((host, Some(number))),
    }
}

fn check_host(host: &str) -> Result<(), HostClaimError> {
    let label = |part: &str| {
        let inner = part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    if host.is_empty() {
        return Err(HostClaimError::Empty);
    }
    if host.contains(':') {
        return host
            .parse::<std::net::Ipv6Addr>()
            .map(|_| ())
            .map_err(|_| HostClaimError::Form);
    }
    if host.len() > 253 || host.split('.').any(|part| part.len() > 63) {
        return Err(HostClaimError::Length);
    }
    if host.split('.').all(label) {
        Ok(())
    } else {
        Err(HostClaimError::Form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_normalised() {
        let cases = [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1//", "https://api.openai.com/v1"),
            ("HTTPS://API.OpenAI.com./", "https://api.openai.com"),
            ("http://localhost:8000/v1", "http://localhost:8000/v1"),
            ("http://localhost:80", "http://localhost"),
            ("https://[::1]:8443/x", "https://[::1]:8443/x"),
            (
                " https://chatgpt.com/backend-api/codex/ ",
                "https://chatgpt.com/backend-api/codex",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(BaseUrl::parse(text).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn unsafe_base_urls_are_refused() {
        let cases = [
            ("", BaseUrlError::Scheme),
            ("api.openai.com", BaseUrlError::Scheme),
            ("ftp://x", BaseUrlError::Scheme),
            ("https://", BaseUrlError::Host(HostClaimError::Empty)),
            ("https://user:pass@x/", BaseUrlError::UserInfo),
            ("https://x:0", BaseUrlError::Host(HostClaimError::Port)),
            ("https://x:70000", BaseUrlError::Host(HostClaimError::Port)),
            ("https://x/?q", BaseUrlError::Path),
            ("https://x/a#b", BaseUrlError::Path),
            ("https://x/a/../b", BaseUrlError::Path),
            ("https://x//a", BaseUrlError::Path),
            ("https://x/%2e%2e", BaseUrlError::Path),
            ("https://x/%zz/%25", BaseUrlError::Path),
        ];
        for (text, want) in cases {
            assert_eq!(BaseUrl::parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn claims_cover_their_host_in_any_spelling() {
        let every = HostClaim::parse("API.OpenAI.com.").unwrap();
        let one = HostClaim::parse("llm.corp:8443").unwrap();
        let v6 = HostClaim::parse("[::1]:8443").unwrap();
        assert!(every.covers("api.openai.com", 443) && every.covers("Api.OpenAI.COM.", 80));
        assert!(!every.covers("xapi.openai.com", 443));
        assert!(one.covers("llm.corp", 8443) && !one.covers("llm.corp", 443));
        assert!(v6.covers("[::1]", 8443) && v6.covers("::1", 8443));
        assert_eq!(
            (every.to_string(), one.to_string(), v6.to_string()),
            (
                "api.openai.com".into(),
                "llm.corp:8443".into(),
                "[::1]:8443".into()
            )
        );
    }

    #[test]
    fn malformed_claims_are_refused() {
        let long = format!("{}.com", "a".repeat(64));
        for text in [
            "",
            ":443",
            "a:",
            "a:x",
            "a:+1",
            "*.openai.com",
            "a/b",
            "a..b",
            "-a",
            "ä.com",
            "[::g]",
            "a b",
            long.as_str(),
        ] {
            assert!(HostClaim::parse(text).is_err(), "{text:?}");
        }
    }
}
