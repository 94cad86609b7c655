//! `/api/v1/providers`: how each instance is doing at the moment.
//!
//! Members learn which instances there are and whether they can be used; keys, errors and connections are for
//! auditors and admins. No key is ever shown, only its masked hint.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::query::Asked;
use super::records::List;
use crate::app::App;
use crate::breaker::{Condition, Phase};
use crate::credential::KeyCondition;
use crate::token::Role;
use crate::troubles::Trouble;
use crate::upstream::{Connections, LastError, Upstream};

/// A provider instance.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Provider {
    /// The instance's name.
    name: String,
    /// Its kind.
    kind: &'static str,
    /// Whether it is switched on.
    enabled: bool,
    /// The host of its base URL.
    base_url_host: String,
    /// `closed`, `half_open` or `open`; absent where the instance is switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    state: Option<&'static str>,
    /// The breakers of the instance and of its models. This and what follows is for auditors and admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Breaker>, required = false)]
    breakers: Option<Vec<Breaker>>,
    /// The gateway's own keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Key>, required = false)]
    keys: Option<Vec<Key>>,
    /// The instances that are asked instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    fallback: Option<Vec<String>>,
    /// Requests under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = usize, required = false)]
    in_flight: Option<usize>,
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Pool, required = false)]
    connections: Option<Pool>,
    /// What went wrong last; null where nothing has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Failure>, required = false)]
    last_error: Option<Option<Failure>>,
    /// Why clients did not get to it lately, the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Trouble>, required = false)]
    troubles: Option<Vec<Trouble>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Breaker {
    /// The API; `*` is the instance as a whole.
    endpoint: &'static str,
    /// The model, or `*`.
    model: String,
    /// `closed`, `half_open` or `open`.
    state: &'static str,
    /// What is left of the wait.
    remaining_ms: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Key {
    /// Masked.
    hint: String,
    /// `usable`, `resting` or `rejected`.
    state: &'static str,
    /// What is left of its rest.
    remaining_ms: u64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Pool {
    /// HTTP/2 connections, which calls share.
    shared: usize,
    /// HTTP/1.1 connections that wait for a call.
    idle: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct Failure {
    /// What went wrong, in one word.
    kind: &'static str,
    /// The provider's status, if it gave one.
    status: Option<u16>,
    /// RFC 3339.
    at: String,
}

/// Answers the list: always one page.
pub(super) async fn providers(State(app): State<Arc<App>>, asked: Asked) -> Json<List<Provider>> {
    let detailed = asked.caller.role >= Role::Auditor;
    let snapshot = app.snapshot();
    let troubles = app.troubles.list();
    let upstreams = snapshot.providers.upstreams();
    let mut items: Vec<Provider> = upstreams
        .map(|upstream| {
            let provider = provider(upstream);
            if detailed {
                detail(provider, upstream, &troubles)
            } else {
                provider
            }
        })
        .collect();
    items.extend(snapshot.config.disabled.iter().map(|config| Provider {
        name: config.instance.name.to_string(),
        kind: config.instance.kind.name(),
        base_url_host: config.instance.base_url.host.clone(),
        ..Provider::default()
    }));
    Json(List::from((items, None::<String>)))
}

fn provider(upstream: &Upstream) -> Provider {
    Provider {
        name: upstream.name.to_string(),
        kind: upstream.instance.kind.name(),
        enabled: true,
        base_url_host: upstream.instance.base_url.host.clone(),
        state: Some(upstream.health.condition().phase.as_str()),
        ..Provider::default()
    }
}

/// Adds what members are not told.
fn detail(provider: Provider, upstream: &Upstream, troubles: &[Trouble]) -> Provider {
    let health = &upstream.health;
    let mut breakers = vec![breaker("*", "*".to_owned(), health.condition())];
    let mut models = health.model_conditions();
    models.sort_by(|one, other| (one.0.as_str(), &one.1).cmp(&(other.0.as_str(), &other.1)));
    // Those that are closed again say nothing that `*` does not.
    models.retain(|(_, _, condition)| condition.phase != Phase::Closed);
    breakers.extend(
        models
            .into_iter()
            .map(|(api, model, condition)| breaker(api.as_str(), model.to_string(), condition)),
    );
    let keys = upstream.keys.keys();
    let Connections { shared, idle } = upstream.connections();
    Provider {
        breakers: Some(breakers),
        keys: Some(keys.iter().map(|one| key(one.hint(), one.condition())).collect()),
        fallback: Some(upstream.fallback.clone()),
        in_flight: Some(health.in_flight()),
        connections: Some(Pool { shared, idle }),
        last_error: Some(health.last_error().map(failure)),
        troubles: Some(
            troubles
                .iter()
                .filter(|trouble| upstream.claims(&trouble.host))
                .cloned()
                .collect(),
        ),
        ..provider
    }
}

fn breaker(endpoint: &'static str, model: String, condition: Condition) -> Breaker {
    Breaker {
        endpoint,
        model,
        state: condition.phase.as_str(),
        remaining_ms: millis(condition.wait),
    }
}

fn key(hint: &str, condition: KeyCondition) -> Key {
    let rest = match condition {
        KeyCondition::Resting(rest) => rest,
        KeyCondition::Usable | KeyCondition::Rejected => Duration::ZERO,
    };
    Key {
        hint: hint.to_owned(),
        state: condition.as_str(),
        remaining_ms: millis(rest),
    }
}

fn failure(error: LastError) -> Failure {
    Failure {
        kind: error.kind,
        status: error.status,
        at: error.at.rfc3339(),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
