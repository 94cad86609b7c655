//! Sums of budgets and last uses of tokens, to which several processes add.

use super::*;
use crate::admission::{Entry, Usage};
use crate::store::{Mark, NewToken};
use crate::token::Role;

fn entry(account: &str, since: i64, tokens: u64) -> Entry {
    Entry {
        budget: "team".into(),
        account: account.into(),
        since: Micros(since),
        used: Usage {
            tokens,
            micros: tokens * 3,
        },
    }
}

async fn sorted(store: &Store, mark: Mark) -> (Vec<Entry>, Mark) {
    let (mut entries, mark) = store.spent(mark).await.unwrap();
    entries.sort_by_key(|entry| (entry.account.to_string(), entry.since.0));
    (entries, mark)
}

pub(super) async fn sums_of_budgets_add_up_over_processes(home: Home) {
    let one = fresh(home).await;
    let two = again(&one.home).await;
    assert_eq!(sorted(&one.store, Mark::default()).await.0, []);
    let first = vec![entry("ann", 1, 10), entry("bob", 1, 5), entry("ann", 2, 1)];
    one.store.spend(first.clone()).await.unwrap();
    two.spend(vec![entry("ann", 1, 7)]).await.unwrap();
    let want = [entry("ann", 1, 17), entry("ann", 2, 1), entry("bob", 1, 5)];
    let (found, mark) = sorted(&two, Mark::default()).await;
    assert_eq!(found, want);
    assert_ne!(mark, Mark::default());
    // What was read a moment ago is read again: a change may become visible late.
    assert_eq!(sorted(&one.store, mark).await.0, want);
    one.close().await;
}

pub(super) async fn the_last_use_of_a_token_never_goes_back(home: Home) {
    let one = fresh(home).await;
    let new = NewToken {
        user: "ann".to_owned(),
        role: Role::Member,
        created_at: Micros(1),
        expires_at: None,
    };
    let (record, _) = one.store.create_token(new).await.unwrap();
    assert_eq!(record.used.at(), None);
    let version = one.store.versions().await.unwrap().tokens;
    for (at, want) in [(500, 500), (300, 500), (900, 900)] {
        one.store.note_uses(vec![(record.id, Micros(at))]).await.unwrap();
        let all = one.store.tokens().await.unwrap();
        assert_eq!(all[0].used.at(), Some(Micros(want)));
    }
    // Other processes need not read their tokens again for it.
    assert_eq!(one.store.versions().await.unwrap().tokens, version);
    one.close().await;
}
