//! Pages and filters.

use super::order::write_batch;
use super::*;

pub(super) async fn users_with_the_same_session_id_stay_apart(home: Home) {
    let fixture = fresh(home).await;
    fixture.start(started("ann", Some("same"), "a")).await;
    fixture.start(started("bob", Some("same"), "b")).await;
    let found = fixture
        .store
        .session("same".to_owned(), vec!["bob".to_owned()])
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.last_prompt.as_deref(), Some("b"));
    assert_eq!(
        fixture
            .store
            .session("same".to_owned(), Vec::new())
            .await
            .unwrap()
            .len(),
        2
    );
}

pub(super) async fn pages_neither_skip_nor_repeat(home: Home) {
    let fixture = fresh(home).await;
    for number in 0..25 {
        fixture
            .start(started("ann", Some(&format!("s{number}")), "x"))
            .await;
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = Page { cursor, limit: 10 };
        let (rows, next) = fixture
            .store
            .interceptions(Filter::default(), page)
            .await
            .unwrap();
        assert!(rows.iter().all(|row| seen.insert(row.id)));
        // What is added meanwhile must not shift the pages.
        fixture.start(started("bob", None, "new")).await;
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 25);

    let (first, next) = fixture
        .store
        .sessions(
            Filter::default(),
            Page {
                cursor: None,
                limit: 20,
            },
        )
        .await
        .unwrap();
    let (second, _) = fixture
        .store
        .sessions(
            Filter::default(),
            Page {
                cursor: next,
                limit: 20,
            },
        )
        .await
        .unwrap();
    let ids: std::collections::BTreeSet<_> = first.iter().chain(&second).map(|row| row.id.clone()).collect();
    assert_eq!(ids.len(), first.len() + second.len());
}

pub(super) async fn filters_hold_together(home: Home) {
    let fixture = fresh(home).await;
    // Ids are of the date at which requests begin.
    let early = |start: Started| Started {
        id: Uuid::from_u128(start.id.as_u128() & u128::MAX >> 48 | 1_000 << 80),
        ..start
    };
    let start = early(started("ann", Some("s1"), "x"));
    let id = start.id;
    fixture.start(start).await;
    fixture.end(ended(id)).await;
    fixture.start(early(started("bob", Some("s2"), "y"))).await;
    let words = |word: &str| vec![word.to_owned()];
    let both = || vec!["ann".to_owned(), "bob".to_owned()];
    type Set = Box<dyn Fn(&mut Filter)>;
    let cases: [(&str, Set, usize); 9] = [
        ("user", Box::new(move |f| f.user = words("bob")), 1),
        ("two users", Box::new(move |f| f.user = both()), 2),
        ("unknown model", Box::new(move |f| f.model = words("none")), 0),
        (
            "client and user",
            Box::new(move |f| (f.client, f.user) = (words("Codex"), words("ann"))),
            1,
        ),
        ("session", Box::new(move |f| f.session = words("s2")), 1),
        ("in flight", Box::new(|f| f.status = vec![Status::InFlight]), 1),
        (
            "ended",
            Box::new(|f| f.status = vec![Status::Ended(Outcome::Completed)]),
            1,
        ),
        ("later", Box::new(|f| f.after = Some(Micros(1_000_001))), 0),
        ("earlier", Box::new(|f| f.before = Some(Micros(1_000_001))), 2),
    ];
    for (name, set, want) in cases {
        let mut filter = Filter::default();
        set(&mut filter);
        let (rows, _) = fixture.store.interceptions(filter, PAGE).await.unwrap();
        assert_eq!(rows.len(), want, "{name}");
    }
    let filter = Filter {
        provider: words("openai"),
        client: words("Codex"),
        ..Filter::default()
    };
    let (sessions, _) = fixture.store.sessions(filter, PAGE).await.unwrap();
    assert_eq!(sessions.len(), 2);
}

const STATES: [&[Status]; 5] = [
    &[],
    &[Status::Ended(Outcome::Failed)],
    &[Status::InFlight],
    &[Status::Ended(Outcome::Completed)],
    &[
        Status::Ended(Outcome::Refused),
        Status::InFlight,
        Status::Ended(Outcome::Completed),
        Status::Ended(Outcome::Aborted),
    ],
];

/// Every combination of filters: user, client, provider, model, session, status.
pub(super) fn filters() -> impl Iterator<Item = Filter> {
    let word = |is_set: bool, word: &str| if is_set { vec![word.to_owned()] } else { Vec::new() };
    (0..32 * STATES.len() as u32).map(move |bits| {
        let is_set = |bit: u32| bits & (1 << bit) != 0;
        Filter {
            user: word(is_set(0), "ann"),
            client: word(is_set(1), "Codex"),
            provider: word(is_set(2), "openai"),
            model: word(is_set(3), "gpt-5.5"),
            session: word(is_set(4), "s1"),
            status: STATES[(bits >> 5) as usize].to_vec(),
            ..Filter::default()
        }
    })
}

pub(super) async fn every_list_is_read_by_an_index(home: Home) {
    let store = again(&home).await;
    let mut events = Vec::new();
    for number in 0..2_000 {
        let start = Started {
            client: format!("client {}", number % 12).into(),
            model: Some(format!("model {}", number % 30)),
            ..started(&format!("user {}", number % 40), Some(&format!("s{number}")), "x")
        };
        let end = ended(start.id);
        events.extend([Event::Start(Box::new(start)), Event::End(Box::new(end))]);
    }
    write_batch(&store, events).await;
    let plans = store.ask(|database| {
        let (dialect, explain) = match database.dialect() {
            Dialect::Sqlite => (Dialect::Sqlite, "EXPLAIN QUERY PLAN"),
            Dialect::Postgres => (Dialect::Postgres, "EXPLAIN"),
        };
        if dialect == Dialect::Postgres {
            // A table of a few pages is read whole whatever there is; this asks what a large one would get.
            database.script("ANALYZE; SET enable_seqscan = off")?;
        }
        let mut plans = Vec::new();
        for filter in filters() {
            for cursor in [None, Some(Cursor(u64::MAX >> 2, 5))] {
                let page = Page { cursor, limit: 50 };
                let lists = [
                    read::page_of(dialect, &filter, page),
                    sessions::page_of(dialect, &filter, page),
                ];
                for (sql, question) in lists {
                    let rows = database.query(&format!("{explain} {sql}"), &question.values)?;
                    plans.push((sql, rows));
                }
            }
        }
        Ok(plans)
    });
    for (sql, plan) in plans.await.unwrap() {
        let text = format!("{plan:?}");
        for table in ["interception", "session", "session_combo", "reply", "unusual"] {
            // A list without filters is a walk along its index; a walk without one reads the table.
            let scans = [format!("Seq Scan on {table} "), format!("SCAN {table}\"")];
            assert!(!scans.iter().any(|scan| text.contains(scan)), "{sql}\n{text}");
        }
        // The whole list in the order of its key is a walk that ends with the page.
        let is_whole = plan.len() == 1 || sql.starts_with("SELECT x.id FROM interception x WHERE coalesce(");
        let aliases = if is_whole {
            &["i", "f", "s"][..]
        } else {
            &["x", "i", "f", "s"]
        };
        // What is open is a short list.
        let has_open = sql.contains("FROM open x");
        for alias in aliases.iter().filter(|alias| **alias != "x" || !has_open) {
            let line = |row: &sql::Row| format!("{row:?}");
            let is_walk = |line: &String| line.contains(&format!("\"SCAN {alias}\""));
            assert!(!plan.iter().map(line).any(|line| is_walk(&line)), "{sql}\n{text}");
        }
    }
}

/// Interceptions of every state, of two users, clients, providers, models and sessions.
async fn of_all_sorts(store: &Store) {
    let outcomes = [
        Outcome::Completed,
        Outcome::Failed,
        Outcome::Refused,
        Outcome::Aborted,
    ];
    let mut events = Vec::new();
    for number in 0..160_usize {
        let pick = |bit: usize, one: &str, other: &str| {
            let word = if number >> bit & 1 == 0 { one } else { other };
            word.to_owned()
        };
        let start = Started {
            client: pick(1, "Codex", "Cline").into(),
            provider: pick(2, "openai", "local").into(),
            model: (number % 7 > 0).then(|| pick(3, "gpt-5.5", "gpt-4")),
            ..started(&pick(0, "ann", "bob"), Some(&pick(4, "s1", "s2")), "x")
        };
        let end = outcomes.get(number % 5).map(|outcome| Ended {
            outcome: *outcome,
            ..ended(start.id)
        });
        events.push(Event::Start(Box::new(start)));
        events.extend(end.map(|end| Event::End(Box::new(end))));
    }
    write_batch(store, events).await;
}

/// All rows that a filter finds, page by page.
async fn found(store: &Store, filter: &Filter) -> Vec<Uuid> {
    let mut ids = Vec::new();
    let mut page = Page {
        cursor: None,
        limit: 7,
    };
    loop {
        let (rows, next) = store.interceptions(filter.clone(), page).await.unwrap();
        ids.extend(rows.iter().map(|row| row.id));
        if next.is_none() {
            return ids;
        }
        page.cursor = next;
    }
}

pub(super) async fn every_filter_finds_what_a_look_at_each_row_finds(home: Home) {
    let store = again(&home).await;
    of_all_sorts(&store).await;
    let page = Page {
        cursor: None,
        limit: 1_000,
    };
    let (rows, _) = store.interceptions(Filter::default(), page).await.unwrap();
    assert_eq!(rows.len(), 160);
    let fits = |words: &[String], word: Option<&str>| {
        words.is_empty() || word.is_some_and(|word| words.iter().any(|one| one == word))
    };
    let has_state = |filter: &Filter, outcome: Option<&str>| {
        let is = |status: &Status| match status {
            Status::InFlight => outcome.is_none(),
            Status::Ended(wanted) => outcome == Some(wanted.as_str()),
        };
        filter.status.is_empty() || filter.status.iter().any(is)
    };
    for filter in filters() {
        let wanted: Vec<Uuid> = rows
            .iter()
            .filter(|row| {
                fits(&filter.user, Some(&row.user))
                    && fits(&filter.client, Some(&row.client))
                    && fits(&filter.provider, Some(&row.provider))
                    && fits(&filter.model, row.model.as_deref())
                    && fits(&filter.session, Some(&row.session_id))
                    && has_state(&filter, row.outcome)
            })
            .map(|row| row.id)
            .collect();
        assert_eq!(found(&store, &filter).await, wanted, "{filter:?}");
    }
}
