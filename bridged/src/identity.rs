//! Who sends a request, and which of its headers say so.
//!
//! In proxy mode the identity comes from `Proxy-Authorization` at CONNECT and is carried by the connection. In
//! base-URL mode it is the first gateway token found in `X-Coder-AI-Governance-Token`,
//! `Authorization: Bearer` or `x-api-key`; what is not a gateway token there belongs to the user.

use std::sync::Arc;

use base64::Engine;
use http::{HeaderMap, HeaderName};
use http::header::AUTHORIZATION;
use uuid::Uuid;

use crate::clock::Micros;
use crate::headers;
use crate::token::{PREFIX, Role, TokenRecord, Tokens};

/// A known sender.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The user's name.
    pub user: Arc<str>,
    /// What the user may do.
    pub role: Role,
    /// The token that proved it.
    pub token: Uuid,
}

impl From<&TokenRecord> for Identity {
    fn from(record: &TokenRecord) -> Identity {
        Identity { user: record.user.clone(), role: record.role, token: record.id }
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
}

/// Finds the sender of a request on the bridge's own listener.
///
/// # Errors
/// There is no gateway token, or it is not good.
pub async fn from_headers(tokens: &Tokens, headers: &HeaderMap, now: Micros) -> Result<Identity, IdentityError> {
    let token = gateway_token(headers).ok_or(IdentityError::Missing)?;
    verify(tokens, token, now).await
}

/// Finds the sender named by a `Proxy-Authorization` value: Basic (the password is the token, the user name is
/// ignored) or Bearer.
///
/// # Errors
/// There is no credential of these two schemes, or the token in it is not good.
pub async fn from_proxy_authorization(
    tokens: &Tokens,
    value: Option<&[u8]>,
    now: Micros,
) -> Result<Identity, IdentityError> {
    let token = value.and_then(proxy_token).ok_or(IdentityError::Missing)?;
    verify(tokens, &token, now).await
}

async fn verify(tokens: &Tokens, token: &str, now: Micros) -> Result<Identity, IdentityError> {
    let record = tokens.find(token, now).await.ok_or(IdentityError::Unknown)?;
    Ok(Identity::from(&*record))
}

fn gateway_token(headers: &HeaderMap) -> Option<&str> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(token) = text(headers::GATEWAY_TOKEN) {
        return Some(token);
    }
    let bearer = text(AUTHORIZATION).and_then(|value| credential(value, "bearer"));
    [bearer, text(headers::X_API_KEY)].into_iter().flatten().find(|token| token.starts_with(PREFIX))
}

fn proxy_token(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?.trim();
    if let Some(token) = credential(value, "bearer") {
        return Some(token.to_owned());
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(credential(value, "basic")?).ok()?;
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
        assert_eq!(gateway_token(&headers), None);
        headers.insert(headers::X_API_KEY, "cw_key".parse().unwrap());
        assert_eq!(gateway_token(&headers), Some("cw_key"));
        headers.insert(headers::GATEWAY_TOKEN, "cw_own".parse().unwrap());
        assert_eq!(gateway_token(&headers), Some("cw_own"));
    }
}
