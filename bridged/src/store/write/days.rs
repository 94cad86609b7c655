//! What finished interceptions add to the sums of their day: one row for each day, user and combo; and to those of
//! the day's span, with the first and last day on which there are any.
//!
//! An interception counts when it has ended, on the day it began, under the combo that answered. One that was given
//! up and ends after all is taken back first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::Known;
use super::ends::{counts, is_unmetered};
use crate::record::{Ended, Outcome};
use crate::store::StoreError;
use crate::store::sql::{Batch, Change, Database, Sort, Value};
use crate::store::usage::{ALL_DAYS, span_of};

const DAY: i64 = 86_400_000_000;

/// A day or span, a user and a combo.
type Key = (i64, i64, i64);

/// The counts of a row in the order of its columns, without the cost.
type Counts = [i64; 14];

#[derive(Debug, Default)]
struct Delta {
    counts: Counts,
    cost_micros: Option<i64>,
}

/// Adds the ends of stored interceptions to their days; `moved` says who answered in another's place.
pub(super) fn write(
    database: &mut dyn Database,
    ends: &[&Ended],
    known: &HashMap<Uuid, Known>,
    moved: &HashMap<Uuid, i64>,
) -> Result<(), StoreError> {
    let mut days: BTreeMap<Key, Delta> = BTreeMap::new();
    for ended in ends {
        let Some(known) = known.get(&ended.id) else {
            continue;
        };
        let day = known.started_at.div_euclid(DAY);
        if known.is_given_up {
            let delta = days.entry((day, known.who, known.combo)).or_default();
            delta.add(&given_up(known.has_prompt), -1);
        }
        let combo = moved.get(&ended.id).copied().unwrap_or(known.combo);
        let delta = days.entry((day, known.who, combo)).or_default();
        delta.add(&counts_of(ended, known.has_prompt), 1);
        delta.add_cost(ended.cost_micros);
    }
    let row = |((day, who, combo), delta): (&Key, &Delta)| {
        let key = [*day, *who, *combo].map(Value::from).into_iter();
        key.chain(values(delta)).collect()
    };
    database.change(&ADD_TO_DAY, days.iter().map(row).collect())?;
    write_spans(database, &days)
}

impl Delta {
    fn add(&mut self, counts: &Counts, times: i64) {
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum = sum.saturating_add(count.saturating_mul(times));
        }
    }

    fn add_cost(&mut self, cost: Option<i64>) {
        if let Some(cost) = cost {
            self.cost_micros = Some(self.cost_micros.unwrap_or(0).saturating_add(cost));
        }
    }
}

fn counts_of(ended: &Ended, has_prompt: bool) -> Counts {
    let is = |outcome| i64::from(ended.outcome == outcome);
    let facts = ended.facts.as_ref();
    let usage = facts.and_then(|facts| facts.usage.as_ref());
    let calls = facts.map_or(0, |facts| facts.tool_calls.len());
    let [input, output, cache_read, cache_write, reasoning] = usage.map(counts).unwrap_or_default();
    [
        1,
        is(Outcome::Completed),
        is(Outcome::Failed),
        is(Outcome::Refused),
        is(Outcome::Aborted),
        has_prompt.into(),
        i64::try_from(calls).unwrap_or(0),
        input,
        output,
        cache_read,
        cache_write,
        reasoning,
        is_unmetered(ended).into(),
        i64::from(usage.is_some() && ended.cost_micros.is_none()),
    ]
}

/// What an interception counted as when its process seemed dead: aborted, and nothing known of its tokens.
fn given_up(has_prompt: bool) -> Counts {
    [1, 0, 0, 0, 1, has_prompt.into(), 0, 0, 0, 0, 0, 0, 1, 0]
}

/// The values of a row behind its key.
fn values(delta: &Delta) -> impl Iterator<Item = Value<'static>> {
    let counts = delta.counts.map(Value::from).into_iter();
    counts.chain([delta.cost_micros.into()])
}

/// What days add to the spans that they are in.
fn write_spans(database: &mut dyn Database, days: &BTreeMap<Key, Delta>) -> Result<(), StoreError> {
    let mut spans: BTreeMap<Key, (i64, i64, Delta)> = BTreeMap::new();
    let mut emptied = BTreeSet::new();
    for ((day, who, combo), delta) in days {
        let is_taken_back = delta
            .counts
            .first()
            .is_some_and(|interceptions| *interceptions < 0);
        for span in [ALL_DAYS, span_of(*day)] {
            let key = (span, *who, *combo);
            let (first, last, sum) = spans.entry(key).or_insert((*day, *day, Delta::default()));
            (*first, *last) = ((*first).min(*day), (*last).max(*day));
            sum.add(&delta.counts, 1);
            sum.add_cost(delta.cost_micros);
            if is_taken_back {
                emptied.insert(key);
            }
        }
    }
    let row = |((span, who, combo), (first, last, delta)): (Key, (i64, i64, Delta))| {
        let key = [span, who, combo, first, last].map(Value::from).into_iter();
        key.chain(values(&delta)).collect()
    };
    database.change(&ADD_TO_SPAN, spans.into_iter().map(row).collect())?;
    if emptied.is_empty() {
        return Ok(());
    }
    // A day from which something was taken back may be none of the span any more.
    let row = |(span, who, combo): Key| [span, who, combo].map(Value::from).to_vec();
    let rows = emptied.into_iter().map(row).collect();
    database.batch(&FIND_ENDS, rows).map(drop)
}

/// The columns of a table of sums behind its key, and how they are added up.
macro_rules! sums {
    ($table:literal, [$($key:literal),+], $conflict:literal, $($column:literal),+) => {
        Change::Insert {
            table: $table,
            columns: &[$(($key, Sort::Int),)+ $(($column, Sort::Int),)+ ("cost_micros", Sort::Int)],
            then: concat!(
                "ON CONFLICT ", $conflict,
                $($column, " = ", $table, ".", $column, " + excluded.", $column, ", ",)+
                "cost_micros = CASE WHEN excluded.cost_micros IS NULL THEN ", $table, ".cost_micros
                    ELSE coalesce(", $table, ".cost_micros, 0) + excluded.cost_micros END",
            ),
        }
    };
    ($table:literal, $key:tt, $conflict:literal) => {
        sums!(
            $table, $key, $conflict,
            "interceptions", "completed", "failed", "refused", "aborted", "prompts", "tool_calls", "input",
            "output", "cache_read", "cache_write", "reasoning", "unmetered", "unpriced"
        )
    };
}

const ADD_TO_DAY: Change = sums!(
    "usage_day",
    ["day", "who", "combo"],
    "(day, who, combo) DO UPDATE SET "
);
const ADD_TO_SPAN: Change = sums!(
    "usage_span",
    ["span", "who", "combo", "first_day", "last_day"],
    "(span, who, combo) DO UPDATE SET
        first_day = CASE WHEN usage_span.interceptions = 0 OR excluded.first_day < usage_span.first_day
            THEN excluded.first_day ELSE usage_span.first_day END,
        last_day = CASE WHEN usage_span.interceptions = 0 OR excluded.last_day > usage_span.last_day
            THEN excluded.last_day ELSE usage_span.last_day END, "
);

/// Its rows are locked since they were added to, so nobody changes their days meanwhile.
const FIND_ENDS: Batch = Batch {
    columns: &[("span", Sort::Int), ("who", Sort::Int), ("combo", Sort::Int)],
    body: "UPDATE usage_span AS t SET
            first_day = coalesce((SELECT min(d.day) FROM usage_day d WHERE d.who = t.who AND d.combo = t.combo
                AND d.interceptions <> 0
                AND (t.span = -1000000 OR d.day >= t.span * 32 AND d.day < t.span * 32 + 32)), t.first_day),
            last_day = coalesce((SELECT max(d.day) FROM usage_day d WHERE d.who = t.who AND d.combo = t.combo
                AND d.interceptions <> 0
                AND (t.span = -1000000 OR d.day >= t.span * 32 AND d.day < t.span * 32 + 32)), t.last_day)
        FROM batch WHERE t.span = batch.span AND t.who = batch.who AND t.combo = batch.combo",
};
