//! JSON web tokens of an OpenID Connect issuer (RFC 7519), as proof of identity.
//!
//! In comes a token, out comes the identity that its claims map to. Only asymmetric signatures of the issuer's own
//! keys count, `iss`, `aud` and `exp` must be there and right, `nbf` must be past. What was verified is remembered
//! by the token's SHA-256 until it expires. Invariant: nothing is believed of a token before its signature.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, Validation};
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio_util::task::TaskTracker;

use super::keys::Keys;
use super::{Identity, IdentityError, Proof};
use crate::clock::Micros;
use crate::config::OidcConfig;
use crate::token::Role;
use crate::upstream::Trust;

/// Longest token, in bytes. Some issuers list hundreds of groups.
const LONGEST: usize = 16 << 10;
/// Tokens that are remembered.
const REMEMBERED: usize = 10_000;
/// Longest user or group name, in bytes.
const LONGEST_NAME: usize = 256;
/// Most groups of a user.
const MOST_GROUPS: usize = 256;
/// Keys tried for a token that names none.
const MOST_TRIES: usize = 8;
/// What every JSON web token begins with: `{"` in base64.
const BEGIN: &[u8] = b"eyJ";

/// Why a token is not good. Goes to the log only.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("it is longer than {LONGEST} bytes")]
    Long,
    #[error("its signature or form is wrong")]
    Form(#[from] jsonwebtoken::errors::Error),
    #[error("its algorithm is not one of public keys")]
    Algorithm,
    #[error("it demands what is not understood (crit)")]
    Critical,
    #[error("its key is not known")]
    Key,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is not good at this time")]
    Time,
    #[error("the claim `{0}` names no user")]
    User(String),
}

/// An issuer with what is known of it.
#[derive(Debug)]
pub(super) struct Oidc {
    config: OidcConfig,
    keys: Keys,
    verified: Cache<[u8; 32], Verified>,
}

#[derive(Clone, Debug)]
struct Verified {
    identity: Identity,
    expires_at: Micros,
}

impl Oidc {
    pub(super) fn new(config: OidcConfig, trust: Trust, tracker: TaskTracker) -> Oidc {
        Oidc {
            config,
            keys: Keys::new(trust, tracker),
            verified: Cache::new(REMEMBERED),
        }
    }

    pub(super) fn config(&self) -> &OidcConfig {
        &self.config
    }

    /// Fetches the keys again if they are old.
    pub(super) async fn keep_fresh(&self) {
        if self.keys.keep_fresh(&self.config).await {
            self.verified.clear();
        }
    }

    /// Finds whom `token` is about.
    pub(super) async fn verify(&self, token: &str, now: Micros) -> Result<Identity, IdentityError> {
        let hash = crate::token::hash(token);
        if let Some(known) = self.verified.get(&hash).filter(|known| now < known.expires_at) {
            return Ok(known.identity);
        }
        match self.check(token, now).await {
            Ok(verified) => {
                self.verified.insert(hash, verified.clone());
                Ok(verified.identity)
            }
            Err(TokenError::Key) if self.keys.is_empty() => Err(IdentityError::Unavailable),
            Err(error) => {
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    "a JSON web token is refused"
                );
                Err(IdentityError::Unknown)
            }
        }
    }

    async fn check(&self, token: &str, now: Micros) -> Result<Verified, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Long);
        }
        let head = jsonwebtoken::decode_header(token)?;
        if head.alg.family() == AlgorithmFamily::Hmac {
            return Err(TokenError::Algorithm);
        }
        if head.extras.inner().contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let claims = self.verified_claims(token, head.kid.as_deref(), head.alg).await?;
        self.identity(&claims, now)
    }

    async fn verified_claims(
        &self,
        token: &str,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Map<String, Value>, TokenError> {
        let mut fitting = self.keys.fitting(id, algorithm);
        if fitting.is_empty() {
            // The provider may have changed its keys; what was verified with the old ones is verified again.
            if self.keys.refresh(&self.config).await {
                self.verified.clear();
            }
            fitting = self.keys.fitting(id, algorithm);
        }
        let mut refused = TokenError::Key;
        for key in fitting.iter().take(MOST_TRIES) {
            match jsonwebtoken::decode(token, key.verifying(), &self.validation(algorithm)) {
                Ok(found) => return Ok(found.claims),
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }

    /// Times are checked in `identity`, by the process's own clock.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&self.config.audience);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    fn identity(&self, claims: &Map<String, Value>, now: Micros) -> Result<Verified, TokenError> {
        let config = &self.config;
        if claims.get("iss").and_then(Value::as_str) != Some(&config.issuer) {
            return Err(TokenError::Issuer);
        }
        let date = |name| {
            claims
                .get(name)
                .map(|value| date(value).ok_or(TokenError::Time))
                .transpose()
        };
        let expires_at = date("exp")?.ok_or(TokenError::Time)?.plus(config.leeway);
        let begins = date("nbf")?.unwrap_or(now);
        if now >= expires_at || begins > now.plus(config.leeway) {
            return Err(TokenError::Time);
        }
        let user = find(claims, &config.user_claim)
            .and_then(Value::as_str)
            .and_then(name)
            .ok_or_else(|| TokenError::User(config.user_claim.clone()))?;
        let words =
            |claim: &Option<String>| claim.as_deref().and_then(|claim| find(claims, claim)).map(words);
        let role = words(&config.roles_claim)
            .unwrap_or_default()
            .iter()
            .filter_map(|word| config.roles.get(*word).copied())
            .max();
        Ok(Verified {
            identity: Identity {
                user,
                role: role.unwrap_or(Role::Member),
                groups: super::groups(words(&config.groups_claim).unwrap_or_default().into_iter()),
                proof: Proof::Jwt { expires_at },
            },
            expires_at,
        })
    }

    /// Whether `value` holds a token of this issuer, good or not.
    pub(super) fn appears_in(&self, value: &[u8]) -> bool {
        let mut rest = value;
        while let Some(at) = rest.windows(BEGIN.len()).position(|window| window == BEGIN) {
            let (_, begin) = rest.split_at(at);
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
            let end = begin
                .iter()
                .position(|byte| !is_part(byte))
                .unwrap_or(begin.len());
            let (token, behind) = begin.split_at(end);
            if self.is_issuer_of(token) {
                return true;
            }
            rest = behind;
        }
        false
    }

    fn is_issuer_of(&self, token: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Claims<'a> {
            #[serde(borrow)]
            iss: Option<std::borrow::Cow<'a, str>>,
        }
        let payload = token.split(|byte| *byte == b'.').nth(1).unwrap_or_default();
        URL_SAFE_NO_PAD.decode(payload).is_ok_and(|json| {
            serde_json::from_slice::<Claims<'_>>(&json)
                .is_ok_and(|claims| claims.iss.as_deref() == Some(&self.config.issuer))
        })
    }
}

/// Whether a text has the form of a JSON web token.
pub(super) fn is_jwt(text: &str) -> bool {
    text.as_bytes().starts_with(BEGIN) && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Seconds since the epoch, whole or not (RFC 7519 section 2, NumericDate).
fn date(value: &Value) -> Option<Micros> {
    let seconds = value.as_f64().filter(|seconds| seconds.abs() < 1e11)?;
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    Some(Micros((seconds * 1e6) as i64))
}

/// A claim by name, or by its way through objects: `realm_access.roles`.
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

/// The words of a claim: a list of texts, or one text with spaces between (RFC 8693 section 4.2).
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_ascii_whitespace().collect(),
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A name that may stand in records: not empty, not too long, nothing invisible.
pub(super) fn name(text: &str) -> Option<Arc<str>> {
    let text = text.trim();
    let fine = !text.is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
    fine.then(|| Arc::from(text))
}

/// How many groups are kept of what a proof of identity names.
pub(super) const fn most_groups() -> usize {
    MOST_GROUPS
}
