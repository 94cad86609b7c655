//! What one counter of a limit has seen: requests in flight, their rate, and tokens.
//!
//! Rates are held by the generic cell rate algorithm: one date a counter, the moment at which the next request
//! would come exactly on time. Tokens are a bucket that may go into debt by one request, never refused half-way.
//! Time is an argument. Invariant: what `enter` took in flight, `leave` gives back once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

/// Counters of one limit. More users than this at once are not served, rather than not counted.
const MOST: usize = 65_536;
const MINUTE: Duration = Duration::from_secs(60);

/// What a limit allows. `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Caps {
    /// Requests at once.
    pub concurrent: Option<u32>,
    /// Requests over time.
    pub rate: Option<Rate>,
    /// Tokens in a minute.
    pub tokens: Option<u64>,
}

/// Requests over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// From one request to the next.
    pub interval: Duration,
    /// Requests that may come at once after a pause.
    pub burst: u32,
}

/// Why a counter lets no more in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many at once.
    Concurrent,
    /// Too fast; room comes after this time.
    Rate(Duration),
    /// Too many tokens; room comes after this time.
    Tokens(Duration),
}

/// One counter.
#[derive(Debug)]
pub struct Meter(Mutex<State>);

#[derive(Debug)]
struct State {
    inflight: u32,
    /// When the next request would be exactly on time.
    due: Instant,
    /// Tokens that were used and have not flowed off yet.
    used: f64,
    since: Instant,
}

impl Meter {
    /// A counter that has seen nothing.
    pub fn new(now: Instant) -> Meter {
        Meter(Mutex::new(State {
            inflight: 0,
            due: now,
            used: 0.0,
            since: now,
        }))
    }

    /// Takes a place, and `tokens` by estimate.
    ///
    /// # Errors
    /// There is no room; nothing was taken.
    pub fn enter(&self, caps: &Caps, tokens: u64, now: Instant) -> Result<(), Full> {
        let mut state = self.lock();
        if caps.concurrent.is_some_and(|most| state.inflight >= most) {
            return Err(Full::Concurrent);
        }
        let due = caps.rate.map(|rate| state.on_time(rate, now)).transpose()?;
        if let Some(per_minute) = caps.tokens {
            state.drain(per_minute, now);
            #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
            let (cap, tokens) = (per_minute as f64, tokens as f64);
            // Whoever has anything left may ask once more: a request larger than a minute's worth passes too.
            if state.used >= cap {
                let share = (state.used - cap) / cap;
                return Err(Full::Tokens(MINUTE.mul_f64(share.clamp(0.0, 1e6)).max(ONE_TICK)));
            }
            state.used += tokens;
        }
        state.due = due.unwrap_or(state.due);
        state.inflight = state.inflight.saturating_add(1);
        Ok(())
    }

    /// Gives the place back.
    pub fn leave(&self) {
        let mut state = self.lock();
        state.inflight = state.inflight.saturating_sub(1);
    }

    /// Replaces an estimate by what was really used.
    pub fn settle(&self, estimated: u64, used: u64) {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let change = used as f64 - estimated as f64;
        let mut state = self.lock();
        state.used = (state.used + change).max(0.0);
    }

    /// Whether it would say the same as a new one.
    fn is_idle(&self, caps: &Caps, now: Instant) -> bool {
        let mut state = self.lock();
        if let Some(per_minute) = caps.tokens {
            state.drain(per_minute, now);
        }
        state.inflight == 0 && state.due <= now && state.used < 1.0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shortest wait that is told.
const ONE_TICK: Duration = Duration::from_millis(1);

impl State {
    /// When the request after this one is due, if this one does not come too early.
    fn on_time(&self, rate: Rate, now: Instant) -> Result<Instant, Full> {
        let due = self.due.max(now);
        let tolerance = rate.interval * rate.burst.saturating_sub(1);
        match due.checked_duration_since(now + tolerance) {
            Some(early) if !early.is_zero() => Err(Full::Rate(early)),
            _ => Ok(due + rate.interval),
        }
    }

    /// Lets flow off what the time since the last look allows.
    fn drain(&mut self, per_minute: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let flown = passed * per_minute as f64 / MINUTE.as_secs_f64();
        self.used = (self.used - flown).max(0.0);
        self.since = now.max(self.since);
    }
}

/// The counters of one limit, by the name of what shares them.
#[derive(Debug, Default)]
pub(super) struct Meters(RwLock<HashMap<Arc<str>, Arc<Meter>>>);

impl Meters {
    /// The counter of `name`; `None` when there are too many that are in use.
    pub(super) fn of(&self, name: &Arc<str>, caps: &Caps, now: Instant) -> Option<Arc<Meter>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = known.get(name) {
            return Some(meter.clone());
        }
        drop(known);
        let mut meters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= MOST {
            meters.retain(|_, meter| is_needed(meter, caps, now));
        }
        if meters.len() >= MOST {
            return None;
        }
        let meter = meters
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Meter::new(now)));
        Some(meter.clone())
    }

    /// Forgets the counters that say nothing; to be called now and then.
    pub(super) fn forget_idle(&self, caps: &Caps, now: Instant) {
        let mut meters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|_, meter| is_needed(meter, caps, now));
    }
}

fn is_needed(meter: &Arc<Meter>, caps: &Caps, now: Instant) -> bool {
    Arc::strong_count(meter) > 1 || !meter.is_idle(caps, now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn per_second(requests: u32, burst: u32) -> Caps {
        Caps {
            rate: Some(Rate {
                interval: SECOND / requests,
                burst,
            }),
            ..Caps::default()
        }
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let now = Instant::now();
        let meter = Meter::new(now);
        let caps = per_second(10, 3);
        for _ in 0..3 {
            assert_eq!(meter.enter(&caps, 0, now), Ok(()));
        }
        let wait = Duration::from_millis(100);
        assert_eq!(meter.enter(&caps, 0, now), Err(Full::Rate(wait)));
        assert_eq!(meter.enter(&caps, 0, now + wait), Ok(()));
        assert!(meter.enter(&caps, 0, now + wait).is_err());
    }

    #[test]
    fn places_come_back_and_only_once_taken() {
        let now = Instant::now();
        let meter = Meter::new(now);
        let caps = Caps {
            concurrent: Some(2),
            ..per_second(1, 2)
        };
        assert_eq!(meter.enter(&caps, 0, now), Ok(()));
        assert_eq!(meter.enter(&caps, 0, now), Ok(()));
        assert_eq!(meter.enter(&caps, 0, now), Err(Full::Concurrent));
        meter.leave();
        assert_eq!(meter.enter(&caps, 0, now), Err(Full::Rate(SECOND)));
        assert_eq!(meter.enter(&caps, 0, now + SECOND), Ok(()));
        meter.leave();
        meter.leave();
        assert!(!meter.is_idle(&caps, now));
        assert!(meter.is_idle(&caps, now + 3 * SECOND));
    }

    #[test]
    fn tokens_flow_off_over_the_minute() {
        let now = Instant::now();
        let meter = Meter::new(now);
        let caps = Caps {
            tokens: Some(600),
            ..Caps::default()
        };
        assert_eq!(meter.enter(&caps, 100, now), Ok(()));
        meter.settle(100, 900);
        let wait = Duration::from_secs(30);
        assert_eq!(meter.enter(&caps, 1, now), Err(Full::Tokens(wait)));
        assert_eq!(meter.enter(&caps, 1, now + wait + SECOND), Ok(()));
        meter.settle(1, 0);
        meter.leave();
        meter.leave();
        assert!(meter.is_idle(&caps, now + 3 * MINUTE));
    }

    #[test]
    fn idle_counters_are_forgotten_and_busy_ones_are_not() {
        let now = Instant::now();
        let (meters, caps) = (Meters::default(), Caps::default());
        for number in 0..MOST {
            meters.of(&format!("user-{number}").into(), &caps, now).unwrap();
        }
        let busy: Arc<str> = "user-7".into();
        meters
            .of(&busy, &caps, now)
            .unwrap()
            .enter(&caps, 0, now)
            .unwrap();
        // One more name makes room.
        assert!(meters.of(&"one-more".into(), &caps, now).is_some());
        meters.forget_idle(&caps, now);
        assert_eq!(meters.0.read().unwrap().len(), 1);
        assert!(meters.0.read().unwrap().contains_key(&busy));
    }

    proptest! {
        #[test]
        fn no_second_sees_more_than_the_rate_and_a_burst(
            rate in 1_u32..50,
            burst in 1_u32..20,
            steps in proptest::collection::vec(0_u64..200, 1..300),
        ) {
            let begin = Instant::now();
            let meter = Meter::new(begin);
            let caps = per_second(rate, burst);
            let mut now = begin;
            let mut admitted = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                if meter.enter(&caps, 0, now).is_ok() {
                    admitted.push(now);
                }
            }
            for (index, from) in admitted.iter().enumerate() {
                let within = admitted[index..].iter().take_while(|at| **at < *from + SECOND).count();
                prop_assert!(within <= (rate + burst) as usize);
            }
        }
    }
}
