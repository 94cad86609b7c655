//! The sums of days: the same as a scan of all interceptions gives, whatever came in which order.

use super::order::{thread, write_batch};
use super::*;

/// The sums as the writer keeps them, and as a scan gives them.
pub(super) async fn sums(store: &Store) -> [Vec<sql::Row>; 2] {
    let kept =
        "SELECT day, who, combo, interceptions, completed, failed, refused, aborted, prompts, tool_calls,
            input, output, cache_read, cache_write, reasoning, unmetered, unpriced, cost_micros
        FROM usage_day WHERE interceptions <> 0 ORDER BY 1, 2, 3";
    let columns = [
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
        "sum(CASE WHEN u.usage_source IS NULL AND u.outcome IN (1, 4) THEN 1 ELSE 0 END)",
        "sum(CASE WHEN u.usage_source IS NOT NULL AND u.cost_micros IS NULL THEN 1 ELSE 0 END)",
        "sum(u.cost_micros)",
    ];
    let columns = columns
        .map(|column| format!("CAST({column} AS BIGINT)"))
        .join(", ");
    let scanned = format!(
        "SELECT i.started_at / 86400000000, i.who, i.combo, {columns}
        FROM interception i JOIN reply u ON u.interception = i.id GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    );
    store
        .ask(move |database| Ok([database.query(kept, &[])?, database.query(&scanned, &[])?]))
        .await
        .unwrap()
}

/// Checks that the sums are right, and returns how many rows there are.
pub(super) async fn are_right(store: &Store) -> usize {
    let [kept, scanned] = sums(store).await;
    assert_eq!(format!("{kept:?}"), format!("{scanned:?}"));
    kept.len()
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
