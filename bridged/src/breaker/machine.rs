//! The circuit breaker as a state machine: no clock, no lock, no metrics.
//!
//! `admit` asks whether a request may go, `report` says how it went; both take the time. Closed, it counts failures
//! in a row and their share of a sliding window; open, it refuses until its wait is over; half-open, it admits a
//! bounded number of probes. Invariant: what was admitted before a change of state never counts after it.

use std::time::{Duration, Instant};

use super::window::Window;

/// How much a breaker bears.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Whether it ever opens.
    pub enabled: bool,
    /// Failures in a row that open it.
    pub failures: u32,
    /// The share of failures within the window that opens it, above 0 and up to 1.
    pub ratio: f64,
    /// Requests within the window below which the share says nothing.
    pub least: u32,
    /// The length of the sliding window.
    pub window: Duration,
    /// How long it stays open the first time; each failed recovery doubles it.
    pub open_for: Duration,
    /// The longest it stays open, whatever the upstream asks.
    pub max_open: Duration,
    /// Requests that try a recovery: so many at a time, and so many must succeed.
    pub probes: u32,
}

/// What a breaker lets through at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everything.
    Closed,
    /// A few probes.
    HalfOpen,
    /// Nothing.
    Open,
}

/// A change of phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) from: Phase,
    pub(super) to: Phase,
}

/// The right to send one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) generation: u64,
}

/// How an admitted request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    /// With the wait that the upstream asks for.
    Failure(Option<Duration>),
    /// It says nothing about the upstream: cancelled, or refused for a reason of its own.
    Neutral,
}

/// The machine. Generations count its phases; the first is 1.
#[derive(Debug)]
pub(super) struct Machine {
    rules: Rules,
    state: State,
    generation: u64,
    /// Times that it has opened since it was last closed.
    trips: u32,
}

#[derive(Debug)]
enum State {
    Closed {
        /// Failures in a row.
        run: u32,
        window: Window,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        in_flight: u32,
        passed: u32,
        last_probe: Instant,
    },
}

/// The wait while all probes are under way: nobody knows how long they take.
const PROBING: Duration = Duration::from_secs(1);
/// Doublings after which the wait has reached any sensible cap.
const MOST_DOUBLINGS: u32 = 16;

impl Machine {
    pub(super) fn new(rules: Rules, now: Instant) -> Machine {
        Machine {
            rules,
            state: State::closed(&rules, now),
            generation: 1,
            trips: 0,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::HalfOpen { .. } => Phase::HalfOpen,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// What is left of the wait; zero unless it is open.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        match self.state {
            State::Open { until } => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    /// Whether nothing would be lost with it: closed, and no failure within the window.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Closed { window, .. } => window.counts(now).failures == 0,
            _ => false,
        }
    }

    /// Goes on under other rules. What has been counted stays, unless the window has another length.
    pub(super) fn obey(&mut self, rules: Rules, now: Instant) {
        let other_window = rules.window != self.rules.window;
        self.rules = rules;
        if !rules.enabled || (other_window && self.phase() == Phase::Closed) {
            self.generation += 1;
            self.trips = 0;
            self.state = State::closed(&rules, now);
        }
    }

    /// Lets a request go, or says how long nobody should ask again.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Pass, Duration> {
        if let State::Open { until } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.generation += 1;
            self.state = State::HalfOpen {
                in_flight: 0,
                passed: 0,
                last_probe: now,
            };
        }
        if let State::HalfOpen {
            in_flight,
            passed,
            last_probe,
        } = &mut self.state
        {
            // A probe that gets no answer must not hold the door shut for everybody.
            let overdue = now.saturating_duration_since(*last_probe) >= self.rules.open_for;
            if *in_flight + *passed >= self.rules.probes && !overdue {
                return Err(PROBING);
            }
            *in_flight += 1;
            *last_probe = now;
        }
        Ok(Pass {
            generation: self.generation,
        })
    }

    /// Takes the verdict on an admitted request. `jitter` is between 0 and 1.
    pub(super) fn report(&mut self, pass: Pass, verdict: Verdict, now: Instant, jitter: f64) {
        if pass.generation != self.generation {
            return;
        }
        if let State::HalfOpen { in_flight, .. } = &mut self.state {
            *in_flight = in_flight.saturating_sub(1);
        }
        match verdict {
            Verdict::Neutral => {}
            Verdict::Success => self.succeeded(now),
            Verdict::Failure(asked) => self.failed(asked, now, jitter),
        }
    }

    /// Takes a failure that came to light after its request had been reported as a success.
    pub(super) fn regret(&mut self, now: Instant, jitter: f64) {
        self.failed(None, now, jitter);
    }

    fn succeeded(&mut self, now: Instant) {
        match &mut self.state {
            State::Closed { run, window } => {
                *run = 0;
                window.add(now, false);
            }
            State::HalfOpen { passed, .. } => {
                *passed += 1;
                if *passed >= self.rules.probes {
                    self.generation += 1;
                    self.trips = 0;
                    self.state = State::closed(&self.rules, now);
                }
            }
            State::Open { .. } => {}
        }
    }

    fn failed(&mut self, asked: Option<Duration>, now: Instant, jitter: f64) {
        let enough = match &mut self.state {
            State::Closed { run, window } => {
                *run = run.saturating_add(1);
                window.add(now, true);
                let counts = window.counts(now);
                let share = f64::from(counts.failures) / f64::from(counts.all.max(1));
                let too_many = counts.all >= self.rules.least && share >= self.rules.ratio;
                self.rules.enabled && (*run >= self.rules.failures || too_many)
            }
            State::HalfOpen { .. } => true,
            State::Open { .. } => false,
        };
        if enough {
            self.trips = self.trips.saturating_add(1);
            self.generation += 1;
            let until = now + self.wait(asked, jitter);
            self.state = State::Open { until };
        }
    }

    /// The back-off, at least what the upstream asks, at most the cap. Jitter only lengthens it.
    fn wait(&self, asked: Option<Duration>, jitter: f64) -> Duration {
        let doublings = self.trips.saturating_sub(1).min(MOST_DOUBLINGS);
        let grown = self.rules.open_for.saturating_mul(1 << doublings);
        let wait = grown.max(asked.unwrap_or_default()).min(self.rules.max_open);
        wait + wait.mul_f64(jitter.clamp(0.0, 1.0) * 0.1)
    }
}

impl State {
    fn closed(rules: &Rules, now: Instant) -> State {
        State::Closed {
            run: 0,
            window: Window::new(rules.window, now),
        }
    }
}

#[cfg(test)]
mod tests;
