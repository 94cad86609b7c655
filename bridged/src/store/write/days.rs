//! What finished interceptions add to the sums of their day: one row for each day, user and combo.
//!
//! An interception counts when it has ended, on the day it began, under the combo that answered. One that was given
//! up and ends after all is taken back first.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::Known;
use super::ends::{counts, is_unmetered};
use crate::record::{Ended, Outcome};
use crate::store::StoreError;
use crate::store::sql::{Change, Database, Sort, Value};

const DAY: i64 = 86_400_000_000;

/// A day, a user and a combo.
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
        if let Some(cost) = ended.cost_micros {
            delta.cost_micros = Some(delta.cost_micros.unwrap_or(0).saturating_add(cost));
        }
    }
    let rows = days.into_iter().map(|(key, delta)| row(key, &delta));
    database.change(&UPSERT, rows.collect()).map(drop)
}

impl Delta {
    fn add(&mut self, counts: &Counts, times: i64) {
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum = sum.saturating_add(count.saturating_mul(times));
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

fn row((day, who, combo): Key, delta: &Delta) -> Vec<Value<'static>> {
    let key = [day, who, combo].into_iter().chain(delta.counts);
    let mut row: Vec<Value<'static>> = key.map(Value::from).collect();
    row.push(delta.cost_micros.into());
    row
}

const UPSERT: Change = Change::Insert {
    table: "usage_day",
    columns: &[
        ("day", Sort::Int),
        ("who", Sort::Int),
        ("combo", Sort::Int),
        ("interceptions", Sort::Int),
        ("completed", Sort::Int),
        ("failed", Sort::Int),
        ("refused", Sort::Int),
        ("aborted", Sort::Int),
        ("prompts", Sort::Int),
        ("tool_calls", Sort::Int),
        ("input", Sort::Int),
        ("output", Sort::Int),
        ("cache_read", Sort::Int),
        ("cache_write", Sort::Int),
        ("reasoning", Sort::Int),
        ("unmetered", Sort::Int),
        ("unpriced", Sort::Int),
        ("cost_micros", Sort::Int),
    ],
    then: "ON CONFLICT (day, who, combo) DO UPDATE SET
            interceptions = usage_day.interceptions + excluded.interceptions,
            completed = usage_day.completed + excluded.completed,
            failed = usage_day.failed + excluded.failed,
            refused = usage_day.refused + excluded.refused,
            aborted = usage_day.aborted + excluded.aborted,
            prompts = usage_day.prompts + excluded.prompts,
            tool_calls = usage_day.tool_calls + excluded.tool_calls,
            input = usage_day.input + excluded.input,
            output = usage_day.output + excluded.output,
            cache_read = usage_day.cache_read + excluded.cache_read,
            cache_write = usage_day.cache_write + excluded.cache_write,
            reasoning = usage_day.reasoning + excluded.reasoning,
            unmetered = usage_day.unmetered + excluded.unmetered,
            unpriced = usage_day.unpriced + excluded.unpriced,
            cost_micros = CASE WHEN excluded.cost_micros IS NULL THEN usage_day.cost_micros
                ELSE coalesce(usage_day.cost_micros, 0) + excluded.cost_micros END",
};
