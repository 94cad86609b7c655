//! Who sends a request, and which of its headers say so.
//!
//! In proxy mode the identity comes from `Proxy-Authorization` at CONNECT and is carried by the connection. In
//! base-URL mode it is the first gateway credential found in `X-Coder-AI-Governance-Token`,
//! `Authorization: Bearer` or `x-api-key`; what is none there belongs to the user. A gateway credential is a gateway
//! token or a JSON web token of the configured issuer. Where there is none, a front proxy that the operator trusts
//! may name the user in a header. Invariant: such a header counts only when it comes from that proxy's address,
//! and no gateway credential passes `strip`.

mod fetch;
mod keys;
mod oidc;

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::app::App;
use crate::clock::Micros;
use crate::config::{IdentityConfig, OidcConfig, TrustedHeader};
use crate::headers;
use crate::token::{PREFIX, Role, TokenHash, TokenRecord};
use crate::upstream::{Trust, TrustError};
use oidc::Oidc;

/// A known sender.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user's name.
    pub user: Arc<str>,
    /// What the user may do.
    pub role: Role,
    /// The groups that the proof names.
    pub groups: Arc<[Arc<str>]>,
    /// What proved it.
    pub proof: Proof,
}

/// What proved an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A gateway token.
    Token {
        /// Names it to operators.
        id: Uuid,
        /// Finds it again.
        hash: TokenHash,
    },
    /// A JSON web token.
    Jwt {
        /// When it ends.
        expires_at: Micros,
    },
    /// A front proxy's word.
    Header,
}

impl From<&TokenRecord> for Identity {
    fn from(record: &TokenRecord) -> Identity {
        Identity {
            user: record.user.clone(),
            role: record.role,
            groups: Arc::default(),
            proof: Proof::Token {
                id: record.id,
                hash: record.hash,
            },
        }
    }
}

impl Identity {
    /// Whether the proof still holds: a connection may outlive it.
    pub fn is_live(&self, app: &App, now: Micros) -> bool {
        match &self.proof {
            Proof::Token { hash, .. } => app.tokens.is_live(hash, now),
            Proof::Jwt { expires_at } => now < *expires_at,
            Proof::Header => true,
        }
    }
}

/// Why a sender is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No gateway token was sent.
    #[error("no gateway token was sent")]
    Missing,
    /// The token is not known, has ended or was revoked.
    #[error("the gateway token is unknown, expired or revoked")]
    Unknown,
    /// Nobody can say whether the token is good.
    #[error("it cannot be found out at the moment whether the token is good")]
    Unavailable,
}

/// What may prove an identity beside gateway tokens.
#[derive(Debug, Default)]
pub struct Sources {
    oidc: Option<Arc<Oidc>>,
    trusted: Option<TrustedHeader>,
}

impl Sources {
    /// Makes what `config` asks for; an issuer that stays the same keeps its keys.
    ///
    /// # Errors
    /// The issuer's `ca` cannot be used.
    pub fn new(
        config: &IdentityConfig,
        extra_ca: &[std::path::PathBuf],
        tracker: &TaskTracker,
        previous: Option<&Sources>,
    ) -> Result<Sources, TrustError> {
        let make = |wanted: &OidcConfig| -> Result<Arc<Oidc>, TrustError> {
            let old = previous.and_then(|old| old.oidc.as_ref());
            if let Some(same) = old.filter(|old| old.config() == wanted) {
                return Ok(same.clone());
            }
            let roots: Vec<_> = extra_ca.iter().chain(&wanted.ca).cloned().collect();
            let trust = Trust::load(&roots)?;
            Ok(Arc::new(Oidc::new(wanted.clone(), trust, tracker.clone())))
        };
        Ok(Sources {
            oidc: config.oidc.as_ref().map(make).transpose()?,
            trusted: config.trusted_header.clone(),
        })
    }

    /// Fetches the issuer's keys again if they are old.
    pub async fn keep_fresh(&self) {
        if let Some(oidc) = &self.oidc {
            oidc.keep_fresh().await;
        }
    }

    /// Takes out what `peer` may not say: a user's name, unless the operator trusts that address.
    pub fn distrust(&self, headers: &mut HeaderMap, peer: IpAddr) {
        if let Some(trusted) = &self.trusted
            && trusted.is_in(headers)
            && !trusted.trusts(peer)
        {
            *headers = headers::less(headers, |name, _| trusted.names(name));
        }
    }

    /// Takes out what is for the gateway alone and would not be recognised further on.
    pub fn strip(&self, headers: &mut HeaderMap) {
        let ours = |name: &HeaderName, value: &http::HeaderValue| {
            self.trusted.as_ref().is_some_and(|trusted| trusted.names(name))
                || self
                    .oidc
                    .as_ref()
                    .is_some_and(|oidc| oidc.appears_in(value.as_bytes()))
        };
        if headers.iter().any(|(name, value)| ours(name, value)) {
            *headers = headers::less(headers, ours);
        }
    }

    fn is_credential(&self, text: &str) -> bool {
        text.starts_with(PREFIX)
            || self
                .oidc
                .as_ref()
                .is_some_and(|oidc| oidc.appears_in(text.as_bytes()))
    }

    async fn verify(&self, app: &App, token: &str, now: Micros) -> Result<Identity, IdentityError> {
        match &self.oidc {
            Some(oidc) if oidc::is_jwt(token) => oidc.verify(token, now).await,
            _ => {
                let found = app.tokens.find(token, now).await;
                let record = found.map_err(|error| {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "a token could not be looked up");
                    IdentityError::Unavailable
                })?;
                Ok(Identity::from(&*record.ok_or(IdentityError::Unknown)?))
            }
        }
    }

    /// The user that a trusted front proxy names. `distrust` has been here before.
    fn named(&self, headers: &HeaderMap) -> Option<Identity> {
        let trusted = self.trusted.as_ref()?;
        let mut values = headers.get_all(&trusted.header).iter();
        let user = values.next()?.to_str().ok().and_then(oidc::name)?;
        // Two names would be one too many to choose from.
        if values.next().is_some() {
            return None;
        }
        let listed = trusted
            .groups_header
            .iter()
            .flat_map(|name| headers.get_all(name));
        let names = listed
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','));
        Some(Identity {
            user,
            role: Role::Member,
            groups: groups(names),
            proof: Proof::Header,
        })
    }
}

fn groups<'a>(names: impl Iterator<Item = &'a str>) -> Arc<[Arc<str>]> {
    names.filter_map(oidc::name).take(oidc::most_groups()).collect()
}

/// Finds the sender of a request on the bridge's own listener; `Sources::distrust` must have been here before.
///
/// # Errors
/// There is no gateway credential, or it is not good.
pub async fn from_headers(app: &App, headers: &HeaderMap) -> Result<Identity, IdentityError> {
    let (snapshot, now) = (app.snapshot(), app.clock.micros());
    let sources = &snapshot.identity;
    match gateway_token(headers, |text| sources.is_credential(text)) {
        Some(token) => sources.verify(app, token, now).await,
        None => sources.named(headers).ok_or(IdentityError::Missing),
    }
}

/// Finds the sender at the proxy port, whose address is `peer`: by `Proxy-Authorization`, Basic (the password is the
/// token, the user name is ignored) or Bearer, or by the word of a trusted front proxy.
///
/// # Errors
/// There is no credential of these schemes, or it is not good.
pub async fn at_proxy(app: &App, headers: &HeaderMap, peer: IpAddr) -> Result<Identity, IdentityError> {
    let (snapshot, now) = (app.snapshot(), app.clock.micros());
    let sources = &snapshot.identity;
    let value = headers.get(PROXY_AUTHORIZATION).map(http::HeaderValue::as_bytes);
    if let Some(token) = value.and_then(proxy_token) {
        return sources.verify(app, &token, now).await;
    }
    let trusted = sources
        .trusted
        .as_ref()
        .is_some_and(|trusted| trusted.trusts(peer));
    let named = trusted.then(|| sources.named(headers)).flatten();
    named.ok_or(IdentityError::Missing)
}

fn gateway_token(headers: &HeaderMap, is_credential: impl Fn(&str) -> bool) -> Option<&str> {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    if let Some(token) = text(headers::GATEWAY_TOKEN) {
        return Some(token);
    }
    let bearer = text(AUTHORIZATION).and_then(|value| credential(value, "bearer"));
    [bearer, text(headers::X_API_KEY)]
        .into_iter()
        .flatten()
        .find(|token| is_credential(token))
}

fn proxy_token(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?.trim();
    if let Some(token) = credential(value, "bearer") {
        return Some(token.to_owned());
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(credential(value, "basic")?)
        .ok()?;
    let pair = String::from_utf8(decoded).ok()?;
    let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
    // Some clients can only be given a user name.
    let token = if password.is_empty() { user } else { password };
    (!token.is_empty()).then(|| token.to_owned())
}

/// The credential of `value` when its scheme (case-insensitive, RFC 9110 section 11.1) is `scheme`.
pub(crate) fn credential<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    (found.eq_ignore_ascii_case(scheme) && !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_credentials_come_in_several_forms() {
        let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
        for (value, want) in [
            (basic("x:cw_1"), Some("cw_1")),
            (basic("cw_1:"), Some("cw_1")),
            (basic("cw_1"), Some("cw_1")),
            (basic(":"), None),
            ("BEARER cw_1".to_owned(), Some("cw_1")),
            ("Basic !!!".to_owned(), None),
            ("Negotiate abc".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(proxy_token(value.as_bytes()).as_deref(), want, "{value}");
        }
    }

    #[test]
    fn a_users_key_is_not_taken_for_a_gateway_token() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer sk-user".parse().unwrap());
        assert_eq!(gateway_token(&headers, |text| text.starts_with(PREFIX)), None);
        headers.insert(headers::X_API_KEY, "cw_key".parse().unwrap());
        assert_eq!(
            gateway_token(&headers, |text| text.starts_with(PREFIX)),
            Some("cw_key")
        );
        headers.insert(headers::GATEWAY_TOKEN, "cw_own".parse().unwrap());
        assert_eq!(
            gateway_token(&headers, |text| text.starts_with(PREFIX)),
            Some("cw_own")
        );
    }
}
