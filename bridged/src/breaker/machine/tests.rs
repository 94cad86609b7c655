//! The machine against its rules, and against any order of events.

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules {
    enabled: true,
    failures: 3,
    ratio: 0.5,
    least: 10,
    window: Duration::from_secs(10),
    open_for: Duration::from_secs(8),
    max_open: Duration::from_secs(60),
    probes: 2,
};

const FAILURE: Verdict = Verdict::Failure(None);

/// A machine and its time.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(rules: Rules) -> Bench {
        let now = Instant::now();
        Bench {
            machine: Machine::new(rules, now),
            now,
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now += span;
    }

    fn admit(&mut self) -> Result<Pass, Duration> {
        self.machine.admit(self.now)
    }

    fn report(&mut self, pass: Pass, verdict: Verdict) {
        self.machine.report(pass, verdict, self.now, 0.0);
    }

    /// One request from admission to verdict.
    fn run(&mut self, verdict: Verdict) {
        let pass = self.admit().expect("admitted");
        self.report(pass, verdict);
    }

    fn trip(&mut self) {
        for _ in 0..RULES.failures {
            self.run(FAILURE);
        }
        assert_eq!(self.machine.phase(), Phase::Open);
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_does_not() {
    let mut bench = Bench::new(RULES);
    for _ in 0..3 {
        bench.run(FAILURE);
        bench.run(FAILURE);
        bench.run(Verdict::Success);
        bench.wait(Duration::from_secs(20));
    }
    assert_eq!(bench.machine.phase(), Phase::Closed);
    bench.run(FAILURE);
    bench.run(Verdict::Neutral);
    bench.run(FAILURE);
    assert_eq!(bench.machine.phase(), Phase::Closed);
    bench.run(FAILURE);
    assert_eq!(bench.machine.phase(), Phase::Open);
}

#[test]
fn a_share_of_failures_opens_it_once_there_are_enough_requests() {
    let mut bench = Bench::new(RULES);
    for request in 0..9 {
        bench.run(if request % 2 == 0 {
            FAILURE
        } else {
            Verdict::Success
        });
        assert_eq!(bench.machine.phase(), Phase::Closed, "request {request}");
    }
    bench.run(FAILURE);
    assert_eq!(bench.machine.phase(), Phase::Open);
}

#[test]
fn open_tells_the_remaining_wait() {
    let mut bench = Bench::new(RULES);
    bench.trip();
    assert_eq!(bench.admit(), Err(Duration::from_secs(8)));
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.admit(), Err(Duration::from_secs(3)));
    assert_eq!(bench.machine.remaining(bench.now), Duration::from_secs(3));
}

#[test]
fn the_upstreams_own_wait_is_a_floor_up_to_the_cap() {
    for (asked, want) in [(1, 8), (20, 20), (86_400, 60)] {
        let mut bench = Bench::new(RULES);
        for _ in 0..RULES.failures {
            bench.run(Verdict::Failure(Some(Duration::from_secs(asked))));
        }
        assert_eq!(
            bench.admit(),
            Err(Duration::from_secs(want)),
            "asked for {asked} s"
        );
    }
}

#[test]
fn each_failed_recovery_doubles_the_wait_up_to_the_cap_and_recovery_resets_it() {
    let mut bench = Bench::new(RULES);
    bench.trip();
    for want in [8, 16, 32, 60, 60] {
        let wait = Duration::from_secs(want);
        assert_eq!(bench.admit(), Err(wait));
        bench.wait(wait);
        bench.run(FAILURE);
    }
    bench.wait(Duration::from_secs(60));
    bench.run(Verdict::Success);
    assert_eq!(bench.machine.phase(), Phase::HalfOpen);
    bench.run(Verdict::Success);
    assert_eq!(bench.machine.phase(), Phase::Closed);
    bench.trip();
    assert_eq!(bench.admit(), Err(Duration::from_secs(8)));
}

#[test]
fn jitter_only_lengthens_the_wait_by_a_tenth() {
    let now = Instant::now();
    let mut machine = Machine::new(RULES, now);
    for _ in 0..RULES.failures {
        let pass = machine.admit(now).unwrap();
        machine.report(pass, FAILURE, now, 1.0);
    }
    assert_eq!(machine.remaining(now), Duration::from_millis(8_800));
}

#[test]
fn half_open_admits_its_probes_and_no_more() {
    let mut bench = Bench::new(RULES);
    bench.trip();
    bench.wait(RULES.open_for);
    let (first, second) = (bench.admit().unwrap(), bench.admit().unwrap());
    assert_eq!(bench.admit(), Err(PROBING));
    bench.report(first, Verdict::Neutral);
    let third = bench.admit().expect("a cancelled probe gives its place back");
    assert_eq!(bench.admit(), Err(PROBING));
    bench.report(second, Verdict::Success);
    assert_eq!(
        bench.admit(),
        Err(PROBING),
        "one success is half of what is needed"
    );
    bench.report(third, Verdict::Success);
    assert_eq!(bench.machine.phase(), Phase::Closed);
}

#[test]
fn a_probe_without_an_answer_makes_way_in_time() {
    let mut bench = Bench::new(RULES);
    bench.trip();
    bench.wait(RULES.open_for);
    let _silent = [bench.admit().unwrap(), bench.admit().unwrap()];
    bench.wait(RULES.open_for);
    bench.admit().expect("one more may try");
    assert_eq!(bench.admit(), Err(PROBING));
}

#[test]
fn what_was_admitted_before_a_change_counts_no_more() {
    let mut bench = Bench::new(RULES);
    let late: Vec<Pass> = (0..4).map(|_| bench.admit().unwrap()).collect();
    bench.trip();
    bench.report(late[0], FAILURE);
    assert_eq!(bench.admit(), Err(RULES.open_for));
    bench.wait(RULES.open_for);
    let probe = bench.admit().unwrap();
    bench.report(late[1], FAILURE);
    bench.report(late[2], Verdict::Success);
    assert_eq!(bench.machine.phase(), Phase::HalfOpen);
    bench.report(probe, Verdict::Success);
    bench.run(Verdict::Success);
    bench.report(late[3], FAILURE);
    assert_eq!(bench.machine.phase(), Phase::Closed);
    assert!(bench.machine.is_idle(bench.now));
}

#[test]
fn a_late_failure_reopens_a_recovery() {
    let mut bench = Bench::new(RULES);
    bench.trip();
    bench.wait(RULES.open_for);
    bench.run(Verdict::Success);
    bench.machine.regret(bench.now, 0.0);
    assert_eq!(bench.admit(), Err(RULES.open_for * 2));
}

#[test]
fn other_rules_keep_what_is_known() {
    let mut bench = Bench::new(RULES);
    bench.trip();
    let patient = Rules { probes: 1, ..RULES };
    bench.machine.obey(patient, bench.now);
    assert_eq!(bench.admit(), Err(RULES.open_for));
    bench.wait(RULES.open_for);
    bench.run(Verdict::Success);
    assert_eq!(bench.machine.phase(), Phase::Closed);
    bench.trip();
    let off = Rules {
        enabled: false,
        ..RULES
    };
    bench.machine.obey(off, bench.now);
    for _ in 0..100 {
        bench.run(FAILURE);
    }
    assert_eq!(bench.machine.phase(), Phase::Closed);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit,
    Success(usize),
    Failure(usize, u64),
    Neutral(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Admit),
        2 => (0..32_usize).prop_map(Step::Success),
        3 => (0..32_usize, 0..100_u64).prop_map(|(index, asked)| Step::Failure(index, asked)),
        1 => (0..32_usize).prop_map(Step::Neutral),
        2 => (0..12_000_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..400)
}

proptest! {
    /// Whatever the order of requests, answers and time.
    #[test]
    fn probes_stay_bounded_and_waits_within_the_cap(steps in steps()) {
        let mut bench = Bench::new(RULES);
        let mut under_way: Vec<Pass> = Vec::new();
        let mut half_opened = bench.now;
        for step in steps {
            let before = bench.machine.phase();
            match step {
                Step::Admit => match bench.admit() {
                    Ok(pass) => under_way.push(pass),
                    Err(wait) => {
                        prop_assert_ne!(bench.machine.phase(), Phase::Closed);
                        prop_assert!(wait > Duration::ZERO && wait <= RULES.max_open);
                    }
                },
                Step::Wait(millis) => bench.wait(Duration::from_millis(millis)),
                Step::Success(index) | Step::Failure(index, _) | Step::Neutral(index) => {
                    if under_way.is_empty() {
                        continue;
                    }
                    let pass = under_way.swap_remove(index % under_way.len());
                    bench.report(pass, match step {
                        Step::Success(_) => Verdict::Success,
                        Step::Failure(_, asked) => Verdict::Failure(Some(Duration::from_secs(asked))),
                        _ => Verdict::Neutral,
                    });
                }
            }
            let phase = bench.machine.phase();
            if phase == Phase::HalfOpen {
                if before != Phase::HalfOpen {
                    half_opened = bench.now;
                }
                let generation = bench.machine.generation();
                let probes = under_way.iter().filter(|pass| pass.generation == generation).count();
                let periods = (bench.now - half_opened).as_nanos() / RULES.open_for.as_nanos();
                prop_assert!(probes as u128 <= u128::from(RULES.probes) + periods);
            }
            let possible = match before {
                Phase::Closed => phase != Phase::HalfOpen,
                Phase::Open => phase != Phase::Closed,
                Phase::HalfOpen => true,
            };
            prop_assert!(possible, "{before:?} became {phase:?}");
        }
        // It always recovers: time passes, the probes succeed.
        bench.wait(RULES.max_open * 2);
        for _ in 0..=RULES.probes {
            if let Ok(pass) = bench.admit() {
                bench.report(pass, Verdict::Success);
            }
            bench.wait(RULES.open_for);
        }
        prop_assert_eq!(bench.machine.phase(), Phase::Closed);
    }
}
