//! Calls of several users that are admitted, go to another instance, and end, in any order, against a plain count.

use proptest::prelude::*;

use super::*;
use crate::identity::Proof;
use crate::token::Role;

const USERS: [&str; 2] = ["ann", "bob"];
const INSTANCES: [&str; 2] = ["primary", "backup"];
/// Most calls at once, of a user and at an instance.
const CONCURRENT: [u32; 2] = [4, 3];

fn limit(per: Per, most: u32) -> LimitConfig {
    let caps = Caps {
        concurrent: Some(most),
        ..Caps::default()
    };
    let scope = Scope::default();
    LimitConfig { scope, per, caps }
}

fn budget(per: Per, tokens: u64) -> BudgetConfig {
    BudgetConfig {
        name: per.describe().into(),
        scope: Scope::default(),
        per,
        period: Period::Day,
        micros: None,
        tokens: Some(tokens),
        refuse_unpriced: false,
        refusal_status: 400,
    }
}

fn admission(caps: [u64; 2]) -> Admission {
    let config = AdmissionConfig {
        limits: vec![
            limit(Per::User, CONCURRENT[0]),
            limit(Per::Provider, CONCURRENT[1]),
        ],
        budgets: vec![budget(Per::User, caps[0]), budget(Per::Provider, caps[1])],
        ..AdmissionConfig::default()
    };
    Admission::new(config, None)
}

/// A call that runs: whose, where, with what estimate.
struct Running {
    user: usize,
    at: usize,
    estimate: u64,
    admitted: Admitted,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask {
        user: usize,
        at: usize,
        estimate: u64,
    },
    /// One of those that run falls back to an instance, where it is thought to use this.
    Move {
        which: usize,
        to: usize,
        estimate: u64,
    },
    /// One of those that run has used a share of its estimate, or was dropped.
    End {
        which: usize,
        percent: Option<u64>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..2_usize, 0..2_usize, 0..500_u64).prop_map(|(user, at, estimate)| Step::Ask { user, at, estimate }),
        2 => (any::<usize>(), 0..2_usize, 0..500_u64).prop_map(|(which, to, estimate)| Step::Move { which, to, estimate }),
        2 => (any::<usize>(), proptest::option::weighted(0.8, 0..=100_u64))
            .prop_map(|(which, percent)| Step::End { which, percent }),
    ];
    proptest::collection::vec(step, 1..200)
}

/// What was counted by hand: used by each user and at each instance, and the largest reservation of any call.
#[derive(Default)]
struct Books {
    used: [[u64; 2]; 2],
    largest: u64,
    running: Vec<Running>,
}

impl Books {
    /// What is taken of a user's budget (0) or an instance's (1), and how many calls run there.
    fn taken(&self, which: usize, account: usize) -> (u64, u32) {
        let held = self
            .running
            .iter()
            .filter(|call| [call.user, call.at][which] == account);
        let (mut sum, mut count) = (self.used[which][account], 0);
        for call in held {
            sum += call.estimate;
            count += 1;
        }
        (sum, count)
    }

    fn has_room(&self, which: usize, account: usize, caps: [u64; 2]) -> bool {
        let (taken, count) = self.taken(which, account);
        taken < caps[which] && count < CONCURRENT[which]
    }

    fn check(&self, caps: [u64; 2]) {
        for which in [0, 1] {
            for account in [0, 1] {
                let (taken, count) = self.taken(which, account);
                // Even if everything that runs uses all that it has reserved.
                assert!(taken < caps[which] + self.largest.max(1), "{taken} of {caps:?}");
                assert!(count <= CONCURRENT[which]);
            }
        }
    }
}

fn facts<'a>(identity: &'a Identity, provider: &'a Arc<str>, tokens: u64) -> Facts<'a> {
    Facts {
        identity,
        provider,
        model: Some("m"),
        estimate: Usage { tokens, micros: 0 },
        priced: true,
        date: Micros(0),
        queued: 0,
    }
}

fn end(books: &mut Books, which: usize, percent: Option<u64>) {
    let call = books.running.swap_remove(which % books.running.len());
    let Some(percent) = percent else { return };
    let tokens = call.estimate * percent / 100;
    books.used[0][call.user] += tokens;
    books.used[1][call.at] += tokens;
    call.admitted.settle(Usage { tokens, micros: 0 });
}

proptest! {
    #[test]
    fn no_order_of_calls_and_fallbacks_exceeds_a_budget_or_loses_a_place(
        caps in [1..3_000_u64, 1..3_000_u64],
        steps in steps(),
    ) {
        let (admission, load, now) = (admission(caps), Load::default(), Instant::now());
        let people = USERS.map(|user| Identity {
            user: user.into(),
            role: Role::Member,
            groups: Arc::from([]),
            proof: Proof::Header,
        });
        let instances: [Arc<str>; 2] = INSTANCES.map(Arc::from);
        let mut books = Books::default();
        for step in steps {
            match step {
                Step::Ask { user, at, estimate } => {
                    let room = books.has_room(0, user, caps) && books.has_room(1, at, caps);
                    let asked = admission.admit(&facts(&people[user], &instances[at], estimate), &load, now);
                    prop_assert_eq!(asked.is_ok(), room, "{:?}", asked);
                    if let Ok(admitted) = asked {
                        books.largest = books.largest.max(estimate);
                        books.running.push(Running { user, at, estimate, admitted });
                    }
                }
                Step::Move { which, to, estimate } if !books.running.is_empty() => {
                    let which = which % books.running.len();
                    let room = books.running[which].at == to || books.has_room(1, to, caps);
                    let call = &mut books.running[which];
                    let asked = facts(&people[call.user], &instances[to], estimate);
                    let moved = admission.admit_elsewhere(&asked, &call.admitted, now);
                    prop_assert_eq!(moved.is_ok(), room, "{:?}", moved);
                    // Half of those that may go do not: another reason is in the way.
                    if let Ok(moved) = moved && estimate % 2 == 0 {
                        call.admitted.become_of(moved);
                        // A call that has begun may be thought dearer elsewhere: no room is asked for that.
                        let growth = estimate.saturating_sub(call.estimate);
                        (call.at, call.estimate) = (to, estimate);
                        books.largest = books.largest.max(estimate) + growth;
                    }
                }
                Step::End { which, percent } if !books.running.is_empty() => end(&mut books, which, percent),
                _ => {}
            }
            books.check(caps);
        }
        let used = books.used;
        while !books.running.is_empty() {
            end(&mut books, 0, None);
        }
        prop_assert_eq!(books.used, used);
        let stored: u64 = admission.take_unsaved().iter().map(|entry| entry.used.tokens).sum();
        prop_assert_eq!(stored, used.iter().flatten().sum::<u64>(), "each use counts once on each account");
    }
}
