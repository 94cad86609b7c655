//! How an instance is doing: its breakers, its keys' health, its users' quotas, its last error.
//!
//! `Health` belongs to an instance's name, not to its configuration: `Healths` keeps it for the next snapshot to take
//! over. Transport failures count against the instance, overload against one model of one API, and neither 4xx nor
//! 429 against anybody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use providers::{Api, throttle};

use super::UpstreamError;
use crate::breaker::{Breaker, Condition, Models, Permit, Rules, Scope, Watched};
use crate::clock::{Clock, Micros};
use crate::credential::{KeyBook, Quotas};
use crate::metrics::Metrics;

/// The health of every instance that there has been, by name.
#[derive(Debug)]
pub struct Healths {
    metrics: Arc<Metrics>,
    clock: Clock,
    known: Mutex<HashMap<Arc<str>, Arc<Health>>>,
}

impl Healths {
    /// Knows no instance yet.
    pub fn new(metrics: Arc<Metrics>, clock: Clock) -> Healths {
        Healths {
            metrics,
            clock,
            known: Mutex::default(),
        }
    }

    /// The health of an instance, which from now on goes by `rules`.
    pub fn of(&self, name: &Arc<str>, rules: Rules) -> Arc<Health> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(health) = known.get(name) {
            health.obey(rules);
            return health.clone();
        }
        let made = Arc::new(Health::new(name, rules, self.metrics.clone(), self.clock.clone()));
        known.insert(name.clone(), made.clone());
        made
    }
}

/// How one instance is doing.
#[derive(Debug)]
pub struct Health {
    name: Arc<str>,
    rules: RwLock<Rules>,
    instance: Arc<Breaker>,
    models: Models,
    pub(crate) keys: Arc<KeyBook>,
    pub(crate) quotas: Quotas,
    last_error: Mutex<Option<LastError>>,
    in_flight: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// What went wrong last, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastError {
    /// One word.
    pub kind: &'static str,
    /// The status, where there was one.
    pub status: Option<u16>,
    /// When.
    pub at: Micros,
}

/// A request that is under way, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    fn new(name: &Arc<str>, rules: Rules, metrics: Arc<Metrics>, clock: Clock) -> Health {
        let scope = Scope {
            provider: name.clone(),
            endpoint: "*",
            model: Arc::from("*"),
        };
        let handles = metrics.breaker(&scope.provider, scope.endpoint, &scope.model);
        Health {
            name: name.clone(),
            rules: RwLock::new(rules),
            instance: Arc::new(Breaker::new(scope, rules, handles)),
            models: Models::new(),
            keys: Arc::new(KeyBook::new()),
            quotas: Quotas::new(),
            last_error: Mutex::default(),
            in_flight: Arc::default(),
            metrics,
            clock,
        }
    }

    fn obey(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        self.instance.obey(rules);
        self.models.obey(rules);
    }

    /// Lets a request go to the instance.
    ///
    /// # Errors
    /// How long nobody should ask again.
    pub(crate) fn admit(&self) -> Result<Permit, Duration> {
        self.instance.admit()
    }

    /// Lets a call of a model go.
    ///
    /// # Errors
    /// How long nobody should ask for this model again.
    pub(crate) fn admit_call(self: &Arc<Self>, api: Api, model: Option<&str>) -> Result<CallWatch, Duration> {
        let watched = self.models.admit(api, model)?;
        Ok(CallWatch {
            health: self.clone(),
            api,
            model: model.map(str::to_owned),
            watched: Some(watched),
        })
    }

    /// How long nobody should ask for a model, if its breaker is open. Takes no place of a recovery.
    pub(crate) fn left_alone(&self, api: Api, model: Option<&str>) -> Option<Duration> {
        self.models.left_alone(api, model)
    }

    /// Takes what came of sending a request.
    pub(super) fn judge<T>(&self, permit: Permit, sent: &Result<T, UpstreamError>) {
        match sent {
            Ok(_) => permit.succeeded(),
            Err(error) => {
                self.erred(error.kind(), None);
                if error.is_transport() {
                    permit.failed(None);
                }
            }
        }
    }

    /// Notes what went wrong.
    pub(crate) fn erred(&self, kind: &'static str, status: Option<u16>) {
        let at = self.clock.micros();
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(LastError { kind, status, at });
    }

    /// What went wrong last.
    pub fn last_error(&self) -> Option<LastError> {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.in_flight.clone())
    }

    /// Requests whose replies have not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The breaker of the instance itself.
    pub fn condition(&self) -> Condition {
        self.instance.condition()
    }

    /// The breakers of models that have failed.
    pub fn model_conditions(&self) -> Vec<(Api, Arc<str>, Condition)> {
        self.models.conditions()
    }

    fn model_breaker(&self, model: &str, api: Api) -> Breaker {
        let rules = *self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let scope = Scope {
            provider: self.name.clone(),
            endpoint: api.as_str(),
            model: self.metrics.model_label(model),
        };
        let handles = self
            .metrics
            .breaker(&scope.provider, scope.endpoint, &scope.model);
        Breaker::new(scope, rules, handles)
    }
}

/// A call under the eye of its model's breaker, from its admission until its reply tells how the model is doing.
#[derive(Debug)]
pub(crate) struct CallWatch {
    health: Arc<Health>,
    api: Api,
    model: Option<String>,
    /// `None` once the model has done its part.
    watched: Option<Watched>,
}

impl CallWatch {
    /// The reply's head has come. A probe's place is free from now on; whether a closed breaker counts a success is
    /// seen in the body.
    pub(crate) fn answered(mut self) -> CallWatch {
        if let Some(Watched::Known(permit)) = self.watched.take_if(|watched| watched.is_probe()) {
            permit.succeeded();
        }
        self
    }

    /// The reply has failed with a status of its own, perhaps after it had begun.
    pub(crate) fn failed_later(self, status: u16, wait: Option<Duration>) {
        if self.watched.is_some() {
            self.failed("status", Some(status), wait);
        } else {
            self.regret("status", Some(status));
        }
    }

    /// The model is overloaded, or broke off before its reply.
    pub(crate) fn failed(mut self, kind: &'static str, status: Option<u16>, wait: Option<Duration>) {
        self.health.erred(kind, status);
        match self.watched.take() {
            Some(Watched::Known(permit)) => permit.failed(wait),
            Some(Watched::New) => {
                let make = |model: &str| self.health.model_breaker(model, self.api);
                let breaker = self
                    .health
                    .models
                    .of_failing(self.api, self.model.as_deref(), make);
                if let Some(permit) = breaker.and_then(|breaker| breaker.admit().ok()) {
                    permit.failed(wait);
                }
            }
            None => {}
        }
    }

    /// The model's first content has passed.
    pub(crate) fn began(&mut self) {
        if let Some(Watched::Known(permit)) = self.watched.take() {
            permit.succeeded();
        }
    }

    /// The reply has ended: `completed` as it should, or with `error`, the provider's word for what went wrong.
    pub(crate) fn ended(mut self, completed: bool, error: Option<&str>) {
        match error {
            Some(kind) if throttle::is_overload(kind) => self.overloaded(),
            None if completed => self.began(),
            _ => {}
        }
    }

    fn overloaded(self) {
        if self.watched.is_some() {
            return self.failed("overloaded", None, None);
        }
        self.regret("overloaded", None);
    }

    /// A failure after a success has been reported.
    fn regret(self, kind: &'static str, status: Option<u16>) {
        self.health.erred(kind, status);
        let make = |model: &str| self.health.model_breaker(model, self.api);
        if let Some(breaker) = self
            .health
            .models
            .of_failing(self.api, self.model.as_deref(), make)
        {
            breaker.regret();
        }
    }
}
