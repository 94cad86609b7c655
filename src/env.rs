//! `causeway env`: the settings that lead a client through the gateway.
//!
//! Tokens are not printed: the lines read the token's file when they are run.

use std::net::SocketAddr;
use std::path::Path;

use crate::cli::{Client, EnvOptions, Globals};
use crate::config;
use crate::failure::Failure;
use crate::gateway::CaFiles;

pub(crate) fn run(globals: &Globals, options: &EnvOptions) -> Result<(), Failure> {
    let config = config::load(globals)?;
    let ca = CaFiles {
        certificate: config.proxy.ca_cert.clone(),
        bundle: config.data_dir.join(crate::bundle::NAME),
        fingerprint: String::new(),
    };
    if !ca.bundle.exists() {
        return Err(Failure::new("there is no CA yet: run `causeway serve` once"));
    }
    let proxy = options.proxy.unwrap_or(config.proxy.listen);
    for line in exports(options.client, proxy, &ca, &config.data_dir.join("token")) {
        println!("{line}");
    }
    Ok(())
}

/// How a variable changes a client's trust.
enum Trust {
    /// It adds a CA.
    Adds,
    /// It replaces the trust store, so it gets the system's roots too.
    Replaces,
}

/// The trust variables of each client, as observed.
const TRUST: [(&str, Trust, &[Client]); 7] = [
    ("NODE_EXTRA_CA_CERTS", Trust::Adds, &[Client::Claude, Client::Copilot, Client::Vscode, Client::Node]),
    ("CODEX_CA_CERTIFICATE", Trust::Adds, &[Client::Codex]),
    ("SSL_CERT_FILE", Trust::Replaces, &[Client::Codex, Client::Claude, Client::Copilot, Client::Python]),
    ("REQUESTS_CA_BUNDLE", Trust::Replaces, &[Client::Python]),
    ("CURL_CA_BUNDLE", Trust::Replaces, &[Client::Curl]),
    ("GIT_SSL_CAINFO", Trust::Replaces, &[Client::Codex]),
    ("PIP_CERT", Trust::Replaces, &[Client::Python]),
];

/// Lines for a POSIX shell.
pub(crate) fn exports(client: Option<Client>, proxy: SocketAddr, ca: &CaFiles, token: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(note) = client.and_then(note) {
        lines.push(format!("# {note}"));
    }
    lines.push(format!("export HTTPS_PROXY=\"http://x:$(cat {})@{proxy}\"", quoted(token)));
    lines.push("export HTTP_PROXY=\"$HTTPS_PROXY\" https_proxy=\"$HTTPS_PROXY\" http_proxy=\"$HTTPS_PROXY\"".to_owned());
    lines.push("export NO_PROXY=localhost,127.0.0.1,::1 no_proxy=localhost,127.0.0.1,::1".to_owned());
    if client.is_none_or(|client| client == Client::Node) {
        lines.push("export NODE_USE_ENV_PROXY=1".to_owned());
    }
    for (name, trust, clients) in &TRUST {
        if client.is_none_or(|client| clients.contains(&client)) {
            let file = match trust {
                Trust::Adds => &ca.certificate,
                Trust::Replaces => &ca.bundle,
            };
            lines.push(format!("export {name}={}", quoted(file)));
        }
    }
    lines
}

fn note(client: Client) -> Option<&'static str> {
    match client {
        Client::Vscode => Some("start VS Code from this shell (`code .`), or set http.proxy in its settings"),
        Client::Jetbrains => Some(
            "in Settings > Appearance & Behavior > System Settings > HTTP Proxy enter this proxy; add the CA \
             under Settings > Tools > Server Certificates",
        ),
        _ => None,
    }
}

/// A path in single quotes, for a POSIX shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
