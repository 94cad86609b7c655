//! Whose credential goes upstream: the user's own (BYOK), untouched, or a key of the gateway's.
//!
//! Works on headers that have passed `headers::to_upstream`: what credential is left there is the user's. `choose`
//! decides, `learn` takes the answer's lesson for the key, `change` puts the next key in. Invariant: a key of the
//! gateway's goes to the instance it belongs to and is inserted nowhere else; a user's own credential is never
//! exchanged for another and never goes to another instance than the one that was asked.

mod pool;
mod quota;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use providers::{Endpoint, throttle};

use crate::config::Byok;
use crate::fingerprint::{Fingerprints, Marks};
use crate::headers::X_API_KEY;
use crate::record::{CredentialKind, Mode};
use crate::refusal::Refusal;
use crate::secret::mask;
use crate::upstream::Upstream;

pub(crate) use pool::{Key, KeyBook, KeyCondition, KeyPool, NoKey};
pub(crate) use quota::{Mark, Quotas};

/// What is known of the credential that goes upstream.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) kind: CredentialKind,
    pub(crate) hint: String,
    /// By which it is recognised, if it is the user's own.
    pub(crate) marks: Marks,
    /// The gateway's keys that this request has used; the last is in its headers.
    used: Vec<Arc<Key>>,
    /// The user's own, where the operator wants spent quotas remembered.
    mark: Option<Mark>,
}

/// What an answer says about a key of the gateway's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// Nothing against it.
    None,
    /// Another may be luckier.
    TryAnother,
}

/// Whether a refused key may have been refused for what it was asked, rather than for what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An AI call, which every key is for.
    Call,
    /// Anything else, for which a key may lack the right: a user who asks it must not spoil the key for others.
    Other,
}

impl Asked {
    pub(crate) fn of(endpoint: Endpoint) -> Asked {
        match endpoint {
            Endpoint::Bridged(_) => Asked::Call,
            Endpoint::Passthrough => Asked::Other,
        }
    }
}

/// Names of headers by which a user or an account is known to one provider, besides the keys' own.
const ACCOUNT: [HeaderName; 7] = [
    COOKIE,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("openai-organization"),
    HeaderName::from_static("openai-project"),
    HeaderName::from_static("chatgpt-account-id"),
    HeaderName::from_static("x-amz-security-token"),
];

/// Decides on the credential and puts the gateway's key into `headers` where that is the one.
pub(crate) fn choose(
    upstream: &Upstream,
    headers: &mut HeaderMap,
    mode: Mode,
) -> Result<Credential, Refusal> {
    let own = own(upstream, headers);
    match (upstream.byok, own) {
        (Byok::Allow | Byok::Require, Some(secret)) => Ok(Credential {
            hint: mask(secret),
            ..Credential::of(CredentialKind::Byok)
        }),
        (Byok::Require, None) => Err(missing(upstream)),
        // In proxy mode the request stays what the client made it: the provider says what is missing.
        (Byok::Allow | Byok::Deny, _) if mode == Mode::Proxy && upstream.keys.is_empty() => {
            Ok(Credential::of(CredentialKind::None))
        }
        (Byok::Allow | Byok::Deny, _) => central(upstream, headers),
    }
}

/// Refuses where the user's own credential is known to be out of quota, and the operator wants that.
pub(crate) fn check_quota(
    upstream: &Upstream,
    headers: &HeaderMap,
    model: Option<&str>,
    credential: &mut Credential,
) -> Result<(), Refusal> {
    if !upstream.answer_429_locally || credential.kind != CredentialKind::Byok {
        return Ok(());
    }
    let quotas = &upstream.health.quotas;
    credential.mark = own(upstream, headers).and_then(|secret| quotas.mark(secret, model));
    match credential.mark.and_then(|mark| quotas.spent(mark)) {
        None => Ok(()),
        Some(wait) => Err(Refusal::QuotaSpent {
            provider: upstream.name.to_string(),
            wait,
        }),
    }
}

/// Makes a request one of the instance's own: with its key, and with nothing by which another provider knows the
/// user.
pub(crate) fn move_to(upstream: &Upstream, headers: &mut HeaderMap) -> Result<Credential, Refusal> {
    for name in ACCOUNT {
        headers.remove(name);
    }
    central(upstream, headers)
}

impl Credential {
    /// A credential that is not there yet.
    pub(crate) fn of(kind: CredentialKind) -> Credential {
        Credential {
            kind,
            hint: String::new(),
            marks: Marks::default(),
            used: Vec::new(),
            mark: None,
        }
    }

    /// The same credential, of which only what is recorded is known.
    pub(crate) fn shown(&self) -> Credential {
        Credential {
            hint: self.hint.clone(),
            marks: self.marks.clone(),
            ..Credential::of(self.kind)
        }
    }

    /// Notes by what the user's own credential, which is in `headers`, is recognised.
    pub(crate) fn identify(&mut self, upstream: &Upstream, headers: &HeaderMap, fingerprints: &Fingerprints) {
        if self.kind == CredentialKind::Byok
            && let Some(secret) = own(upstream, headers)
        {
            self.marks = fingerprints.marks(secret);
        }
    }

    /// Whether it is a key of the gateway's.
    pub(crate) fn has_key(&self) -> bool {
        !self.used.is_empty()
    }

    /// Takes what an answer with this status and these headers says about the credential.
    pub(crate) fn learn(
        &self,
        upstream: &Upstream,
        asked: Asked,
        (status, headers): (u16, &HeaderMap),
        now: SystemTime,
    ) -> Lesson {
        if status == 429
            && let Some(mark) = self.mark
        {
            upstream
                .health
                .quotas
                .remember(mark, throttle::rate_limit_wait(headers, now));
        }
        let Some(key) = self.used.last() else {
            return Lesson::None;
        };
        match status {
            429 => key.rest(throttle::rate_limit_wait(headers, now)),
            401 if asked == Asked::Call => key.reject(),
            401 => {}
            _ => return Lesson::None,
        }
        let (provider, hint) = (&upstream.name, key.hint());
        let state = key.condition().as_str();
        tracing::warn!(%provider, hint, status, state, "the provider refused a key");
        upstream.publish_keys();
        Lesson::TryAnother
    }

    /// Puts the instance's next key into `headers`, one that this request has not used.
    pub(crate) fn change(&mut self, upstream: &Upstream, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let found = upstream.keys.next(&self.used);
        let key = found.map_err(|none| out_of_keys(upstream, none))?;
        if !key.insert(headers) {
            return Err(missing(upstream));
        }
        self.hint = key.hint().to_owned();
        self.used.push(key);
        Ok(())
    }
}

fn central(upstream: &Upstream, headers: &mut HeaderMap) -> Result<Credential, Refusal> {
    let mut credential = Credential::of(CredentialKind::Central);
    credential.change(upstream, headers)?;
    Ok(credential)
}

fn out_of_keys(upstream: &Upstream, none: NoKey) -> Refusal {
    let provider = upstream.name.to_string();
    match none {
        NoKey::None => Refusal::NoCredential { provider },
        NoKey::Rejected => Refusal::KeysRejected { provider },
        NoKey::Resting(wait) => Refusal::KeysResting {
            provider,
            wait: wait.max(Duration::from_millis(1)),
        },
    }
}

/// The user's own credential without its scheme, which is no secret and says nothing of whose it is.
fn own<'h>(upstream: &Upstream, headers: &'h HeaderMap) -> Option<&'h str> {
    let named = upstream.key_header.as_ref().and_then(|name| headers.get(name));
    let value = named
        .or_else(|| headers.get(X_API_KEY))
        .or_else(|| headers.get(AUTHORIZATION))?;
    let text = value.to_str().unwrap_or_default().trim();
    Some(text.split_once(' ').map_or(text, |(_, rest)| rest.trim()))
}

fn missing(upstream: &Upstream) -> Refusal {
    Refusal::NoCredential {
        provider: upstream.name.to_string(),
    }
}
