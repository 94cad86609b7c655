//! Usage by day, seats and facets, from the roll-up.

use std::collections::{BTreeMap, BTreeSet};

use super::order::write_batch;
use super::*;
use crate::store::usage::days;

const DAY: i64 = 86_400_000_000;

/// A number of ended interceptions over some forty days, of five users, four clients and two models or none.
async fn filled(home: &Home) -> Store {
    let store = again(home).await;
    let mut events = Vec::new();
    for number in 0..400_i64 {
        let start = Started {
            client: format!("client {}", number % 4).into(),
            model: (number % 3 > 0).then(|| format!("model {}", number % 3)),
            // A day in seven has nothing.
            started_at: Micros((20_000 + number / 10 - number / 70 % 2) * DAY + number),
            ..started(&format!("user {}", number * number % 5), None, "x")
        };
        let mut end = ended(start.id);
        if number % 5 == 0 {
            end.outcome = Outcome::Refused;
        }
        events.extend([Event::Start(Box::new(start)), Event::End(Box::new(end))]);
    }
    write_batch(&store, events).await;
    store
}

async fn all_usage(store: &Store, filter: &Filter, by: &[Dimension], limit: u32) -> Vec<UsageLine> {
    let (mut lines, mut cursor) = (Vec::new(), None);
    loop {
        let page = Page { cursor, limit };
        let (found, next) = store.usage(filter.clone(), by.to_vec(), page).await.unwrap();
        assert!(found.len() <= limit as usize);
        lines.extend(found);
        cursor = next.map(|next| Bookmark::parse(&next.to_string(), by.len()).unwrap());
        if cursor.is_none() {
            return lines;
        }
    }
}

pub(super) async fn usage_adds_up_however_it_is_told_apart(home: Home) {
    let store = filled(&home).await;
    let of_users = Filter {
        user: vec!["user 0".to_owned(), "user 4".to_owned()],
        client: vec!["client 0".to_owned()],
        after: Some(Micros(20_003 * DAY)),
        before: Some(Micros(20_030 * DAY)),
        ..Filter::default()
    };
    for filter in [Filter::default(), of_users] {
        let whole: Vec<UsageLine> = all_usage(&store, &filter, &Dimension::ALL, 1_000).await;
        let sum: i64 = whole.iter().map(|line| line.totals.interceptions).sum();
        assert_eq!(sum == 400, filter.user.is_empty());
        for bits in 0..16_usize {
            let has = |(at, _): &(usize, Dimension)| bits & (1 << at) != 0;
            let by: Vec<Dimension> = Dimension::ALL
                .into_iter()
                .enumerate()
                .filter(has)
                .map(|(_, dimension)| dimension)
                .collect();
            let key = |line: &UsageLine| {
                let words: Vec<String> = by
                    .iter()
                    .map(|dimension| line.word(*dimension).unwrap_or_default().to_owned())
                    .collect();
                (std::cmp::Reverse(line.day.clone()), words)
            };
            let mut want: BTreeMap<_, (i64, i64, i64)> = BTreeMap::new();
            for line in &whole {
                let sums = want.entry(key(line)).or_default();
                sums.0 += line.totals.interceptions;
                sums.1 += line.totals.refused;
                sums.2 += line.totals.usage.output;
            }
            let lines = all_usage(&store, &filter, &by, 7).await;
            let found: Vec<_> = lines
                .iter()
                .map(|line| {
                    let totals = &line.totals;
                    (
                        key(line),
                        (totals.interceptions, totals.refused, totals.usage.output),
                    )
                })
                .collect();
            // In order, nothing twice, nothing left out.
            assert_eq!(found, want.into_iter().collect::<Vec<_>>(), "{by:?}");
        }
    }
}

pub(super) async fn users_and_words_have_pages(home: Home) {
    let store = filled(&home).await;
    let (mut users, mut cursor) = (Vec::new(), None);
    loop {
        let (seats, next) = store
            .seats(Filter::default(), Page { cursor, limit: 1 })
            .await
            .unwrap();
        users.extend(seats.into_iter().map(|seat| seat.user));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    // All that user 0 asked was refused.
    assert_eq!(users, ["user 1", "user 4"]);
    for (dimension, want) in [
        (Dimension::User, vec!["user 0", "user 1", "user 4"]),
        (
            Dimension::Client,
            vec!["client 0", "client 1", "client 2", "client 3"],
        ),
        (Dimension::Model, vec!["model 1", "model 2"]),
        (Dimension::Provider, vec!["openai"]),
    ] {
        let (mut found, mut cursor) = (BTreeSet::new(), None);
        loop {
            let page = Page { cursor, limit: 2 };
            let (facets, next) = store.facets(Filter::default(), dimension, page).await.unwrap();
            assert!(
                facets.iter().all(|facet| found.insert(facet.name.clone())),
                "{dimension:?}"
            );
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found.into_iter().collect::<Vec<_>>(), want, "{dimension:?}");
    }
    let filter = Filter {
        client: vec!["client 1".to_owned()],
        after: Some(Micros(20_030 * DAY)),
        ..Filter::default()
    };
    let page = Page {
        cursor: None,
        limit: 50,
    };
    let (facets, _) = store.facets(filter, Dimension::User, page).await.unwrap();
    let names: Vec<&str> = facets.iter().map(|facet| &*facet.name).collect();
    assert_eq!(names, ["user 0", "user 1", "user 4"]);
}

pub(super) async fn words_of_a_period_are_summed_up_as_its_days_are(home: Home) {
    let store = filled(&home).await;
    // Spans begin on the days 20,000 and 20,032.
    let days = [
        None,
        Some(19_990),
        Some(20_000),
        Some(20_001),
        Some(20_032),
        Some(20_033),
        Some(20_039),
    ];
    let at = |day: Option<i64>| day.map(|day| Micros(day * DAY));
    let periods = days.into_iter().flat_map(|first| days.map(|end| (first, end)));
    for (first, end) in periods.filter(|(first, end)| end.is_none() || first < end) {
        for client in [vec![], vec!["client 1".to_owned()]] {
            let filter = Filter {
                client,
                after: at(first),
                before: at(end),
                ..Filter::default()
            };
            for dimension in Dimension::ALL {
                let mut want: BTreeMap<String, (String, i64, i64)> = BTreeMap::new();
                for line in all_usage(&store, &filter, &[dimension], 1_000).await {
                    let Some(word) = line.word(dimension) else {
                        continue;
                    };
                    let sums = want.entry(word.to_owned()).or_default();
                    sums.0 = line.day.clone().max(std::mem::take(&mut sums.0));
                    sums.1 += line.totals.interceptions;
                    sums.2 += line.totals.usage.input;
                }
                let page = Page {
                    cursor: None,
                    limit: 50,
                };
                let (facets, _) = store.facets(filter.clone(), dimension, page).await.unwrap();
                let found = facets.into_iter().map(|facet| {
                    let totals = facet.totals;
                    (
                        facet.name,
                        (facet.last_day, totals.interceptions, totals.usage.input),
                    )
                });
                let found: BTreeMap<_, _> = found.collect();
                assert_eq!(found, want, "{first:?} to {end:?}, {dimension:?}");
            }
        }
    }
}

pub(super) async fn what_was_taken_back_is_no_use(home: Home) {
    let store = filled(&home).await;
    let moved = "UPDATE usage_day SET interceptions = 0, refused = 0 WHERE day = 20002;
        UPDATE usage_span SET interceptions = 0, refused = 0 WHERE span = 625";
    store.ask(move |database| database.script(moved)).await.unwrap();
    let filter = Filter {
        after: Some(Micros(20_002 * DAY)),
        before: Some(Micros(20_003 * DAY)),
        ..Filter::default()
    };
    assert_eq!(all_usage(&store, &filter, &[], 50).await, []);
    let page = || Page {
        cursor: None,
        limit: 50,
    };
    assert_eq!(store.seats(filter.clone(), page()).await.unwrap().0, []);
    assert_eq!(
        store.facets(filter, Dimension::Client, page()).await.unwrap().0,
        []
    );
    let span = Filter {
        before: Some(Micros(20_032 * DAY)),
        ..Filter::default()
    };
    assert_eq!(store.seats(span, page()).await.unwrap().0, []);
}

pub(super) async fn usage_is_read_by_an_index(home: Home) {
    let store = filled(&home).await;
    let plans = store.ask(|database| {
        let explain = match database.dialect() {
            Dialect::Sqlite => "EXPLAIN QUERY PLAN",
            Dialect::Postgres => {
                database.script("ANALYZE; SET enable_seqscan = off")?;
                "EXPLAIN"
            }
        };
        let mut plans = Vec::new();
        for filter in super::lists::filters().filter(|filter| filter.session.is_empty()) {
            for by in [&[][..], &[Dimension::User], &Dimension::ALL] {
                let (sql, question) = days::within(&filter, by, (20_010, 20_011), None, 50);
                let plan = database.query(&format!("{explain} {sql}"), &question.values)?;
                plans.push((sql, format!("{plan:?}")));
            }
        }
        Ok(plans)
    });
    for (sql, plan) in plans.await.unwrap() {
        for scan in ["SCAN x", "Seq Scan on usage_day"] {
            assert!(!plan.contains(scan), "{sql}\n{plan}");
        }
    }
}
