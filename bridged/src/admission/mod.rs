//! May this call be made now? Permission, limits and budgets, asked in this order, once for each call of a model.
//!
//! In comes who asks for what (`Facts`); out comes `Admitted`, which holds what the call takes until it is
//! settled or dropped, or `Denied`. Everything is compiled when the configuration is loaded and answered from
//! memory, in microseconds and without waiting. Invariant: what one call took is given back or settled exactly
//! once, however the call ends.

mod budget;
mod denied;
mod limit;
mod load;
mod meter;
mod period;
mod permission;
mod scope;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Micros;
use crate::identity::Identity;
use crate::store::Warning;

pub use budget::{BudgetConfig, Entry, Spent};
pub use denied::Denied;
pub use limit::LimitConfig;
pub use load::{Load, ShedConfig};
pub use meter::{Caps, Meter, Rate};
pub use period::Period;
pub use permission::{Policy, Rule};
pub use scope::{Per, Scope, Subject};

use budget::{Budget, Reservation};
use limit::{Limit, Place};

/// Everything that decides, as configured.
#[derive(Clone, Debug, Default)]
pub struct AdmissionConfig {
    /// Which models may be used.
    pub policy: Policy,
    /// How much at once and over time.
    pub limits: Vec<LimitConfig>,
    /// How much in a day, a week or a month.
    pub budgets: Vec<BudgetConfig>,
    /// Groups by user, beside those of the identity provider.
    pub groups: HashMap<Arc<str>, Arc<[Arc<str>]>>,
    /// When the process does not keep up.
    pub shed: ShedConfig,
}

impl Default for ShedConfig {
    fn default() -> ShedConfig {
        ShedConfig {
            // Far above what a busy but healthy process shows.
            lag: Some(Duration::from_secs(2)),
            // Three quarters of the queue: ends of calls that run need room too.
            queued: Some(crate::record::QUEUE / 4 * 3),
        }
    }
}

/// What decides, with its counters.
#[derive(Debug)]
pub struct Admission {
    config: AdmissionConfig,
    limits: Vec<Limit>,
    budgets: Vec<Budget>,
    /// The name of counters that everything shares.
    all: Arc<str>,
}

/// A call that asks to be made.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who asks.
    pub identity: &'a Identity,
    /// The instance's name.
    pub provider: &'a Arc<str>,
    /// The model asked for, if it could be read.
    pub model: Option<&'a str>,
    /// What the call may use.
    pub estimate: Usage,
    /// Whether it is known what the call costs.
    pub priced: bool,
    /// The date.
    pub date: Micros,
    /// Record events that wait for the writer.
    pub queued: usize,
}

/// What a call uses, by estimate or by report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens, in and out.
    pub tokens: u64,
    /// Money in millionths.
    pub micros: u64,
}

/// What an admitted call holds. Dropped without being settled, it has used nothing.
#[derive(Debug, Default)]
#[must_use = "dropping it gives everything back"]
pub struct Admitted {
    places: Vec<Place>,
    reservations: Vec<Reservation>,
}

/// What a call has to hold where another instance is to answer it. Dropped, it gives back what it took beyond that
/// which the call holds already.
#[derive(Debug)]
#[must_use = "dropping it gives everything back"]
pub struct Move {
    taken: Admitted,
    /// Which of the call's places and reservations stay.
    kept: (Vec<usize>, Vec<usize>),
    estimate: Usage,
}

impl Usage {
    fn plus(self, other: Usage) -> Usage {
        Usage {
            tokens: self.tokens.saturating_add(other.tokens),
            micros: self.micros.saturating_add(other.micros),
        }
    }

    fn minus(self, other: Usage) -> Usage {
        Usage {
            tokens: self.tokens.saturating_sub(other.tokens),
            micros: self.micros.saturating_sub(other.micros),
        }
    }
}

/// Whole seconds, for `Retry-After`: never too few.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl Admission {
    /// Compiles `config`; counters go on where those of `previous` about the same stopped.
    pub fn new(config: AdmissionConfig, previous: Option<&Admission>) -> Admission {
        let accounts = previous.map_or(&[][..], |previous| &previous.budgets);
        let budgets = config.budgets.iter().cloned();
        let mut old = previous.map_or_else(Vec::new, |previous| previous.limits.iter().collect());
        let limits = config.limits.iter().cloned();
        Admission {
            limits: limits.map(|limit| Limit::new(limit, &mut old)).collect(),
            budgets: budgets.map(|budget| Budget::new(budget, accounts)).collect(),
            config,
            all: previous.map_or_else(|| Arc::from("all"), |previous| previous.all.clone()),
        }
    }

    /// Decides on a call.
    ///
    /// # Errors
    /// It may not be made, or not now.
    pub fn admit(&self, facts: &Facts<'_>, load: &Load, now: Instant) -> Result<Admitted, Denied> {
        let subject = self.subject(facts.identity, facts.provider);
        self.config.policy.judge(subject, facts.model)?;
        if self.strain(load, facts.queued).is_some() {
            return Err(Denied::Overloaded);
        }
        let mut admitted = Admitted::default();
        for limit in &self.limits {
            limit.enter(
                subject,
                facts.estimate.tokens,
                (&self.all, now),
                &mut admitted.places,
            )?;
        }
        for budget in &self.budgets {
            budget.reserve(subject, facts, &self.all, &mut admitted.reservations)?;
        }
        Ok(admitted)
    }

    /// Decides whether another instance may answer a call that holds `admitted` of limits and budgets. What both
    /// instances count together is not taken twice, and what nobody else counts is not asked again.
    ///
    /// # Errors
    /// It may not; the call holds what it held.
    pub fn admit_elsewhere(
        &self,
        facts: &Facts<'_>,
        admitted: &Admitted,
        now: Instant,
    ) -> Result<Move, Denied> {
        let subject = self.subject(facts.identity, facts.provider);
        self.config.policy.judge(subject, facts.model)?;
        let mut moving = Move {
            taken: Admitted::default(),
            kept: (Vec::new(), Vec::new()),
            estimate: facts.estimate,
        };
        let Admitted { places, reservations } = &mut moving.taken;
        for limit in &self.limits {
            let held = (&admitted.places[..], &mut moving.kept.0);
            limit.enter_beside(held, subject, facts.estimate.tokens, (&self.all, now), places)?;
        }
        for budget in &self.budgets {
            let held = (&admitted.reservations[..], &mut moving.kept.1);
            budget.reserve_beside(held, subject, facts, &self.all, reservations)?;
        }
        Ok(moving)
    }

    /// Why requests are turned away at the moment, with `queued` record events waiting.
    pub fn strain(&self, load: &Load, queued: usize) -> Option<&'static str> {
        load.strain(&self.config.shed, queued)
    }

    /// Whether there are budgets at all.
    pub fn has_budgets(&self) -> bool {
        !self.budgets.is_empty()
    }

    /// Whether anything counts money.
    pub fn counts_money(&self) -> bool {
        self.budgets.iter().any(Budget::counts_money)
    }

    /// Takes what was used and is not in the store yet.
    pub fn take_unsaved(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.budgets
            .iter()
            .for_each(|budget| budget.take_unsaved(&mut entries));
        entries
    }

    /// Takes the warnings of budgets that were not told of yet.
    pub fn take_warnings(&self, now: Micros) -> Vec<Warning> {
        let mut warnings = Vec::new();
        self.budgets
            .iter()
            .for_each(|budget| budget.take_warnings(now, &mut warnings));
        warnings
    }

    /// Puts back warnings that could not be told.
    pub fn put_back_warnings(&self, warnings: &[Warning]) {
        for warning in warnings {
            self.budgets
                .iter()
                .for_each(|budget| budget.put_back_warning(warning));
        }
    }

    /// Puts back what could not be stored.
    pub fn put_back(&self, entries: &[Entry]) {
        for entry in entries {
            self.budgets.iter().for_each(|budget| budget.put_back(entry));
        }
    }

    /// Learns what the store says that was used in all, by this process and others.
    pub fn learn(&self, totals: &[Entry], now: Micros) {
        for total in totals {
            self.budgets.iter().for_each(|budget| budget.learn(total, now));
        }
    }

    /// Decides on a model alone.
    ///
    /// # Errors
    /// It is not allowed.
    pub fn permit(
        &self,
        identity: &Identity,
        provider: &Arc<str>,
        model: Option<&str>,
    ) -> Result<(), Denied> {
        self.config.policy.judge(self.subject(identity, provider), model)
    }

    /// Decides on a request that calls no model.
    ///
    /// # Errors
    /// All of this provider is denied to the sender.
    pub fn admit_unbridged(&self, identity: &Identity, provider: &Arc<str>) -> Result<(), Denied> {
        self.config
            .policy
            .judge_unbridged(self.subject(identity, provider))
    }

    /// Forgets counters that say nothing; to be called now and then.
    pub fn forget_idle(&self, now: Instant) {
        self.limits.iter().for_each(|limit| limit.forget_idle(now));
    }

    fn subject<'a>(&'a self, identity: &'a Identity, provider: &'a Arc<str>) -> Subject<'a> {
        Subject {
            user: &identity.user,
            groups: &identity.groups,
            listed: self
                .config
                .groups
                .get(&identity.user)
                .map_or(&[], |groups| groups),
            provider,
        }
    }
}

impl Admitted {
    /// Holds what another instance's answer takes, and gives back what only the one before counts.
    pub fn become_of(&mut self, moving: Move) {
        let Move {
            taken,
            kept,
            estimate,
        } = moving;
        keep(&mut self.places, &kept.0);
        keep(&mut self.reservations, &kept.1);
        for reservation in &mut self.reservations {
            reservation.hold(estimate);
        }
        self.places.extend(taken.places);
        self.reservations.extend(taken.reservations);
    }

    /// Replaces the estimates by what was used and gives the places back.
    pub fn settle(mut self, used: Usage) {
        for place in &mut self.places {
            place.settle(used.tokens);
        }
        for reservation in &mut self.reservations {
            reservation.settle(used);
        }
    }
}

/// Drops what is not at one of the places in `kept`.
fn keep<T>(all: &mut Vec<T>, kept: &[usize]) {
    let mut at = 0..;
    all.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
}

#[cfg(test)]
mod tests;
