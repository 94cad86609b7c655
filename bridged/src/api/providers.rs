//! `/api/v1/providers`: how each instance is doing at the moment.
//!
//! Members learn which instances there are and whether they can be used; keys, errors and connections are for
//! auditors and admins. No key is ever shown, only its masked hint.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::Serialize;

use super::caller;
use super::problem::Problem;
use crate::app::App;
use crate::breaker::{Condition, Phase};
use crate::credential::KeyCondition;
use crate::token::Role;
use crate::upstream::{Connections, LastError, Upstream};

/// What the list answers: always one page.
#[derive(Debug, Serialize)]
pub(super) struct List {
    items: Vec<Provider>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Provider {
    name: String,
    kind: &'static str,
    enabled: bool,
    base_url_host: String,
    /// `closed`, `half_open` or `open`; absent where the instance is switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    detail: Option<Detail>,
}

/// What members are not told.
#[derive(Debug, Serialize)]
struct Detail {
    breakers: Vec<Breaker>,
    keys: Vec<Key>,
    fallback: Vec<String>,
    in_flight: usize,
    connections: Pool,
    last_error: Option<Failure>,
}

#[derive(Debug, Serialize)]
struct Breaker {
    /// `*` is the instance as a whole.
    endpoint: &'static str,
    model: String,
    state: &'static str,
    /// What is left of the wait.
    remaining_ms: u64,
}

#[derive(Debug, Serialize)]
struct Key {
    hint: String,
    state: &'static str,
    /// What is left of its rest.
    remaining_ms: u64,
}

#[derive(Debug, Serialize)]
struct Pool {
    shared: usize,
    idle: usize,
}

#[derive(Debug, Serialize)]
struct Failure {
    kind: &'static str,
    status: Option<u16>,
    at: String,
}

/// Answers the list.
pub(super) async fn providers(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<List>, Problem> {
    let identity = caller(&app, &headers).await?;
    let detailed = identity.role >= Role::Auditor;
    let snapshot = app.snapshot();
    let mut items: Vec<Provider> = snapshot
        .providers
        .upstreams()
        .map(|upstream| provider(upstream, detailed))
        .collect();
    items.extend(snapshot.config.disabled.iter().map(|config| Provider {
        name: config.instance.name.to_string(),
        kind: config.instance.kind.name(),
        enabled: false,
        base_url_host: config.instance.base_url.host.clone(),
        state: None,
        detail: None,
    }));
    Ok(Json(List { items, next: None }))
}

fn provider(upstream: &Upstream, detailed: bool) -> Provider {
    Provider {
        name: upstream.name.to_string(),
        kind: upstream.instance.kind.name(),
        enabled: true,
        base_url_host: upstream.instance.base_url.host.clone(),
        state: Some(upstream.health.condition().phase.as_str()),
        detail: detailed.then(|| detail(upstream)),
    }
}

fn detail(upstream: &Upstream) -> Detail {
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
    Detail {
        breakers,
        keys: keys.iter().map(|one| key(one.hint(), one.condition())).collect(),
        fallback: upstream.fallback.clone(),
        in_flight: health.in_flight(),
        connections: Pool { shared, idle },
        last_error: health.last_error().map(failure),
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
