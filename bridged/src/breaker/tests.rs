//! Breakers as requests use them, from many threads.

use std::sync::Barrier;
use std::thread;

use metrics::{Counter, Gauge};
use providers::Api;

use super::*;

pub(super) fn rules() -> Rules {
    Rules {
        enabled: true,
        failures: 3,
        ratio: 1.0,
        least: 1_000,
        window: Duration::from_secs(60),
        open_for: Duration::from_millis(250),
        max_open: Duration::from_secs(60),
        probes: 3,
    }
}

fn breaker(model: &str) -> Breaker {
    made(model, rules())
}

pub(super) fn breaker_under(rules: Rules) -> Breaker {
    made("m", rules)
}

fn made(model: &str, rules: Rules) -> Breaker {
    let scope = Scope {
        provider: Arc::from("openai"),
        endpoint: "chat_completions",
        model: Arc::from(model),
    };
    let metrics = BreakerMetrics {
        state: Gauge::noop(),
        trips: Counter::noop(),
        rejects: Counter::noop(),
    };
    Breaker::new(scope, rules, metrics)
}

pub(super) fn trip(breaker: &Arc<Breaker>) {
    while let Ok(permit) = breaker.admit() {
        permit.failed(None);
    }
    assert_eq!(breaker.condition().phase, Phase::Open);
}

#[test]
fn of_many_threads_at_half_open_only_the_probes_pass() {
    for _ in 0..4 {
        let breaker = Arc::new(breaker("m"));
        trip(&breaker);
        thread::sleep(breaker.condition().wait);
        let start = Barrier::new(16);
        let permits: Vec<Permit> = thread::scope(|scope| {
            let ask = || {
                start.wait();
                breaker.admit().ok()
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(permits.len(), 3);
        permits.into_iter().for_each(Permit::succeeded);
        assert_eq!(breaker.condition().phase, Phase::Closed);
    }
}

#[test]
fn a_dropped_permit_gives_its_place_back() {
    let breaker = Arc::new(breaker("m"));
    trip(&breaker);
    thread::sleep(breaker.condition().wait);
    for _ in 0..10 {
        drop(breaker.admit().expect("every place is free again"));
    }
    assert_eq!(breaker.condition().phase, Phase::HalfOpen);
}

#[test]
fn only_models_that_fail_have_breakers_and_there_is_an_end_to_them() {
    let models = Models::new();
    for number in 0..10_000 {
        let name = format!("invented-{number}");
        assert!(matches!(
            models.admit(Api::Messages, Some(&name)),
            Ok(Watched::New)
        ));
    }
    assert!(models.conditions().is_empty());
    for number in 0..256 {
        let name = format!("failing-{number}");
        let breaker = models.of_failing(Api::Messages, Some(&name), breaker).unwrap();
        breaker.admit().unwrap().failed(None);
    }
    assert!(
        models
            .of_failing(Api::Messages, Some("one-more"), breaker)
            .is_none()
    );
    assert!(
        models
            .of_failing(Api::Messages, Some(&"x".repeat(200)), breaker)
            .is_none()
    );
    assert_eq!(models.conditions().len(), 256);
    let known = models.of_failing(Api::Messages, Some("failing-7"), breaker);
    trip(&known.expect("it has one already"));
    assert!(models.admit(Api::Messages, Some("failing-7")).is_err());
    assert!(
        models.admit(Api::Messages, Some("failing-8")).is_ok(),
        "another model"
    );
    assert!(
        models.admit(Api::Responses, Some("failing-7")).is_ok(),
        "another endpoint"
    );
}

#[test]
#[ignore = "a measurement: alone, with CARGO_PROFILE_DEV_OPT_LEVEL=3 and --nocapture"]
fn a_closed_breaker_costs_a_request_less_than_a_microsecond() {
    const REQUESTS: u32 = 1_000_000;
    let instance = Arc::new(breaker("*"));
    let models = Models::new();
    for failing in [0, 200] {
        for number in 0..failing {
            models.of_failing(Api::Messages, Some(&format!("failing-{number}")), breaker);
        }
        let began = std::time::Instant::now();
        for _ in 0..REQUESTS {
            let watched = models.admit(Api::Messages, Some("failing-7")).unwrap();
            instance.admit().unwrap().succeeded();
            drop(watched);
        }
        let each = began.elapsed() / REQUESTS;
        println!("{failing} watched models: {each:?} a request");
        assert!(each < Duration::from_micros(1), "{each:?}");
    }
}
