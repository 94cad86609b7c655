//! `[identity]`: what proves who sends a request, beside gateway tokens.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use providers::{BaseUrl, Scheme};
use serde::Deserialize;

use super::scalar::Span;
use super::source::{Problems, Source};
use crate::cidr::Cidr;
use crate::token::Role;

/// `[identity]` as it stands in the text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct IdentityFile {
    /// An OpenID Connect issuer whose tokens are taken.
    pub oidc: Option<OidcFile>,
    /// A front proxy that names users in a header.
    pub trusted_header: Option<TrustedHeaderFile>,
    /// Users by group, beside what the proofs of identity say.
    pub groups: BTreeMap<String, Vec<String>>,
}

/// `[identity.oidc]` as it stands in the text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OidcFile {
    /// The issuer, exactly as tokens name it.
    pub issuer: String,
    /// The audiences of which a token must name one.
    pub audience: OneOrMore,
    /// Where the keys are; left out, the issuer's discovery document says so.
    pub jwks_url: Option<String>,
    /// The claim with the user's name.
    pub user_claim: Option<String>,
    /// The claim with the user's roles.
    pub roles_claim: Option<String>,
    /// The claim with the user's groups.
    pub groups_claim: Option<String>,
    /// Our role for each value of the roles claim.
    #[serde(default)]
    pub roles: BTreeMap<String, String>,
    /// How much clocks may differ.
    pub leeway: Option<Span>,
    /// PEM file with the issuer's own root certificate.
    pub ca: Option<PathBuf>,
}

/// `"a"` or `["a", "b"]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One text.
    One(String),
    /// A list.
    More(Vec<String>),
}

/// `[identity.trusted-header]` as it stands in the text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustedHeaderFile {
    /// The header with the user's name.
    pub header: Option<String>,
    /// The header with the user's groups, commas between them.
    pub groups_header: Option<String>,
    /// The addresses from which these headers count.
    pub from: Vec<String>,
}

/// What proves an identity beside gateway tokens.
#[derive(Clone, Debug, Default)]
pub struct IdentityConfig {
    /// An issuer.
    pub oidc: Option<OidcConfig>,
    /// A front proxy.
    pub trusted_header: Option<TrustedHeader>,
}

/// An OpenID Connect issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct OidcConfig {
    /// Its name in tokens.
    pub issuer: String,
    /// The audiences of which a token must name one.
    pub audience: Vec<String>,
    /// Where its keys are.
    pub keys: KeySource,
    /// The claim with the user's name.
    pub user_claim: String,
    /// The claim with the user's roles.
    pub roles_claim: Option<String>,
    /// The claim with the user's groups.
    pub groups_claim: Option<String>,
    /// Our role for each value of the roles claim.
    pub roles: HashMap<String, Role>,
    /// How much clocks may differ.
    pub leeway: Duration,
    /// Its own root certificate.
    pub ca: Option<PathBuf>,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// There.
    Url(BaseUrl),
    /// Where this document says.
    Discovery(BaseUrl),
}

/// A front proxy that names users.
#[derive(Clone, Debug, PartialEq)]
pub struct TrustedHeader {
    /// The header with the user's name.
    pub header: HeaderName,
    /// The header with the user's groups.
    pub groups_header: Option<HeaderName>,
    from: Vec<Cidr>,
}

impl TrustedHeader {
    /// Whether the word of this address counts.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.from.iter().any(|network| network.contains(peer))
    }

    /// Whether `name` is one of the headers.
    pub fn names(&self, name: &HeaderName) -> bool {
        *name == self.header || self.groups_header.as_ref() == Some(name)
    }

    /// Whether one of the headers is among these.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.keys().any(|name| self.names(name))
    }
}

/// Checks the section.
pub(super) fn build(file: &IdentityFile, source: &Source, problems: &mut Problems) -> IdentityConfig {
    IdentityConfig {
        oidc: file.oidc.as_ref().and_then(|oidc| issuer(oidc, source, problems)),
        trusted_header: file
            .trusted_header
            .as_ref()
            .and_then(|trusted| trusted_header(trusted, problems)),
    }
}

/// The groups by user.
pub(super) fn groups(file: &IdentityFile) -> HashMap<Arc<str>, Arc<[Arc<str>]>> {
    let mut by_user: HashMap<Arc<str>, Vec<Arc<str>>> = HashMap::new();
    for (group, users) in &file.groups {
        let group: Arc<str> = Arc::from(group.as_str());
        for user in users {
            by_user
                .entry(Arc::from(user.as_str()))
                .or_default()
                .push(group.clone());
        }
    }
    by_user
        .into_iter()
        .map(|(user, groups)| (user, groups.into()))
        .collect()
}

fn issuer(file: &OidcFile, source: &Source, problems: &mut Problems) -> Option<OidcConfig> {
    let discovery = format!(
        "{}/.well-known/openid-configuration",
        file.issuer.trim_end_matches('/')
    );
    let keys = match &file.jwks_url {
        Some(text) => address(text, "identity.oidc.jwks-url", problems).map(KeySource::Url),
        None => address(&discovery, "identity.oidc.issuer", problems).map(KeySource::Discovery),
    };
    let audience = match &file.audience {
        OneOrMore::One(text) => vec![text.clone()],
        OneOrMore::More(texts) => texts.clone(),
    };
    if audience.is_empty() || audience.iter().any(|text| text.trim().is_empty()) {
        problems.add("identity.oidc.audience", "must name at least one audience");
    }
    let ca = file.ca.as_ref().map(|path| source.beside(path));
    if let Some(path) = ca.as_ref().filter(|path| !path.is_file()) {
        let text = format!("{} is not a file that can be read", path.display());
        problems.add("identity.oidc.ca", text);
    }
    if !file.roles.is_empty() && file.roles_claim.is_none() {
        problems.add(
            "identity.oidc.roles",
            "needs `roles-claim`, the claim that holds the values",
        );
    }
    let mut roles = HashMap::new();
    for (value, role) in &file.roles {
        match role.parse::<Role>() {
            Ok(role) => drop(roles.insert(value.clone(), role)),
            Err(error) => problems.add(&format!("identity.oidc.roles.{value}"), error),
        }
    }
    Some(OidcConfig {
        issuer: file.issuer.clone(),
        audience,
        keys: keys?,
        // The one claim that every issuer sends and never gives to another.
        user_claim: file.user_claim.clone().unwrap_or_else(|| "sub".to_owned()),
        roles_claim: file.roles_claim.clone(),
        groups_claim: file.groups_claim.clone(),
        roles,
        leeway: file.leeway.map_or(Duration::from_secs(60), Span::duration),
        ca,
    })
}

/// Keys that came in clear could be anyone's.
fn address(text: &str, key: &str, problems: &mut Problems) -> Option<BaseUrl> {
    match BaseUrl::parse(text) {
        Ok(url) if url.scheme == Scheme::Https => Some(url),
        _ => {
            problems.add(key, "must be an https:// URL without query");
            None
        }
    }
}

fn trusted_header(file: &TrustedHeaderFile, problems: &mut Problems) -> Option<TrustedHeader> {
    const KEY: &str = "identity.trusted-header";
    let mut name = |text: &str, key: &str| match text.parse::<HeaderName>() {
        Ok(name) => Some(name),
        Err(_) => {
            problems.add(&format!("{KEY}.{key}"), format!("`{text}` is no header name"));
            None
        }
    };
    let header = name(file.header.as_deref().unwrap_or("x-forwarded-user"), "header");
    let groups_header = file
        .groups_header
        .as_deref()
        .map(|text| name(text, "groups-header"));
    let from: Vec<Cidr> = file
        .from
        .iter()
        .filter_map(|text| network(text, problems))
        .collect();
    if file.from.is_empty() {
        problems.add(
            &format!("{KEY}.from"),
            "must name the front proxy's addresses, e.g. [\"10.0.0.5\"]",
        );
    }
    Some(TrustedHeader {
        header: header?,
        groups_header: match groups_header {
            Some(found) => Some(found?),
            None => None,
        },
        from,
    })
}

fn network(text: &str, problems: &mut Problems) -> Option<Cidr> {
    let network = Cidr::parse(text);
    if network.is_none() {
        problems.add(
            "identity.trusted-header.from",
            format!("`{text}` is not a network: write e.g. 10.0.0.0/8"),
        );
    }
    network
}
