//! The sums of days: the same as a scan of all interceptions gives, whatever came in which order.

use super::order::{thread, write_batch};
use super::*;
use crate::store::write::GATEWAY_STOPPED;

/// What is counted of interceptions `i` with their replies `u`, in the order of the tables' columns.
const COUNTED: [&str; 15] = [
    "count(*)",
    "sum(CASE WHEN u.outcome = 1 THEN 1 ELSE 0 END)",
    "sum(CASE WHEN u.outcome = 2 THEN 1 ELSE 0 END)",
    "sum(CASE WHEN u.outcome = 3 THEN 1 ELSE 0 END)",
    "sum(CASE WHEN u.outcome = 4 THEN 1 ELSE 0 END)",
    "sum((SELECT count(*) FROM prompt p WHERE p.interception = i.id))",
    "sum((SELECT count(*) FROM tool_call t WHERE t.interception = i.id))",
    "sum(coalesce(u.input, 0))",
    "sum(coalesce(u.output, 0))",
    "sum(coalesce(u.cache_read, 0))",
    "sum(coalesce(u.cache_write, 0))",
    "sum(coalesce(u.reasoning, 0))",
    "sum(u.cost_micros)",
    "sum(CASE WHEN u.usage_source IS NULL AND u.outcome IN (1, 4) THEN 1 ELSE 0 END)",
    "sum(CASE WHEN u.usage_source IS NOT NULL AND u.cost_micros IS NULL THEN 1 ELSE 0 END)",
];

/// Checks that the sums of days and spans are as a scan gives them, and returns how many of days there are.
pub(super) async fn are_right(store: &Store) -> usize {
    let day = "i.started_at / 86400000000";
    let ends = format!("min({day}), max({day})");
    let counted = COUNTED
        .map(|column| format!("CAST({column} AS BIGINT)"))
        .join(", ");
    let mut rows = 0;
    for (table, key, scanned) in [
        (
            "usage_span WHERE span = -1000000 AND",
            "span, who, combo, first_day, last_day",
            format!("-1000000, i.who, i.combo, {ends}"),
        ),
        (
            "usage_span WHERE span <> -1000000 AND",
            "span, who, combo, first_day, last_day",
            format!("{day} >> 5, i.who, i.combo, {ends}"),
        ),
        (
            "usage_day WHERE",
            "day, who, combo",
            format!("{day}, i.who, i.combo"),
        ),
    ] {
        let kept = format!(
            "SELECT {key}, {} FROM {table} interceptions <> 0 ORDER BY 1, 2, 3",
            Totals::COLUMNS.join(", ")
        );
        let scanned = format!(
            "SELECT {scanned}, {counted} FROM interception i JOIN reply u ON u.interception = i.id
            GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        );
        let ask = move |database: &mut dyn Database| {
            Ok([database.query(&kept, &[])?, database.query(&scanned, &[])?])
        };
        let [kept, scanned] = store.ask(ask).await.unwrap();
        assert_eq!(format!("{kept:?}"), format!("{scanned:?}"), "{table}");
        rows = kept.len();
    }
    rows
}

pub(super) async fn days_are_summed_up_as_a_scan_would(home: Home) {
    let store = again(&home).await;
    let mut events = thread(5);
    for (number, outcome) in [
        Outcome::Failed,
        Outcome::Refused,
        Outcome::Aborted,
        Outcome::Completed,
    ]
    .into_iter()
    .enumerate()
    {
        let number = i64::try_from(number).unwrap();
        let start = Started {
            started_at: Micros(86_400_000_000 * (number % 2 + 1) - 1),
            prompt: (number != 1).then(|| "hello".to_owned()),
            ..started("eve", Some("s"), "")
        };
        let backup = Answerer {
            provider: Arc::from("backup"),
            credential_hint: "sk-b...7f3a".to_owned(),
        };
        let end = Ended {
            outcome,
            facts: None,
            answerer: (number == 3).then_some(backup),
            cost_micros: None,
            ..ended(start.id)
        };
        let open = started("eve", Some("s"), "still open");
        events.extend([start, open].map(|start| Event::Start(Box::new(start))));
        events.push(Event::End(Box::new(end)));
    }
    // Ends wait for their starts, and everything comes twice.
    events.reverse();
    while !events.is_empty() {
        let rest = events.split_off(events.len().min(4));
        let few = std::mem::replace(&mut events, rest);
        let json = serde_json::to_string(&few).unwrap();
        write_batch(&store, few).await;
        write_batch(&store, serde_json::from_str(&json).unwrap()).await;
    }
    assert_eq!(are_right(&store).await, 4);
}

/// Everything about one interception at noon of a day: its start, its giving up, and its end, of which another instance
/// than the one asked may be the author.
fn given_up_and_ended(user: &str, day: i64, is_moved: bool) -> [Event; 3] {
    let start = Started {
        started_at: Micros(86_400_000_000 * day + 43_200_000_000),
        ..started(user, None, "x")
    };
    let given_up = Ended {
        outcome: Outcome::Aborted,
        error_kind: Some(GATEWAY_STOPPED.to_owned()),
        facts: None,
        cost_micros: None,
        ..ended(start.id)
    };
    let backup = Answerer {
        provider: Arc::from("backup"),
        credential_hint: "sk-b...7f3a".to_owned(),
    };
    let end = Ended {
        answerer: is_moved.then_some(backup),
        ..ended(start.id)
    };
    [
        Event::Start(Box::new(start)),
        Event::End(Box::new(given_up)),
        Event::End(Box::new(end)),
    ]
}

pub(super) async fn a_span_ends_where_its_days_do(home: Home) {
    let store = again(&home).await;
    let mut ends = Vec::new();
    for (day, is_moved) in [(33, true), (40, false), (50, true), (63, true), (64, true)] {
        let [start, given_up, end] = given_up_and_ended("ann", day, is_moved);
        write_batch(&store, vec![start, given_up]).await;
        ends.push(end);
    }
    assert_eq!(are_right(&store).await, 5);
    // All days but one leave the combo that was asked; the last takes its whole span with it.
    for (place, end) in ends.into_iter().enumerate() {
        write_batch(&store, vec![end]).await;
        assert_eq!(are_right(&store).await, 5, "after {place}");
    }
    // Whatever comes when, and twice.
    let mut events: Vec<Event> = (0..40)
        .flat_map(|number| {
            given_up_and_ended(&format!("user {}", number % 3), number * 7 % 90, number % 4 > 0)
        })
        .collect();
    events.sort_by_key(|event| event.id().as_u128().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 64);
    for turn in 0..2 {
        let json = serde_json::to_string(&events).unwrap();
        for batch in events.chunks_mut(7) {
            batch.rotate_left(turn);
        }
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(7));
            write_batch(&store, std::mem::replace(&mut events, rest)).await;
            are_right(&store).await;
        }
        events = serde_json::from_str(&json).unwrap();
        events.reverse();
    }
}
