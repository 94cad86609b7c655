//! A proxy's URL as it stands in a variable.

/// The parts that matter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProxyUrl {
    pub(super) tls: bool,
    /// Lower-case, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) password: Option<String>,
}

impl ProxyUrl {
    /// Reads `http://user:password@host:port/`; a bare `host:port` means `http://`.
    pub(super) fn parse(text: &str) -> Option<ProxyUrl> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let uri: http::uri::Authority = address.parse().ok()?;
        let password = credentials.map(|pair| pair.split_once(':').map_or(pair, |(_, password)| password));
        let default = if tls { 443 } else { 80 };
        Some(ProxyUrl {
            tls,
            host: uri.host().trim_matches(['[', ']']).to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(default),
            password: password
                .filter(|password| !password.is_empty())
                .map(str::to_owned),
        })
    }
}

/// Whether an entry of NO_PROXY keeps `host` from the proxy, as most clients read it.
pub(super) fn excepts(entry: &str, host: &str) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    let name = entry.split(':').next().unwrap_or_default();
    let suffix = name.trim_start_matches('*').trim_start_matches('.');
    entry == "*" || (!suffix.is_empty() && (host == suffix || host.ends_with(&format!(".{suffix}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_clients_read_them() {
        for (text, want) in [
            (
                "http://x:cw_1@127.0.0.1:8888",
                Some((false, "127.0.0.1", 8888, Some("cw_1"))),
            ),
            (
                "https://cw_1@Proxy.corp",
                Some((true, "proxy.corp", 443, Some("cw_1"))),
            ),
            ("localhost:8888/", Some((false, "localhost", 8888, None))),
            ("http://x:@[::1]:1", Some((false, "::1", 1, None))),
            ("socks5://127.0.0.1:1", None),
            ("", None),
        ] {
            let url = ProxyUrl::parse(text);
            let found = url
                .as_ref()
                .map(|url| (url.tls, url.host.as_str(), url.port, url.password.as_deref()));
            assert_eq!(found, want, "{text}");
        }
    }

    #[test]
    fn exceptions_match_whole_labels() {
        for (entry, want) in [
            ("*", true),
            ("openai.com", true),
            (".openai.com", true),
            ("*.OpenAI.com", true),
            ("api.openai.com:443", true),
            ("ai.com", false),
            ("", false),
            ("localhost", false),
        ] {
            assert_eq!(excepts(entry, "api.openai.com"), want, "{entry}");
        }
    }
}
