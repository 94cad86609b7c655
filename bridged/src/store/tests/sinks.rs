//! Chains on their way to sinks: each has one keeper, and nothing is passed over.

use super::*;
use crate::store::lease;

const SINK: &str = "siem";
const NONE: [Uuid; 0] = [];

/// Another process, which only delivers.
async fn enter(store: &Store) -> i64 {
    let entered = store.ask(|database| lease::enter(database, Uuid::now_v7()));
    entered.await.unwrap().0
}

/// Lets the lease of a process run out.
async fn expire(store: &Store, number: i64) {
    let expired = store.ask(move |database| lease::end(database, number));
    expired.await.unwrap();
}

async fn end_one(fixture: &Fixture, user: &str) -> Uuid {
    let start = started(user, None, "hello");
    let id = start.id;
    fixture.start(start).await;
    fixture.end(ended(id)).await;
    id
}

async fn number(fixture: &Fixture) -> i64 {
    fixture
        .store
        .number_of(fixture.writer.name())
        .await
        .unwrap()
        .unwrap()
}

/// What is due to `own`, without delivering it.
async fn due(store: &Store, own: i64) -> Vec<Uuid> {
    due_to(SINK, store, own).await
}

async fn due_to(sink: &str, store: &Store, own: i64) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for share in store.shares(sink, own).await.unwrap() {
        let due = store.due(share, Filter::default(), 100).await.unwrap();
        ids.extend(due.rows.iter().map(|(_, row)| row.id));
    }
    ids
}

pub(super) async fn a_new_sink_begins_with_what_comes(home: Home) {
    let fixture = fresh(home).await;
    end_one(&fixture, "ann").await;
    let (store, own) = (fixture.store.clone(), number(&fixture).await);
    store.enter_sink(SINK).await.unwrap();
    store
        .begin_own(SINK, own, Some(Clock::system().micros()))
        .await
        .unwrap();
    store.take_over(SINK, own).await.unwrap();
    assert_eq!(due(&store, own).await, NONE);
    let id = end_one(&fixture, "ann").await;
    store.enter_sink(SINK).await.unwrap();
    assert_eq!(due(&store, own).await, [id]);

    let share = store.shares(SINK, own).await.unwrap()[0];
    assert_eq!(store.count_due(vec![share]).await.unwrap(), 1);
    let other = Filter {
        user: vec!["bob".to_owned()],
        ..Filter::default()
    };
    let passed = store.due(share, other, 100).await.unwrap();
    assert!(
        passed.rows.is_empty() && passed.next.n == share.end,
        "what does not fit is passed"
    );
    let next = store.due(share, Filter::default(), 1).await.unwrap().next;
    assert!(store.delivered(SINK, own, next).await.unwrap());
    assert!(
        !store.delivered(SINK, own, next).await.unwrap(),
        "a position moves on only"
    );
    assert_eq!(due(&store, own).await, NONE);
    fixture.close().await;
}

pub(super) async fn a_new_sink_gets_what_waited_for_the_store(home: Home) {
    let fixture = fresh(home).await;
    let (store, mut ids) = (fixture.store.clone(), Vec::new());
    for second in 1..=4 {
        let start = started("ann", None, "hello");
        let ended_at = Micros(second * 1_000_000);
        let end = Ended {
            ended_at,
            ..ended(start.id)
        };
        ids.push(start.id);
        fixture.start(start).await;
        fixture.end(end).await;
    }
    let own = number(&fixture).await;
    // The process began with the first sink, and has had the second since the third second. It comes to enter them
    // when all of its records are in the store.
    for (sink, since, wanted) in [
        (SINK, None, &*ids),
        ("second", Some(Micros(3_000_000)), &ids[2..]),
        ("third", Some(Micros(9_000_000)), &ids[4..]),
    ] {
        store.enter_sink(sink).await.unwrap();
        store.begin_own(sink, own, since).await.unwrap();
        store.take_over(sink, own).await.unwrap();
        assert_eq!(due_to(sink, &store, own).await, wanted, "{sink}");
    }
    // What has arrived does not come again, whatever is said then.
    let share = store.shares(SINK, own).await.unwrap()[0];
    let next = store.due(share, Filter::default(), 2).await.unwrap().next;
    assert!(store.delivered(SINK, own, next).await.unwrap());
    store.enter_sink(SINK).await.unwrap();
    store.begin_own(SINK, own, None).await.unwrap();
    assert_eq!(due(&store, own).await, ids[2..]);
    fixture.close().await;
}

pub(super) async fn the_chain_of_a_dead_process_is_taken_over_by_one(home: Home) {
    let fixture = fresh(home).await;
    let store = fixture.store.clone();
    store.enter_sink(SINK).await.unwrap();
    let id = end_one(&fixture, "ann").await;
    let dead = number(&fixture).await;
    store.take_over(SINK, dead).await.unwrap();
    let share = store.shares(SINK, dead).await.unwrap()[0];
    let (one, two) = (enter(&store).await, enter(&store).await);
    assert_eq!(
        store.take_over(SINK, one).await.unwrap(),
        1,
        "its own, while the other lives"
    );
    assert_eq!(due(&store, one).await, NONE);
    let _home = fixture.close().await;

    let both = tokio::join!(store.take_over(SINK, one), store.take_over(SINK, two));
    let (by_one, by_two) = (due(&store, one).await, due(&store, two).await);
    assert_eq!([by_one, by_two].concat(), [id], "{both:?}");
    let keeper = if due(&store, one).await.is_empty() {
        two
    } else {
        one
    };
    let other = one + two - keeper;
    // The dead one, should it live on, notices.
    assert!(
        !store
            .delivered(SINK, dead, share.behind(share.end))
            .await
            .unwrap()
    );
    store.take_over(SINK, other).await.unwrap();
    assert_eq!(due(&store, other).await, NONE, "the keeper lives");
    expire(&store, keeper).await;
    store.take_over(SINK, other).await.unwrap();
    assert_eq!(due(&store, other).await, [id]);
}

pub(super) async fn a_process_gets_its_own_chain_back(home: Home) {
    let fixture = fresh(home).await;
    let store = fixture.store.clone();
    store.enter_sink(SINK).await.unwrap();
    let id = end_one(&fixture, "ann").await;
    let own = number(&fixture).await;
    let other = enter(&store).await;
    // It was thought dead, and lives.
    expire(&store, own).await;
    store.take_over(SINK, other).await.unwrap();
    assert_eq!(due(&store, other).await, [id]);
    store.take_over(SINK, own).await.unwrap();
    assert_eq!(due(&store, own).await, NONE, "one keeper at a time");
    expire(&store, other).await;
    store.take_over(SINK, own).await.unwrap();
    assert_eq!(due(&store, own).await, [id]);
    fixture.close().await;
}
