//! Limits: how many requests at once, how many a second, how many tokens a minute, for whom.

use std::sync::Arc;

use tokio::time::Instant;

use super::Denied;
use super::meter::{Caps, Full, Meter, Meters};
use super::scope::{Per, Scope, Subject};

/// One `[[limit]]` as it was configured.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitConfig {
    /// Whom it is about.
    pub scope: Scope,
    /// What shares one counter.
    pub per: Per,
    /// What it allows.
    pub caps: Caps,
}

/// A limit with its counters.
#[derive(Debug)]
pub(super) struct Limit {
    config: LimitConfig,
    meters: Arc<Meters>,
}

/// A place that is taken, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    meter: Arc<Meter>,
    /// Tokens taken by estimate, where the limit counts them.
    tokens: Option<u64>,
}

impl Limit {
    /// A limit that goes on counting where the first of `previous` about the same stopped, which is taken out.
    pub(super) fn new(config: LimitConfig, previous: &mut Vec<&Limit>) -> Limit {
        let same = |old: &&Limit| old.config.scope == config.scope && old.config.per == config.per;
        let found = previous.iter().position(same).map(|index| previous.remove(index));
        let meters = found.map_or_else(Arc::default, |old| old.meters.clone());
        Limit { config, meters }
    }

    /// Takes a place on every counter that `subject` uses.
    pub(super) fn enter(
        &self,
        subject: Subject<'_>,
        tokens: u64,
        at: (&Arc<str>, Instant),
        places: &mut Vec<Place>,
    ) -> Result<(), Denied> {
        self.enter_beside((&[], &mut Vec::new()), subject, tokens, at, places)
    }

    /// The same for a call that holds places: one on a counter where it has a place already is not taken again, but
    /// noted.
    pub(super) fn enter_beside(
        &self,
        (held, kept): (&[Place], &mut Vec<usize>),
        subject: Subject<'_>,
        tokens: u64,
        (all, now): (&Arc<str>, Instant),
        places: &mut Vec<Place>,
    ) -> Result<(), Denied> {
        let LimitConfig { scope, per, caps } = &self.config;
        if !scope.covers(subject) {
            return Ok(());
        }
        per.each(scope, subject, all, |name| {
            let meter = self.meters.of(name, caps, now).ok_or(Denied::Crowded)?;
            if let Some(at) = held.iter().position(|place| Arc::ptr_eq(&place.meter, &meter)) {
                kept.push(at);
                return Ok(());
            }
            meter.enter(caps, tokens, now).map_err(|full| self.denied(full))?;
            places.push(Place {
                meter,
                tokens: caps.tokens.map(|_| tokens),
            });
            Ok(())
        })
    }

    pub(super) fn forget_idle(&self, now: Instant) {
        self.meters.forget_idle(&self.config.caps, now);
    }

    fn denied(&self, full: Full) -> Denied {
        let (per, caps) = (self.config.per, &self.config.caps);
        match full {
            Full::Concurrent => Denied::Concurrency {
                per,
                most: caps.concurrent.unwrap_or_default(),
            },
            Full::Rate(wait) => Denied::Rate { per, wait },
            Full::Tokens(wait) => Denied::Tokens {
                per,
                most: caps.tokens.unwrap_or_default(),
                wait,
            },
        }
    }
}

impl Place {
    /// Replaces the estimate by what was used.
    pub(super) fn settle(&mut self, used: u64) {
        if let Some(estimated) = self.tokens.take() {
            self.meter.settle(estimated, used);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.settle(0);
        self.meter.leave();
    }
}
