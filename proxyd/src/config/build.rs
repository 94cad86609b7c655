//! From the text of `[proxy]` and `[ca]` to what runs: defaults with their reasons, and every problem with its key.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bridged::cidr::Cidr;
use bridged::config::{Problems, Source, Span, address};
use bridged::serve;
use certs::LeafName;

use super::{CaFile, Config, DoorCertificate, ProxyFile, TlsConfig, TlsFile, TunnelPolicy};
use crate::guard::Guard;
use crate::hosts::HostList;
use crate::upstream_proxy::UpstreamProxy;

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
        // Whoever uses the organisation's network and lines is known.
        let tunnel = proxy.tunnel.unwrap_or(TunnelPolicy::Authenticated);
        Config {
            listen: address(
                proxy.listen.as_deref(),
                "proxy.listen",
                ([127, 0, 0, 1], 8888),
                problems,
            ),
            tunnel,
            allow_hosts: allow_hosts(&proxy.allow_hosts, tunnel, problems),
            deny_hosts: hosts(&proxy.deny_hosts, "proxy.deny-hosts", problems),
            // A proxy that reaches every port is a relay for mail and shells.
            allowed_ports: proxy
                .allowed_ports
                .clone()
                .unwrap_or_else(|| BTreeSet::from([80, 443])),
            guard: guard(&proxy.allow_private, problems),
            tunnel_idle: span(proxy.tunnel_idle, 600, "proxy.tunnel-idle", problems),
            client_idle: span(
                proxy.client_idle,
                serve::IDLE.as_secs(),
                "proxy.client-idle",
                problems,
            ),
            // A head is one packet; even the slowest network delivers it in this time.
            head_timeout: span(proxy.head_timeout, 10, "proxy.head-timeout", problems),
            // Two sockets each, against the usual limit of file descriptors.
            max_tunnels: count(proxy.max_tunnels, 4096),
            // An agent opens a few dozen; more than this is a runaway.
            max_tunnels_per_user: count(proxy.max_tunnels_per_user, 256),
            max_connections: count(proxy.max_connections, 16_384),
            upstream_proxy: upstream_proxy(proxy, source, problems),
            tls: proxy.tls.as_ref().map(|file| tls(file, source, problems)),
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

fn span(given: Option<Span>, default: u64, key: &str, problems: &mut Problems) -> Duration {
    let span = given.map_or(Duration::from_secs(default), Span::duration);
    if span.is_zero() {
        problems.add(key, "must be longer than nothing");
    }
    span
}

fn existing(path: &Path, key: &str, source: &Source, problems: &mut Problems) -> PathBuf {
    let path = source.beside(path);
    if !path.is_file() {
        problems.add(key, format!("{} is not a file that can be read", path.display()));
    }
    path
}

fn count(given: Option<NonZeroUsize>, default: usize) -> usize {
    given.map_or(default, NonZeroUsize::get)
}

fn hosts(texts: &[String], key: &str, problems: &mut Problems) -> HostList {
    let mut hosts = HostList::default();
    for text in texts {
        if !hosts.add(text) {
            problems.add(
                key,
                format!("`{text}` is not a host: write \"github.com\" or \"*.github.com\""),
            );
        }
    }
    hosts
}

fn allow_hosts(texts: &[String], tunnel: TunnelPolicy, problems: &mut Problems) -> HostList {
    if !texts.is_empty() && tunnel != TunnelPolicy::Deny {
        // Who writes a list of what is allowed means that the rest is not.
        problems.add(
            "proxy.allow-hosts",
            "has a meaning only with tunnel = \"deny\": other policies allow every host",
        );
    }
    hosts(texts, "proxy.allow-hosts", problems)
}

fn upstream_proxy(proxy: &ProxyFile, source: &Source, problems: &mut Problems) -> Option<UpstreamProxy> {
    let Some(url) = &proxy.upstream_proxy else {
        if proxy.upstream_proxy_ca.is_some() {
            problems.add(
                "proxy.upstream-proxy-ca",
                "belongs to `upstream-proxy`, which is not set",
            );
        }
        if !proxy.no_proxy.is_empty() {
            problems.add("proxy.no-proxy", "belongs to `upstream-proxy`, which is not set");
        }
        return None;
    };
    let Some(mut settings) = UpstreamProxy::parse(url) else {
        // Not a word of the text itself: it may hold a password.
        let cure = "is not a proxy: write \"http://HOST:PORT\" or \"http://USER:PASSWORD@HOST:PORT\"";
        problems.add("proxy.upstream-proxy", cure);
        return None;
    };
    let ca = proxy.upstream_proxy_ca.as_ref();
    settings.ca = ca.map(|path| existing(path, "proxy.upstream-proxy-ca", source, problems));
    if settings.ca.is_some() && !settings.tls {
        problems.add(
            "proxy.upstream-proxy-ca",
            "is of no use: `upstream-proxy` is not an https:// URL",
        );
    }
    for text in &proxy.no_proxy {
        if !settings.exempt.add(text) && !settings.exempt.add_network(text) {
            let cure =
                format!("`{text}` is neither a host nor a network: write \"*.internal\" or \"10.0.0.0/8\"");
            problems.add("proxy.no-proxy", cure);
        }
    }
    Some(settings)
}

fn tls(file: &TlsFile, source: &Source, problems: &mut Problems) -> TlsConfig {
    let listen = address(
        file.listen.as_deref(),
        "proxy.tls.listen",
        ([127, 0, 0, 1], 8889),
        problems,
    );
    let certificate = match (&file.cert, &file.key) {
        (Some(cert), Some(key)) => {
            if !file.names.is_empty() {
                problems.add(
                    "proxy.tls.names",
                    "is of no use beside `cert`, which has names of its own",
                );
            }
            DoorCertificate::Files {
                cert: existing(cert, "proxy.tls.cert", source, problems),
                key: existing(key, "proxy.tls.key", source, problems),
            }
        }
        (None, None) => DoorCertificate::Own(own_names(&file.names, listen, problems)),
        _ => {
            problems.add(
                "proxy.tls",
                "`cert` and `key` belong together: set both or neither",
            );
            DoorCertificate::Own(Vec::new())
        }
    };
    TlsConfig { listen, certificate }
}

fn own_names(texts: &[String], listen: SocketAddr, problems: &mut Problems) -> Vec<LeafName> {
    if texts.is_empty() {
        if listen.ip().is_unspecified() {
            let cure = "is missing: write the names that clients know this machine by";
            problems.add("proxy.tls.names", cure);
        }
        return vec![LeafName::Ip(listen.ip())];
    }
    let mut names = Vec::new();
    for text in texts {
        match LeafName::parse(text) {
            Ok(name) => names.push(name),
            Err(error) => problems.add("proxy.tls.names", format!("`{text}`: {error}")),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of everything that is wrong with `[proxy]` and this text.
    fn problems(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("causeway.toml");
        std::fs::write(&path, format!("[proxy]\n{text}")).unwrap();
        for name in ["a.pem", "a.key"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let mut source = Source::read(Some(&path), Path::new("/data"), std::iter::empty()).unwrap();
        let mut problems = Problems::default();
        let file: ProxyFile = source.section("proxy", &mut problems);
        Config::build(&file, &CaFile::default(), &source, &mut problems);
        let finished = source.finish(problems, &["proxy"]);
        finished.map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn good_settings_have_no_problems() {
        for text in [
            "",
            "tunnel = \"deny\"\nallow-hosts = [\"github.com\", \"*.github.com\", \"192.0.2.1\"]",
            "deny-hosts = [\"*.example.com\"]\nmax-tunnels = 1\nhead-timeout = \"1s\"\nclient-idle = \"1h\"",
            "upstream-proxy = \"http://u:p@proxy.corp:3128\"\nno-proxy = [\"*.internal\", \"10.0.0.0/8\"]",
            "upstream-proxy = \"https://proxy.corp\"\nupstream-proxy-ca = \"a.pem\"",
            "[proxy.tls]",
            "[proxy.tls]\nlisten = \"0.0.0.0:1\"\nnames = [\"proxy.corp\", \"192.0.2.1\"]",
            "[proxy.tls]\ncert = \"a.pem\"\nkey = \"a.key\"",
        ] {
            assert_eq!(problems(text), "", "{text}");
        }
    }

    #[test]
    fn wrong_settings_name_their_key_and_no_password() {
        for (text, want) in [
            (
                "allow-hosts = [\"github.com\"]",
                "proxy.allow-hosts: has a meaning only",
            ),
            ("deny-hosts = [\"*\"]", "proxy.deny-hosts: `*`"),
            ("max-tunnels = 0", "proxy: "),
            ("head-timeout = \"0s\"", "proxy.head-timeout: must be longer"),
            ("tunnel-idle = \"0m\"", "proxy.tunnel-idle: must be longer"),
            ("client-idle = \"0s\"", "proxy.client-idle: must be longer"),
            (
                "upstream-proxy = \"https://u:hunter2@proxy\"\nupstream-proxy-ca = \"b.pem\"",
                "b.pem is not a file",
            ),
            (
                "[proxy.tls]\ncert = \"a.pem\"\nkey = \"b.key\"",
                "proxy.tls.key: ",
            ),
            (
                "upstream-proxy = \"socks5://u:hunter2@proxy\"",
                "proxy.upstream-proxy: is not a proxy",
            ),
            (
                "upstream-proxy = \"http://u:hunter2@pro xy\"",
                "proxy.upstream-proxy: is not a proxy",
            ),
            (
                "upstream-proxy-ca = \"a.pem\"",
                "proxy.upstream-proxy-ca: belongs to",
            ),
            ("no-proxy = [\"a\"]", "proxy.no-proxy: belongs to"),
            (
                "upstream-proxy = \"http://u:hunter2@proxy\"\nno-proxy = [\"a:1\"]",
                "proxy.no-proxy: `a:1`",
            ),
            (
                "upstream-proxy = \"http://proxy\"\nupstream-proxy-ca = \"a.pem\"",
                "proxy.upstream-proxy-ca: is of no use",
            ),
            ("[proxy.tls]\ncert = \"a.pem\"", "proxy.tls: `cert` and `key`"),
            (
                "[proxy.tls]\nlisten = \"0.0.0.0:1\"",
                "proxy.tls.names: is missing",
            ),
            ("[proxy.tls]\nnames = [\"*.corp\"]", "proxy.tls.names: `*.corp`"),
        ] {
            let found = problems(text);
            assert!(found.contains(want), "{text}: {found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }
}
