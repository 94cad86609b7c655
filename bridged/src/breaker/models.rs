//! The breakers of an instance's models: upstreams overload model by model.
//!
//! Clients choose model names, so a breaker is made only when a model fails for the first time, and there is an end
//! to how many there are: idle ones make way, and a model past that has none, so that it cannot harm the others.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use providers::Api;

use super::{Breaker, Condition, Permit, Phase, Rules, now};

/// Models of one instance that have breakers of their own.
const MOST: usize = 256;
/// Longest model name that gets a breaker of its own, in bytes.
const LONGEST: usize = 128;

type Key = (Api, Arc<str>);

/// The breakers of an instance's models.
#[derive(Debug)]
pub(crate) struct Models {
    breakers: RwLock<HashMap<Key, Arc<Breaker>>>,
}

/// One request's view of its model's breaker, which may not exist yet.
#[derive(Debug)]
pub(crate) enum Watched {
    /// The model has failed before.
    Known(Permit),
    /// It has not, or not for long.
    New,
}

impl Watched {
    /// Whether the request holds one of the few places of a recovery.
    pub(crate) fn is_probe(&self) -> bool {
        matches!(self, Watched::Known(permit) if permit.probe)
    }
}

impl Models {
    pub(crate) fn new() -> Models {
        Models {
            breakers: RwLock::default(),
        }
    }

    /// Lets a request go.
    ///
    /// # Errors
    /// How long nobody should ask for this model again.
    pub(crate) fn admit(&self, api: Api, model: Option<&str>) -> Result<Watched, Duration> {
        let known = {
            let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
            if breakers.is_empty() {
                return Ok(Watched::New);
            }
            key(api, model).and_then(|key| breakers.get(&key).cloned())
        };
        match known {
            Some(breaker) => breaker.admit().map(Watched::Known),
            None => Ok(Watched::New),
        }
    }

    /// What is left of a model's wait, if its breaker is open.
    pub(crate) fn left_alone(&self, api: Api, model: Option<&str>) -> Option<Duration> {
        let known = {
            let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
            breakers.get(&key(api, model)?).cloned()
        };
        let Condition { phase, wait } = known?.condition();
        (phase == Phase::Open && !wait.is_zero()).then_some(wait)
    }

    /// The breaker of a model that fails; `make` makes one for the model's name. `None` past the bounds.
    pub(crate) fn of_failing(
        &self,
        api: Api,
        model: Option<&str>,
        make: impl FnOnce(&str) -> Breaker,
    ) -> Option<Arc<Breaker>> {
        let key = key(api, model)?;
        let mut breakers = self.breakers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = breakers.get(&key) {
            return Some(known.clone());
        }
        if breakers.len() >= MOST {
            breakers.retain(|_, breaker| !breaker.lock().is_idle(now()));
        }
        if breakers.len() >= MOST {
            return None;
        }
        let made = Arc::new(make(&key.1));
        breakers.insert(key, made.clone());
        Some(made)
    }

    /// Goes on under other rules.
    pub(crate) fn obey(&self, rules: Rules) {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        breakers.values().for_each(|breaker| breaker.obey(rules));
    }

    /// Every breaker there is.
    pub(crate) fn conditions(&self) -> Vec<(Api, Arc<str>, Condition)> {
        let breakers = self.breakers.read().unwrap_or_else(PoisonError::into_inner);
        let each = breakers.iter();
        each.map(|((api, model), breaker)| (*api, model.clone(), breaker.condition()))
            .collect()
    }
}

fn key(api: Api, model: Option<&str>) -> Option<Key> {
    let model = model.unwrap_or("unknown");
    (model.len() <= LONGEST).then(|| (api, Arc::from(model)))
}
