//! A model check of recovery: threads that ask at half-open and are answered in every way, in every order.
//!
//! What runs is the breaker itself; only its lock, counter and time are the model's (`sync`). Invariants: no more
//! requests are out than there are probes, none of their places is lost, and the phase that follows is the one
//! that the verdicts call for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use super::sync::Time;
use super::tests::{breaker_under, rules, trip};
use super::{Breaker, Permit, Phase, Rules};

/// How a request that was let through ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Success,
    Failure,
    Dropped,
}

/// The breaker's third phase: it was closed, then open.
const RECOVERY: u64 = 3;
/// More orders than there are of two threads.
const ALL: usize = 1_000_000;

const ENDS: [End; 3] = [End::Success, End::Failure, End::Dropped];

fn with_probes(probes: u32) -> Rules {
    Rules { probes, ..rules() }
}

/// A breaker that was open and whose wait is over.
fn recovering(time: &Time, rules: Rules) -> Arc<Breaker> {
    let breaker = Arc::new(breaker_under(rules));
    trip(&breaker);
    time.pass(breaker.condition().wait);
    breaker
}

/// How many requests are out, and how many there were at most.
#[derive(Debug, Default)]
struct Out {
    now: AtomicU32,
    most: AtomicU32,
}

fn finish(permit: Permit, end: End, out: &Out) {
    // Its place is free only with the verdict, so it must not be counted as out any longer then.
    out.now.fetch_sub(1, Ordering::SeqCst);
    match end {
        End::Success => permit.succeeded(),
        End::Failure => permit.failed(None),
        End::Dropped => drop(permit),
    }
}

/// One thread for each of `ends` asks once; gives the ends of those that were let through.
fn ask_all(breaker: &Arc<Breaker>, ends: &[End], probes: u32) -> Vec<End> {
    let out = Arc::new(Out::default());
    let ask = |end: End| {
        let (breaker, out) = (breaker.clone(), out.clone());
        thread::spawn(move || {
            let permit = breaker.admit().ok()?;
            if permit.pass.generation != RECOVERY {
                // Closed meanwhile: it is a request as any.
                return None;
            }
            let now = out.now.fetch_add(1, Ordering::SeqCst) + 1;
            out.most.fetch_max(now, Ordering::SeqCst);
            finish(permit, end, &out);
            Some(end)
        })
    };
    let threads: Vec<_> = ends.iter().map(|end| ask(*end)).collect();
    let passed = threads.into_iter().filter_map(|thread| thread.join().unwrap());
    let passed = passed.collect();
    assert!(out.most.load(Ordering::SeqCst) <= probes, "{out:?}");
    passed
}

/// Checks the phase after all have ended, and that every place is free again.
fn check(time: &Time, breaker: &Arc<Breaker>, passed: &[End], probes: u32) {
    let count = |end| passed.iter().filter(|passed| **passed == end).count();
    let phase = breaker.condition().phase;
    let successes = u32::try_from(count(End::Success)).unwrap();
    match phase {
        // One failure is enough, unless the recovery was over before it came to light.
        Phase::Open => assert!(count(End::Failure) > 0, "{passed:?}"),
        Phase::Closed => assert!(successes >= probes, "{passed:?}"),
        Phase::HalfOpen => {
            assert!(count(End::Failure) == 0 && successes < probes, "{passed:?}");
            let rest: Vec<Permit> = std::iter::from_fn(|| breaker.admit().ok()).collect();
            assert_eq!(
                rest.len(),
                (probes - successes) as usize,
                "places are lost: {passed:?}"
            );
        }
    }
    // Whatever has happened, a recovery is possible.
    if phase != Phase::Closed {
        time.pass(breaker.condition().wait);
        let all: Vec<Permit> = (0..probes).filter_map(|_| breaker.admit().ok()).collect();
        all.into_iter().for_each(Permit::succeeded);
        assert_eq!(breaker.condition().phase, Phase::Closed, "{passed:?}");
    }
}

fn recover(ends: &[End], probes: u32) {
    let time = Time::begin();
    let breaker = recovering(&time, with_probes(probes));
    let passed = ask_all(&breaker, ends, probes);
    check(&time, &breaker, &passed, probes);
}

/// Runs a model in every order in which its threads can come.
fn exhaust(model: impl Fn() + Send + Sync + 'static) {
    let orders = run(DfsScheduler::new(Some(ALL), false), model);
    assert!(orders < ALL, "not every order was seen");
}

fn run(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + 'static) -> usize {
    let mut config = Config::new();
    // Logging and the system's randomness need more than a model's thread usually has.
    config.stack_size = 512 << 10;
    Runner::new(scheduler, config).run(model)
}

#[test]
fn two_requests_at_half_open_are_sound_in_every_order() {
    for number in 0..9 {
        let ends = [ENDS[number % 3], ENDS[number / 3]];
        exhaust(move || recover(&ends, 1));
    }
    exhaust(|| recover(&[End::Success, End::Success], 2));
    exhaust(|| recover(&[End::Success, End::Failure], 2));
}

#[test]
fn many_requests_at_half_open_are_sound_in_thousands_of_orders() {
    for probes in [1, 2, 3] {
        let mixed: Vec<End> = (0..8).map(|number| ENDS[number % 3]).collect();
        run(PctScheduler::new(3, 1_000), move || recover(&mixed, probes));
        let kind: Vec<End> = (0..8).map(|number| ENDS[number % 2 * 2]).collect();
        run(RandomScheduler::new(1_000), move || recover(&kind, probes));
    }
}

#[test]
fn a_probe_without_an_answer_lets_one_more_pass_and_its_late_verdict_counts_once() {
    exhaust(|| {
        let time = Time::begin();
        let breaker = recovering(&time, with_probes(1));
        let lost = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "the only place is taken");
        time.pass(rules().open_for);
        let passed = ask_all(&breaker, &[End::Dropped, End::Dropped], 1);
        assert_eq!(passed, [End::Dropped], "one more");
        lost.succeeded();
        assert_eq!(breaker.condition().phase, Phase::Closed);
    });
}
