//! The way of an AI call: which instance, with whose credential, and with the leave of its breakers.
//!
//! `find` admits a call before anything is recorded or sent; `again`, `another_key` and `elsewhere` prepare the next
//! attempt. Invariant: a call leaves its instance only with the other's own key, and only if it had a key of the
//! gateway's before; and what it takes is held where it goes before it is sent there.

use http::HeaderMap;
use providers::{Api, Endpoint, Route, Target, Transport};

use super::call::{Asking, Call};
use crate::admission::Admitted;
use crate::app::App;
use crate::breaker::Permit;
use crate::credential::{self, Credential};
use crate::record::CredentialKind;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;
use crate::upstream::{CallWatch, Upstream, UpstreamError};

/// Where a call goes, and how.
#[derive(Debug)]
pub(super) struct Way<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) target: Target,
    pub(super) credential: Credential,
    /// `None` where there is nothing to break: the instance is simulated.
    pub(super) leave: Option<Leave>,
    /// What the call holds of limits and budgets, those of this instance among them.
    pub(super) admitted: Admitted,
    app: &'a App,
    snapshot: &'a Snapshot,
    asking: Asking,
    api: Api,
    /// The path below the base URL of the instance that was asked, with its query.
    path: String,
    /// The instances still to be tried in its place.
    others: std::slice::Iter<'a, String>,
}

/// The leave of the breakers to send one request.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) instance: Permit,
    pub(super) call: CallWatch,
}

/// Finds a call's way, and puts the credential for it into its headers.
pub(super) fn find<'a>(
    (app, snapshot): (&'a App, &'a Snapshot),
    upstream: &'a Upstream,
    (route, api): (&Route, Api),
    call: &mut Call,
    (asking, admitted): (Asking, Admitted),
) -> Result<Way<'a>, Refusal> {
    let headers = &mut call.parts.headers;
    let chosen = credential::choose(upstream, headers, call.mode);
    // The instance has keys and none can be used: another may have one.
    let (credential, refused) = match chosen {
        Ok(mut credential) => {
            credential.identify(upstream, headers, &app.fingerprints);
            (credential, None)
        }
        Err(refusal @ (Refusal::KeysResting { .. } | Refusal::KeysRejected { .. })) => {
            (Credential::of(CredentialKind::Central), Some(refusal))
        }
        Err(refusal) => return Err(refusal),
    };
    let mut way = Way {
        upstream,
        target: route.target.clone(),
        credential,
        leave: None,
        admitted,
        app,
        snapshot,
        asking,
        api,
        path: below_base(upstream, &route.target.path_and_query).to_owned(),
        others: upstream.fallback.iter(),
    };
    let model = way.asking.model.as_deref();
    credential::check_quota(upstream, headers, model, &mut way.credential)?;
    let admitted = match refused {
        Some(refusal) => Err(refusal),
        None => way.again(),
    };
    match admitted {
        Ok(()) => Ok(way),
        Err(_) if way.elsewhere(headers) => Ok(way),
        Err(refusal) => Err(refusal),
    }
}

impl<'a> Way<'a> {
    /// Asks the breakers for leave to send on this way.
    pub(super) fn again(&mut self) -> Result<(), Refusal> {
        self.leave = self.ask(self.upstream)?;
        Ok(())
    }

    /// Takes the instance's next key.
    pub(super) fn another_key(&mut self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        self.credential.change(self.upstream, headers)?;
        self.again()
    }

    /// Goes to the next instance that may answer in this one's place; whether there is one.
    pub(super) fn elsewhere(&mut self, headers: &mut HeaderMap) -> bool {
        if self.credential.kind != CredentialKind::Central {
            return false;
        }
        while let Some(name) = self.others.next() {
            if self.move_to(name, headers).is_some() {
                tracing::info!(provider = %self.upstream.name, "a call falls back");
                return true;
            }
        }
        false
    }

    /// Whether any attempt can follow a failed one.
    pub(super) fn has_more(&self) -> bool {
        self.retries() > 0 || self.credential.kind == CredentialKind::Central
    }

    /// How often the instance may be asked again after it has failed.
    pub(super) fn retries(&self) -> u32 {
        let retry = &self.upstream.retry;
        match self.credential.kind {
            CredentialKind::Central => retry.attempts,
            _ if retry.byok => retry.attempts,
            _ => 0,
        }
    }

    fn move_to(&mut self, name: &str, headers: &mut HeaderMap) -> Option<()> {
        let providers = &self.snapshot.providers;
        let registry = &providers.registry;
        let route = registry
            .route_named(&http::Method::POST, name, &self.path)
            .ok()
            .filter(|route| route.endpoint == Endpoint::Bridged(self.api))?;
        let upstream = providers.upstream(route.index)?;
        // What can refuse comes first: a key that is put in must not be left there for another instance.
        let held = self
            .asking
            .admit_elsewhere(self.app, self.snapshot, upstream, &self.admitted)
            .ok()?;
        let leave = self.ask(upstream).ok()?;
        let credential = credential::move_to(upstream, headers).ok()?;
        self.admitted.become_of(held);
        self.upstream = upstream;
        self.target = route.target;
        self.credential = credential;
        self.leave = leave;
        Some(())
    }

    fn ask(&self, upstream: &Upstream) -> Result<Option<Leave>, Refusal> {
        if upstream.instance.kind.transport() == Transport::Simulated {
            return Ok(None);
        }
        let model = self.asking.model.as_deref();
        let call = upstream
            .health
            .admit_call(self.api, model)
            .map_err(|wait| Refusal::model_is_left_alone(upstream, model, wait))?;
        let instance = upstream.admit().map_err(|error| match error {
            UpstreamError::Open { wait } => Refusal::CircuitOpen {
                provider: upstream.name.to_string(),
                model: None,
                wait,
            },
            error => Refusal::Upstream {
                provider: upstream.name.to_string(),
                error,
            },
        })?;
        Ok(Some(Leave { instance, call }))
    }
}

/// What of a path lies below the instance's base URL.
fn below_base<'a>(upstream: &Upstream, path_and_query: &'a str) -> &'a str {
    let base = upstream.instance.base_url.path.as_str();
    path_and_query
        .strip_prefix(base)
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path_and_query)
}
