//! Whose credential goes upstream: the user's own (BYOK), untouched, or a key of the gateway's.
//!
//! Works on headers that have passed `headers::to_upstream`: what credential is left there is the user's.
//! Invariant: a key of the gateway's goes to the instance it belongs to and is inserted nowhere else.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use providers::KeyHeader;

use crate::config::Byok;
use crate::headers::X_API_KEY;
use crate::record::{CredentialKind, Mode};
use crate::refusal::Refusal;
use crate::secret::{Secret, mask};
use crate::upstream::Upstream;

/// What is recorded of a credential.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) kind: CredentialKind,
    pub(crate) hint: String,
}

/// Decides on the credential and puts the gateway's key into `headers` where that is the one.
pub(crate) fn choose(upstream: &Upstream, headers: &mut HeaderMap, mode: Mode) -> Result<Credential, Refusal> {
    let own = hint_of_own(headers);
    match (upstream.byok, own) {
        (Byok::Allow | Byok::Require, Some(hint)) => Ok(Credential { kind: CredentialKind::Byok, hint }),
        (Byok::Require, None) => Err(missing(upstream)),
        (Byok::Allow | Byok::Deny, _) => match (upstream.keys.first(), mode) {
            (Some(key), _) => central(upstream, headers, key),
            // In proxy mode the request stays what the client made it: the provider says what is missing.
            (None, Mode::Proxy) => Ok(Credential { kind: CredentialKind::None, hint: String::new() }),
            (None, Mode::BaseUrl) => Err(missing(upstream)),
        },
    }
}

fn central(upstream: &Upstream, headers: &mut HeaderMap, key: &Secret) -> Result<Credential, Refusal> {
    let (name, text) = match upstream.instance.kind.key_header() {
        KeyHeader::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose())),
        KeyHeader::XApiKey => (X_API_KEY, key.expose().to_owned()),
        KeyHeader::None => return Err(missing(upstream)),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| missing(upstream))?;
    value.set_sensitive(true);
    headers.remove(AUTHORIZATION);
    headers.remove(X_API_KEY);
    headers.insert(name, value);
    Ok(Credential { kind: CredentialKind::Central, hint: mask(key.expose()) })
}

fn hint_of_own(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(X_API_KEY).or_else(|| headers.get(AUTHORIZATION))?;
    let text = value.to_str().unwrap_or_default().trim();
    // The scheme is no secret and says nothing of whose credential it is.
    let secret = text.split_once(' ').map_or(text, |(_, rest)| rest.trim());
    Some(mask(secret))
}

fn missing(upstream: &Upstream) -> Refusal {
    Refusal::NoCredential { provider: upstream.name.to_string() }
}
