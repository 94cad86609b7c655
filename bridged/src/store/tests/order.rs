//! Events in any order, twice, and from several processes.

use super::audits::faults;
use super::finding::Explained;
use super::*;

pub(super) async fn an_event_that_comes_twice_counts_once(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", Some("s1"), "hello");
    let (id, again) = (
        start.id,
        Started {
            id: start.id,
            ..started("ann", Some("s1"), "hello")
        },
    );
    fixture.start(start).await;
    fixture.start(again).await;
    fixture.end(ended(id)).await;
    fixture
        .end(Ended {
            outcome: Outcome::Failed,
            ..ended(id)
        })
        .await;
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    assert_eq!((sessions[0].interceptions, sessions[0].usage.input), (1, 10));
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!(row.outcome, Some("completed"));
}

pub(super) async fn tool_results_chain_requests_into_a_thread(home: Home) {
    let fixture = fresh(home).await;
    let first = started("ann", None, "look at the file");
    let root = first.id;
    fixture.start(first).await;
    let mut end = ended(root);
    end.facts.as_mut().unwrap().tool_calls = vec![call("call_1"), call("call_2")];
    fixture.end(end).await;

    let results = |id: &str, failed| {
        vec![ToolResult {
            call_id: id.to_owned(),
            is_error: Some(failed),
        }]
    };
    let second = Started {
        tool_results: results("call_2", true),
        prompt: None,
        ..started("ann", None, "")
    };
    let other = Started {
        tool_results: results("call_2", true),
        ..started("eve", None, "mine?")
    };
    let (second_id, other_id) = (second.id, other.id);
    fixture.start(second).await;
    fixture.start(other).await;

    let row = fixture
        .store
        .interception(second_id, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.thread_root_id, row.thread_parent_id), (root, Some(root)));
    assert_eq!(
        row.session_id,
        root.to_string(),
        "a thread without a client's session is one"
    );
    let parent = fixture.store.interception(root, None).await.unwrap().unwrap();
    let results: Vec<_> = parent.tool_calls.iter().map(|call| call.result).collect();
    assert_eq!(results, [None, Some("error")]);
    let foreign = fixture.store.interception(other_id, None).await.unwrap().unwrap();
    assert_eq!(
        foreign.thread_parent_id, None,
        "another user's calls are not answered"
    );

    let found = fixture.store.session(root.to_string(), Vec::new()).await.unwrap();
    let (session, threads) = &found[0];
    assert_eq!(
        (session.interceptions, session.threads, session.tool_calls),
        (2, 1, 2)
    );
    assert_eq!(threads[0].interceptions, [root, second_id]);
}

pub(super) async fn what_a_dead_process_left_open_is_aborted(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", None, "x");
    let id = start.id;
    fixture.start(start).await;
    let home = fixture.close().await;
    let again = open(home, Content::Prompts).await;
    assert_eq!(
        again.aborted(id).await.error_kind.as_deref(),
        Some("gateway_stopped")
    );
}

pub(super) async fn an_end_may_come_before_its_start(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", Some("s1"), "hello");
    let id = start.id;
    fixture.end(ended(id)).await;
    assert!(fixture.store.interception(id, None).await.unwrap().is_none());
    fixture.start(start).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!((row.outcome, row.usage.len()), (Some("completed"), 1));
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    assert_eq!((sessions[0].interceptions, sessions[0].usage.input), (1, 10));
}

/// Writes events as one batch, by a process of its own.
pub(super) async fn write_batch(store: &Store, events: Vec<Event>) {
    let write = move |database: &mut dyn Database| {
        sql::transaction(database, |database| {
            let (instance, head) = lease::enter(database, Uuid::now_v7())?;
            write::write(database, &mut write::Memory::new(instance, head), &events)
        })
    };
    store.ask(write).await.unwrap();
}

pub(super) async fn an_end_is_looked_up_also_in_a_list_that_seems_to_be_empty(home: Home) {
    let store = again(&home).await;
    let start = started("ann", None, "x");
    let end = ended(start.id);
    write_batch(&store, vec![Event::Start(Box::new(start))]).await;
    let plans = tokio::task::spawn_blocking(move || {
        let mut database = store.connect_to_write(Durability::Strict).unwrap();
        if database.dialect() == Dialect::Postgres {
            // What the server knows of it is mostly from a moment without calls.
            let sql = "UPDATE pg_class SET reltuples = 0, relpages = 0 WHERE oid = 'open'::regclass";
            database.execute(sql, &[]).unwrap();
        }
        let (instance, head) = lease::enter(database.as_mut(), Uuid::now_v7()).unwrap();
        let mut database = Explained {
            database: database.as_mut(),
            plans: Vec::new(),
        };
        let mut memory = write::Memory::new(instance, head);
        write::write(&mut database, &mut memory, &[Event::End(Box::new(end))]).unwrap();
        database.plans
    });
    let plans = plans.await.unwrap();
    let (_, plan) = plans
        .iter()
        .find(|(sql, _)| sql.starts_with("DELETE FROM open"))
        .unwrap();
    let is_looked_up = plan.contains("Index Cond: (id = ANY") || plan.contains("(id=?)");
    assert!(is_looked_up, "{plan}");
}

/// The events of a thread of `length` requests, each of which answers the one before.
pub(super) fn thread(length: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for number in 0..length {
        let answers = (number > 0).then(|| ToolResult {
            call_id: format!("call_{}", number - 1),
            is_error: None,
        });
        let start = Started {
            tool_results: answers.into_iter().collect(),
            ..started("ann", None, "next")
        };
        let mut end = ended(start.id);
        end.facts.as_mut().unwrap().tool_calls = vec![call(&format!("call_{number}"))];
        events.extend([Event::Start(Box::new(start)), Event::End(Box::new(end))]);
    }
    events
}

pub(super) async fn a_thread_is_found_within_one_batch(home: Home) {
    let store = again(&home).await;
    let events = thread(5);
    let root = events[0].id();
    write_batch(&store, events).await;
    let found = store.session(root.to_string(), Vec::new()).await.unwrap();
    let (session, threads) = &found[0];
    assert_eq!(
        (session.interceptions, session.threads, session.tool_calls),
        (5, 1, 5)
    );
    assert_eq!(threads[0].interceptions.len(), 5);
}

pub(super) async fn an_end_from_a_process_thought_dead_counts(home: Home) {
    let fixture = fresh(home).await;
    let start = started("ann", Some("s"), "x");
    let id = start.id;
    fixture.start(start).await;
    let home = fixture.close().await;
    let fixture = fresh(home).await;
    let row = fixture.aborted(id).await;
    assert_eq!(row.error_kind.as_deref(), Some("gateway_stopped"));
    fixture.end(ended(id)).await;
    let row = fixture.store.interception(id, None).await.unwrap().unwrap();
    assert_eq!((row.outcome, row.error_kind), (Some("completed"), None));
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    assert_eq!(sessions[0].usage.input, 10);
    assert_eq!(super::days::are_right(&fixture.store).await, 1);
}

pub(super) async fn a_clock_that_steps_back_confuses_nobody(home: Home) {
    let fixture = fresh(home).await;
    let mut ids = Vec::new();
    // Each request is an hour earlier than the one before it.
    for hour in (10..20_u64).rev() {
        let at = uuid::Timestamp::from_unix(uuid::NoContext, hour * 3_600, 0);
        let start = Started {
            id: Uuid::new_v7(at),
            started_at: Micros(i64::try_from(hour).unwrap() * 3_600_000_000),
            ..started("ann", Some("s"), &format!("at {hour}"))
        };
        let end = Ended {
            ended_at: Micros(start.started_at.0 - 60_000_000),
            ..ended(start.id)
        };
        ids.push(start.id);
        fixture.start(start).await;
        fixture.end(end).await;
    }
    let (sessions, _) = fixture.store.sessions(Filter::default(), PAGE).await.unwrap();
    let session = &sessions[0];
    assert_eq!(
        (session.interceptions, session.last_prompt.as_deref()),
        (10, Some("at 19"))
    );
    assert!(session.started_at.contains("T10:00") && session.last_active_at.contains("T19:00"));
    let (rows, _) = fixture
        .store
        .interceptions(Filter::default(), PAGE)
        .await
        .unwrap();
    assert_eq!(
        rows.iter().map(|row| row.id).collect::<Vec<_>>(),
        ids,
        "latest first"
    );
    assert_eq!(faults(&fixture.store, Vec::new()).await, []);
}

pub(super) async fn sums_do_not_depend_on_the_order_of_events(home: Home) {
    let store = again(&home).await;
    let mut sums = Vec::new();
    for turn in 0..4 {
        let user = format!("user {turn}");
        let mut events = Vec::new();
        for number in 0..5 {
            let start = Started {
                started_at: Micros(1_000_000 * (number + 1)),
                ..started(&user, Some("s"), &format!("prompt {number}"))
            };
            let end = ended(start.id);
            events.extend([Event::Start(Box::new(start)), Event::End(Box::new(end))]);
        }
        match turn {
            0 => {}
            1 => events.reverse(),
            2 => events.rotate_left(3),
            _ => events.sort_by_key(|event| matches!(event, Event::Start(_))),
        }
        // In batches of three, by different processes.
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(3));
            write_batch(&store, std::mem::replace(&mut events, rest)).await;
        }
        let filter = Filter {
            user: vec![user],
            ..Filter::default()
        };
        let session = store.sessions(filter, PAGE).await.unwrap().0.remove(0);
        let shown = serde_json::to_value(&session).unwrap();
        let counts = [
            "interceptions",
            "usage",
            "cost_micros",
            "started_at",
            "last_active_at",
            "last_prompt",
        ];
        sums.push(counts.map(|name| shown[name].clone()));
    }
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    assert_eq!(super::days::are_right(&store).await, 4);
    assert_eq!(faults(&store, Vec::new()).await, []);
}
