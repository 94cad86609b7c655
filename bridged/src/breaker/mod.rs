//! Circuit breakers: an upstream in trouble is left alone for a while instead of being asked again and again.
//!
//! A `Breaker` guards one thing: an instance as a whole, or one model on one of its endpoints (`Models`). `admit`
//! gives a `Permit` or the wait; the permit takes the verdict, and one that is dropped says nothing and gives its
//! place back. Invariant: no lock is held across an await, and a closed breaker admits without one.

mod machine;
mod models;
mod sync;
mod window;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge};

use machine::{Machine, Pass, Transition, Verdict};
pub use machine::{Phase, Rules};
pub(crate) use models::{Models, Watched};
use sync::{AtomicU64, Mutex, MutexGuard, now};

/// What a breaker guards, in the words of metrics and logs.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) provider: Arc<str>,
    /// The API, or `*`.
    pub(crate) endpoint: &'static str,
    /// The model as a label, or `*`.
    pub(crate) model: Arc<str>,
}

/// The metrics of one breaker.
#[derive(Clone)]
pub struct BreakerMetrics {
    /// 0 closed, 0.5 half-open, 1 open.
    pub state: Gauge,
    /// Times that it opened.
    pub trips: Counter,
    /// Requests that it refused.
    pub rejects: Counter,
}

impl std::fmt::Debug for BreakerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BreakerMetrics")
    }
}

/// One circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    scope: Scope,
    machine: Mutex<Machine>,
    /// The machine's generation while it is closed, else 0: what admission reads without the lock.
    closed: AtomicU64,
    metrics: BreakerMetrics,
}

/// What a breaker does at the moment, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its phase.
    pub phase: Phase,
    /// What is left of the wait while it is open.
    pub wait: Duration,
}

impl Phase {
    /// The name in the API and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Closed => "closed",
            Phase::HalfOpen => "half_open",
            Phase::Open => "open",
        }
    }

    fn gauge(self) -> f64 {
        match self {
            Phase::Closed => 0.0,
            Phase::HalfOpen => 0.5,
            Phase::Open => 1.0,
        }
    }
}

impl Breaker {
    pub(crate) fn new(scope: Scope, rules: Rules, metrics: BreakerMetrics) -> Breaker {
        let machine = Machine::new(rules, now());
        metrics.state.set(Phase::Closed.gauge());
        Breaker {
            scope,
            closed: AtomicU64::new(machine.generation()),
            machine: Mutex::new(machine),
            metrics,
        }
    }

    /// Goes on under other rules.
    pub(crate) fn obey(&self, rules: Rules) {
        self.change(|machine| machine.obey(rules, now()));
    }

    pub(crate) fn condition(&self) -> Condition {
        let machine = self.lock();
        Condition {
            phase: machine.phase(),
            wait: machine.remaining(now()),
        }
    }

    /// Lets a request go.
    ///
    /// # Errors
    /// How long nobody should ask again.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, Duration> {
        let generation = self.closed.load(Ordering::Acquire);
        let admitted = if generation == 0 {
            self.change(|machine| machine.admit(now()))
        } else {
            Ok(Pass { generation })
        };
        match admitted {
            Ok(pass) => Ok(Permit {
                breaker: self.clone(),
                pass,
                probe: generation == 0,
                judged: false,
            }),
            Err(wait) => {
                self.metrics.rejects.increment(1);
                Err(wait)
            }
        }
    }

    /// A failure that came to light after the request's success.
    pub(crate) fn regret(&self) {
        self.change(|machine| machine.regret(now(), jitter()));
    }

    fn report(&self, pass: Pass, verdict: Verdict) {
        let jitter = if matches!(verdict, Verdict::Failure(_)) {
            jitter()
        } else {
            0.0
        };
        self.change(|machine| machine.report(pass, verdict, now(), jitter));
    }

    /// Works on the machine and makes known what changed.
    fn change<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let from = machine.phase();
        let done = work(&mut machine);
        let to = machine.phase();
        let closed = if to == Phase::Closed {
            machine.generation()
        } else {
            0
        };
        self.closed.store(closed, Ordering::Release);
        if from == to {
            return done;
        }
        // Within the lock, so that gauge and log follow the order of events.
        self.announce(Transition { from, to }, machine.remaining(now()));
        done
    }

    fn announce(&self, transition: Transition, wait: Duration) {
        let Scope {
            provider,
            endpoint,
            model,
        } = &self.scope;
        let (from, to) = (transition.from.as_str(), transition.to.as_str());
        self.metrics.state.set(transition.to.gauge());
        if transition.to == Phase::Open {
            self.metrics.trips.increment(1);
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(%provider, endpoint, %model, from, to, wait_ms, "circuit breaker");
        } else {
            tracing::info!(%provider, endpoint, %model, from, to, "circuit breaker");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to send one request. Dropped without a verdict, it says nothing about the upstream.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    pass: Pass,
    probe: bool,
    judged: bool,
}

impl Permit {
    /// The upstream did its part.
    pub(crate) fn succeeded(mut self) {
        self.judge(Verdict::Success);
    }

    /// The upstream is in trouble, and may have asked for a wait.
    pub(crate) fn failed(mut self, wait: Option<Duration>) {
        self.judge(Verdict::Failure(wait));
    }

    fn judge(&mut self, verdict: Verdict) {
        if !std::mem::replace(&mut self.judged, true) {
            self.breaker.report(self.pass, verdict);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe {
            self.judge(Verdict::Neutral);
        }
    }
}

/// A random number from 0 to 1; without randomness there is no jitter.
pub(crate) fn jitter() -> f64 {
    let mut bytes = [0; 2];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX),
        Err(_) => 0.0,
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
