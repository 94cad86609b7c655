//! Budgets under any interleaving, over periods, and with other processes.

use proptest::prelude::*;

use super::*;

fn config(micros: Option<u64>, tokens: Option<u64>) -> BudgetConfig {
    BudgetConfig {
        name: "b".into(),
        scope: Scope::default(),
        per: Per::All,
        period: Period::Day,
        micros,
        tokens,
        refuse_unpriced: false,
        refusal_status: 400,
    }
}

fn money(micros: u64) -> Usage {
    Usage { tokens: 0, micros }
}

const DAY: Micros = Micros(86_400_000_000);

#[test]
fn a_new_period_begins_at_nothing_and_says_when() {
    let (account, config) = (Account::default(), config(Some(100), None));
    for (held, used, news) in [
        (60, 84, None),
        (1, 6, Some((85, 0.9, DAY))),
        (60, 5, None),
        (9, 9, Some((100, 1.04, DAY))),
    ] {
        assert_eq!(account.reserve(&config, money(held), DAY), Ok(()));
        account.settle(&config, money(held), money(used));
        assert_eq!(account.take_news(&config), news, "{used}");
        assert_eq!(account.take_news(&config), None);
    }
    let next = Micros(DAY.0 * 2);
    assert_eq!(
        account.reserve(&config, money(1), Micros(next.0 - 1)),
        Err((Spent::Money, next))
    );
    assert_eq!(account.reserve(&config, money(1), next), Ok(()));
}

#[test]
fn what_is_spent_is_saved_once_and_others_spend_too() {
    let (account, config) = (Account::default(), config(None, Some(100)));
    let tokens = |tokens| Usage { tokens, micros: 0 };
    let unsaved = || {
        let mut found = Vec::new();
        account.take_unsaved(|since, used| found.push((since, used)));
        found
    };
    account.reserve(&config, tokens(50), DAY).unwrap();
    account.settle(&config, tokens(50), tokens(30));
    assert_eq!(unsaved(), [(DAY.0, tokens(30))]);
    assert_eq!(unsaved(), []);
    // The store could not be written; meanwhile the day ended.
    account.put_back(DAY, tokens(30));
    let next = Micros(DAY.0 * 2);
    account.reserve(&config, tokens(1), next).unwrap();
    account.settle(&config, tokens(1), tokens(2));
    assert_eq!(unsaved(), [(DAY.0, tokens(30)), (next.0, tokens(2))]);
    account.learn(&config, next, tokens(99));
    assert_eq!(
        account.take_news(&config).map(|news| news.0),
        Some(85),
        "others' use counts too"
    );
    assert_eq!(account.reserve(&config, tokens(1), next), Ok(()));
    account.settle(&config, tokens(1), tokens(1));
    assert!(account.reserve(&config, tokens(1), next).is_err());
}

/// One step of a call: it asks, or one of those that run ends having used a share of what it held.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u64),
    End { which: usize, percent: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1_u64..500).prop_map(Step::Ask),
        (0_usize..64, 0_u64..=100).prop_map(|(which, percent)| Step::End { which, percent }),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn no_interleaving_exceeds_a_budget_by_more_than_one_reservation(cap in 1_u64..5_000, steps in steps()) {
        let (account, config) = (Account::default(), config(Some(cap), None));
        let mut running = Vec::new();
        let (mut used, mut largest) = (0, 0);
        for step in steps {
            match step {
                Step::Ask(held) => {
                    if account.reserve(&config, money(held), DAY).is_ok() {
                        running.push(held);
                        largest = largest.max(held);
                    }
                }
                Step::End { which, percent } if !running.is_empty() => {
                    let held = running.swap_remove(which % running.len());
                    let share = held * percent / 100;
                    account.settle(&config, money(held), money(share));
                    used += share;
                }
                Step::End { .. } => {}
            }
            // Even if everything that runs uses all it has reserved.
            let worst = used + running.iter().sum::<u64>();
            prop_assert!(worst < cap + largest.max(1), "{worst} of {cap}, largest {largest}");
        }
    }
}

#[test]
fn parallel_threads_do_not_exceed_it_either() {
    let (account, config) = (Account::default(), config(Some(10_000), None));
    let (account, config) = (&account, &config);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                for _ in 0..1_000 {
                    if account.reserve(config, money(70), DAY).is_ok() {
                        std::thread::yield_now();
                        account.settle(config, money(70), money(70));
                    }
                }
            });
        }
    });
    let books = account.lock();
    assert_eq!(books.reserved, Usage::default());
    assert!(
        (10_000..10_070).contains(&books.spent.micros),
        "{}",
        books.spent.micros
    );
}
