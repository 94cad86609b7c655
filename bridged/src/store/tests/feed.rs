//! The feed: what has ended is told in order, once, from wherever a reader left it.

use super::*;
use crate::store::filter::first_id;
use crate::store::{Portion, Position, Query, Warning};

/// Ends some interceptions of `user`; returns their ids.
async fn ends(fixture: &Fixture, user: &str, count: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let start = Started {
            started_at: Clock::system().micros(),
            ..started(user, Some(user), "hello")
        };
        ids.push(start.id);
        let id = start.id;
        fixture.start(start).await;
        fixture.end(ended(id)).await;
    }
    ids
}

fn ids(portion: &Portion) -> Vec<Uuid> {
    portion.told.iter().map(|told| told.row.id).collect()
}

async fn everything(store: &Store, filter: &Filter, limit: u32) -> (Vec<Uuid>, Position) {
    let (mut found, mut position) = (Vec::new(), Position::default());
    loop {
        let portion = store.feed(position, filter.clone(), limit).await.unwrap();
        found.extend(ids(&portion));
        position = portion.position.clone();
        if !portion.more {
            return (found, position);
        }
    }
}

pub(super) async fn a_reader_goes_on_where_it_stopped(home: Home) {
    let one = fresh(home).await;
    let open = started("ann", None, "still open");
    one.start(open).await;
    let first = ends(&one, "ann", 3).await;
    let store = one.store.clone();
    assert_eq!(everything(&store, &Filter::default(), 2).await.0, first);
    let end = store.feed_end().await.unwrap();
    let nothing = store.feed(end.clone(), Filter::default(), 10).await.unwrap();
    assert!(nothing.told.is_empty() && !nothing.more);

    // The next process on the same data folder, and a second gateway beside it.
    let two = fresh(one.close().await).await;
    let second = ends(&two, "bob", 2).await;
    let portion = two.store.feed(end.clone(), Filter::default(), 10).await.unwrap();
    let told = ids(&portion);
    // What was open is told of as aborted by the recovery.
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[1..], second);
    let mut middle = end;
    middle.pass(&portion.told[0]);
    let rest = two.store.feed(middle, Filter::default(), 10).await.unwrap();
    assert_eq!(ids(&rest), second);
    // The position that the reader keeps survives the restart.
    let (one, two_key) = (again(&two.home).await, two.store.position_key().await.unwrap());
    let sealed = two_key.seal(&rest.position);
    let opened = one.position_key().await.unwrap().open(&sealed).unwrap();
    assert!(
        one.feed(opened, Filter::default(), 10)
            .await
            .unwrap()
            .told
            .is_empty()
    );
    two.close().await;
}

/// A moment between the interceptions of the test and the one that is dated later.
fn soon() -> Micros {
    Clock::system()
        .micros()
        .plus(std::time::Duration::from_secs(50_000))
}

pub(super) async fn a_feed_tells_only_what_was_asked_for(home: Home) {
    let fixture = fresh(home).await;
    let ann = ends(&fixture, "ann", 2).await;
    let bob = ends(&fixture, "bob", 2).await;
    let later = Clock::system()
        .micros()
        .plus(std::time::Duration::from_secs(100_000));
    let mut failed = ended(Uuid::nil());
    failed.outcome = Outcome::Failed;
    let start = Started {
        id: first_id(later),
        model: Some("other".to_owned()),
        started_at: later,
        ..started("bob", Some("s"), "x")
    };
    failed.id = start.id;
    let last = start.id;
    fixture.start(start).await;
    fixture.end(failed).await;
    type Case = (fn(&mut Filter), Vec<Uuid>);
    let filters: [Case; 8] = [
        (|filter| filter.user = vec!["ann".into()], ann.clone()),
        (|filter| filter.session = vec!["bob".into()], bob.clone()),
        (|filter| filter.model = vec!["other".into()], vec![last]),
        (
            |filter| filter.status = vec![Status::Ended(Outcome::Failed)],
            vec![last],
        ),
        (|filter| filter.after = Some(soon()), vec![last]),
        (|filter| filter.before = Some(soon()), [ann, bob].concat()),
        // Without waiting for the index.
        (|filter| filter.query = Query::parse("x").ok(), vec![last]),
        (|filter| filter.user = vec!["nobody".into()], Vec::new()),
    ];
    for (number, (set, want)) in filters.into_iter().enumerate() {
        let mut filter = Filter::default();
        set(&mut filter);
        for limit in [1, 50] {
            let found = everything(&fixture.store, &filter, limit).await.0;
            assert_eq!(found, want, "filter {number}, limit {limit}");
        }
    }
    fixture.close().await;
}

pub(super) async fn readers_hear_of_a_commit_at_once(home: Home) {
    let fixture = fresh(home).await;
    let mut news = fixture.store.news();
    news.mark_unchanged();
    let id = ends(&fixture, "ann", 1).await[0];
    tokio::time::timeout(std::time::Duration::from_secs(5), news.changed())
        .await
        .unwrap()
        .unwrap();
    let portion = fixture
        .store
        .feed(Position::default(), Filter::default(), 10)
        .await
        .unwrap();
    assert_eq!(ids(&portion), [id]);
    fixture.close().await;
}

pub(super) async fn an_interception_that_was_given_up_is_told_of_again(home: Home) {
    let one = fresh(home).await;
    let start = started("ann", None, "x");
    let id = start.id;
    one.start(start).await;
    let two = fresh(one.close().await).await;
    two.aborted(id).await;
    let (told, position) = everything(&two.store, &Filter::default(), 10).await;
    assert_eq!(told, [id]);
    two.end(ended(id)).await;
    let portion = two.store.feed(position, Filter::default(), 10).await.unwrap();
    assert_eq!(ids(&portion), [id]);
    assert_eq!(portion.told[0].row.error_kind, None, "the later one");
    two.close().await;
}

fn warning(account: &str, level: u8) -> Warning {
    Warning {
        budget: "team".into(),
        per: "user".into(),
        account: account.into(),
        level,
        share: f64::from(level) / 100.0,
        since: Micros(0),
        resets_at: Micros(86_400_000_000),
        at: Micros(5),
    }
}

pub(super) async fn a_warning_is_given_once_by_whoever_is_first(home: Home) {
    let one = fresh(home).await;
    let two = again(&one.home).await;
    let near = warning("ann", 85);
    let position = one.store.feed_end().await.unwrap();
    let given = one.store.warn(vec![near.clone()]).await.unwrap();
    assert_eq!(given, std::slice::from_ref(&near));
    assert_eq!(
        two.warn(vec![near.clone(), warning("bob", 100)]).await.unwrap(),
        [warning("bob", 100)]
    );
    // Who notices late does not warn of less than was warned of before.
    assert_eq!(one.store.warn(vec![warning("bob", 85)]).await.unwrap(), []);
    let next = Warning {
        since: Micros(86_400_000_000),
        ..near.clone()
    };
    let given = one.store.warn(vec![next.clone()]).await.unwrap();
    assert_eq!(given, std::slice::from_ref(&next));

    let all = one.store.warnings(&position, None).await.unwrap();
    let accounts: Vec<&str> = all.iter().map(|(_, warning)| &*warning.account).collect();
    assert_eq!(accounts, ["ann", "bob", "ann"]);
    assert_eq!(all[0].1, near);
    let own = one
        .store
        .warnings(&position, Some("bob".to_owned()))
        .await
        .unwrap();
    assert_eq!(own.len(), 1);
    let mut position = position;
    position.pass_warning(all[1].0);
    let rest = one.store.warnings(&position, None).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].1, next);
    let end = one.store.feed_end().await.unwrap();
    assert_eq!(one.store.warnings(&end, None).await.unwrap(), []);
    one.close().await;
}
