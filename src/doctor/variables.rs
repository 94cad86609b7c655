//! The environment of this shell, as a client started from it would get it.

use std::path::Path;

use super::proxy_url::{ProxyUrl, excepts};
use super::subject::Subject;
use super::{Finding, Level, files, gateway, tls};
use crate::clients::trust::{self, Kind};

/// The proxy variables point to this gateway, with a good token.
pub(super) async fn lead_here(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    if subject.variable("NODE_TLS_REJECT_UNAUTHORIZED") == Some("0") {
        findings.push(Finding::wrong(
            "NODE_TLS_REJECT_UNAUTHORIZED=0 lets Node trust everyone",
            "unset it: with the CA trusted it is not needed",
        ));
    }
    if subject.client.is_some_and(|client| !client.follows_variables) {
        return findings;
    }
    findings.extend(missing_switch(subject));
    let (upper, lower) = (subject.variable("HTTPS_PROXY"), subject.variable("https_proxy"));
    let Some(value) = lower.or(upper) else {
        findings.push(unset(subject));
        return findings;
    };
    if upper.is_some() && lower.is_some() && upper != lower {
        findings.push(Finding::wrong(
            "HTTPS_PROXY and https_proxy name different proxies, and clients differ in which they read",
            format!("set both: `{}`", subject.env_command()),
        ));
    }
    let name = if lower.is_some() {
        "https_proxy"
    } else {
        "HTTPS_PROXY"
    };
    findings.extend(leads_here(subject, name, value).await);
    findings
}

fn unset(subject: &Subject) -> Finding {
    let text = "HTTPS_PROXY is not set in this shell: clients started here go around the gateway";
    let cure = format!(
        "eval \"$({})\", or start the client with `causeway run -- …`",
        subject.env_command()
    );
    match subject.client {
        Some(_) => Finding::wrong(text, cure),
        None => Finding::hint(text),
    }
}

/// Variables other than proxy and trust that the client cannot do without.
fn missing_switch(subject: &Subject) -> Option<Finding> {
    let client = subject.client?;
    let missing = client
        .variables
        .iter()
        .find(|one| subject.variable(one.0) != Some(one.1) && !one.1.contains('{'))?;
    Some(Finding::wrong(
        format!(
            "{} is not {}: {} goes around the proxy",
            missing.0, missing.1, client.title
        ),
        format!("export {}={}", missing.0, missing.1),
    ))
}

async fn leads_here(subject: &Subject, name: &str, value: &str) -> Vec<Finding> {
    let cure = format!("set it anew: `{}`", subject.env_command());
    let Some(url) = ProxyUrl::parse(value) else {
        return vec![Finding::wrong(format!("{name} is no http:// URL"), cure)];
    };
    let Some(running) = &subject.running else {
        return Vec::new();
    };
    let (host, port) = (url.host.as_str(), url.port);
    let is_tls_port = running.proxy_tls.is_some_and(|address| address.port() == port);
    let is_here = port == running.proxy.port() || is_tls_port;
    let is_local = host == "localhost" || host == subject.place.proxy.0.trim_matches(['[', ']']);
    if !is_here || !(is_local || is_tls_port) {
        let here = running.proxy;
        return vec![Finding::wrong(
            format!("{name} leads to {host}:{port}, the gateway is at {here}"),
            cure,
        )];
    }
    if url.tls != is_tls_port {
        let text = if url.tls {
            format!("{name} begins with https://, but port {port} speaks no TLS")
        } else {
            format!("{name} begins with http://, but port {port} speaks TLS only")
        };
        return vec![Finding::wrong(text, cure)];
    }
    match &url.password {
        None => vec![Finding::wrong(format!("{name} has no token in it"), cure)],
        Some(password) => {
            gateway::opens(subject, running.proxy, password, &format!("the token in {name}")).await
        }
    }
}

/// NO_PROXY names no host that is to be intercepted.
pub(super) fn except_no_provider(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in ["NO_PROXY", "no_proxy"] {
        let entries = subject.variable(name).unwrap_or_default().split([',', ' ']);
        for entry in entries.filter(|entry| !entry.trim().is_empty()) {
            let providers = subject.config.bridge.providers.iter();
            let mut claims = providers.flat_map(|provider| &provider.instance.hosts);
            if let Some(claim) = claims.find(|claim| excepts(entry, &claim.host)) {
                findings.push(Finding::wrong(
                    format!(
                        "`{entry}` in {name} leads clients around the gateway to {}",
                        claim.host
                    ),
                    format!("take `{entry}` out of {name}"),
                ));
            }
        }
    }
    findings
}

/// The files that the trust variables name hold the CA; for a client that was named, one way of trust is there.
pub(super) fn trust_the_ca(subject: &Subject) -> Vec<Finding> {
    let Ok(own) = tls::certificates(&subject.place.ca) else {
        return Vec::new();
    };
    let in_system = files::holds(&rustls_native_certs::load_native_certs().certs, &own);
    let asked: Vec<_> = trust::VARIABLES
        .iter()
        .filter(|(name, _)| subject.client.is_none_or(|client| client.trust.contains(name)))
        .collect();
    let mut findings: Vec<_> = asked
        .iter()
        .filter_map(|(name, kind)| named_file(subject, name, *kind, &own))
        .collect();
    let is_trusted = findings.iter().any(|finding| finding.level == Level::Fine);
    let by_system = subject.client.is_some_and(|client| client.system_store) && in_system;
    if let Some(client) = subject
        .client
        .filter(|_| !is_trusted && !by_system && findings.is_empty())
    {
        findings.push(Finding::wrong(
            format!("nothing here lets {} trust the CA", client.title),
            match client.trust.first() {
                Some(name) => format!(
                    "set {name}: `{}`, or start the client with `causeway run -- …`",
                    subject.env_command()
                ),
                None => format!("follow `{}`", subject.env_command()),
            },
        ));
    }
    if in_system {
        findings.push(Finding::fine("the system's store trusts the CA"));
    } else {
        findings.push(Finding::hint(
            "the system's store does not know the CA: programs without a variable need it there (`causeway ca install`)",
        ));
    }
    findings
}

fn named_file<T: AsRef<[u8]> + PartialEq>(
    subject: &Subject,
    name: &str,
    kind: Kind,
    own: &[T],
) -> Option<Finding> {
    let path = subject.variable(name)?;
    let (file, effect) = match kind {
        Kind::Adds => (&subject.place.ca, "adds to what is trusted"),
        Kind::Replaces => (&subject.place.bundle, "replaces what is trusted"),
    };
    let cure = format!("export {name}={}", file.display());
    let Ok(found) = tls::certificates(Path::new(path)) else {
        return Some(Finding::wrong(
            format!("{name} names {path}, which holds no certificate"),
            cure,
        ));
    };
    if !found
        .iter()
        .any(|one| own.first().is_some_and(|first| first.as_ref() == one.as_ref()))
    {
        return Some(Finding::wrong(
            format!("{name} names {path}, which does not hold the CA"),
            cure,
        ));
    }
    if kind == Kind::Replaces && found.len() == own.len() {
        let text = format!("{name} {effect} with our CA alone: hosts that are tunnelled will not be trusted");
        return Some(Finding::wrong(text, cure));
    }
    Some(Finding::fine(format!(
        "{name} {effect}, and its file holds the CA"
    )))
}
