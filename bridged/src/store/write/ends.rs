//! Ends: what is known of the reply, its usage, tool calls, thoughts and text.

use providers::Usage;

use super::Memory;
use crate::record::{Ended, Outcome};
use crate::store::StoreError;
use crate::store::sql::{Change, Database, Sort, Value};

/// The error of an interception whose process died. An end that comes nevertheless takes its place.
pub(crate) const GATEWAY_STOPPED: &str = "gateway_stopped";

/// Writes what came back for interceptions that have ended.
pub(super) fn write(database: &mut dyn Database, memory: &Memory, ends: &[&Ended]) -> Result<(), StoreError> {
    let mut ends = ends.to_vec();
    ends.sort_unstable_by_key(|ended| ended.id);
    let rows = ends.iter().map(|ended| row(memory, ended)).collect();
    database.change(&UPSERT, rows)?;
    let mut parts = Parts::default();
    for ended in ends {
        parts.add(memory, ended);
    }
    parts.write(database)
}

fn row<'e>(memory: &Memory, ended: &'e Ended) -> Vec<Value<'e>> {
    let facts = ended.facts.as_ref();
    let usage = facts.and_then(|facts| facts.usage.as_ref());
    let words = &memory.words;
    // A zero takes room in one of the databases; a missing count is one.
    let some = |count: i64| Value::from((count != 0).then_some(count));
    let [input, output, cache_read, cache_write, reasoning] = usage.map(counts).unwrap_or_default().map(some);
    vec![
        ended.id.into(),
        ended.ended_at.0.into(),
        ended.first_token_at.map(|at| at.0).into(),
        ended.overhead_us.into(),
        ended.response_bytes.into(),
        usage.and(ended.cost_micros).into(),
        input,
        output,
        cache_read,
        cache_write,
        reasoning,
        words
            .optional(facts.and_then(|facts| facts.model.as_deref()))
            .into(),
        words
            .optional(facts.and_then(|facts| facts.finish_reason.as_deref()))
            .into(),
        some(ended.retries.into()),
        ended.status.map(i64::from).into(),
        ended.outcome.code().into(),
        facts
            .filter(|facts| facts.usage.is_some())
            .map(|facts| facts.usage_source.code())
            .into(),
        facts.and_then(|facts| facts.response_id.as_deref()).into(),
        ended.error_kind.as_deref().into(),
        ended.error_message.as_deref().into(),
        usage.and_then(extra).into(),
    ]
}

/// A row that is there already is of an interception that was given up.
const UPSERT: Change = Change::Insert {
    table: "reply",
    columns: &[
        ("interception", Sort::Blob),
        ("ended_at", Sort::Int),
        ("first_token_at", Sort::Int),
        ("overhead_us", Sort::Int),
        ("response_bytes", Sort::Int),
        ("cost_micros", Sort::Int),
        ("input", Sort::Int),
        ("output", Sort::Int),
        ("cache_read", Sort::Int),
        ("cache_write", Sort::Int),
        ("reasoning", Sort::Int),
        ("model_answered", Sort::Int),
        ("finish_reason", Sort::Int),
        ("retries", Sort::Int),
        ("status", Sort::Int),
        ("outcome", Sort::Int),
        ("usage_source", Sort::Int),
        ("response_id", Sort::Text),
        ("error_kind", Sort::Text),
        ("error_message", Sort::Text),
        ("extra", Sort::Text),
    ],
    then: "ON CONFLICT (interception) DO UPDATE SET
            ended_at = excluded.ended_at, first_token_at = excluded.first_token_at,
            overhead_us = excluded.overhead_us, response_bytes = excluded.response_bytes,
            cost_micros = excluded.cost_micros, input = excluded.input, output = excluded.output,
            cache_read = excluded.cache_read, cache_write = excluded.cache_write, reasoning = excluded.reasoning,
            model_answered = excluded.model_answered, finish_reason = excluded.finish_reason,
            retries = excluded.retries, status = excluded.status, outcome = excluded.outcome,
            usage_source = excluded.usage_source, response_id = excluded.response_id,
            error_kind = excluded.error_kind, error_message = excluded.error_message, extra = excluded.extra",
};

/// The rows that belong to ended interceptions.
#[derive(Default)]
struct Parts<'e> {
    calls: Vec<Vec<Value<'e>>>,
    thoughts: Vec<Vec<Value<'e>>>,
    outputs: Vec<Vec<Value<'e>>>,
}

impl<'e> Parts<'e> {
    fn add(&mut self, memory: &Memory, ended: &'e Ended) {
        let Some(facts) = &ended.facts else { return };
        let id = ended.id;
        for (n, call) in (0_i64..).zip(&facts.tool_calls) {
            self.calls.push(vec![
                id.into(),
                n.into(),
                memory.words.label(&call.name).into(),
                call.kind.code().into(),
                call.truncated.into(),
                call.id.as_str().into(),
                memory.packer.body(&call.arguments).into(),
            ]);
        }
        for (n, thought) in (0_i64..).zip(&facts.thoughts) {
            let body = memory.packer.body(&thought.text);
            self.thoughts.push(vec![
                id.into(),
                n.into(),
                thought.source.code().into(),
                body.into(),
            ]);
        }
        if let Some(output) = &facts.output {
            self.outputs
                .push(vec![id.into(), memory.packer.body(output).into()]);
        }
    }

    fn write(self, database: &mut dyn Database) -> Result<(), StoreError> {
        database.change(&INSERT_CALL, self.calls)?;
        database.change(&INSERT_THOUGHT, self.thoughts)?;
        database.change(&INSERT_OUTPUT, self.outputs).map(drop)
    }
}

const INSERT_CALL: Change = Change::Insert {
    table: "tool_call",
    columns: &[
        ("interception", Sort::Blob),
        ("n", Sort::Int),
        ("name", Sort::Int),
        ("kind", Sort::Int),
        ("truncated", Sort::Int),
        ("id", Sort::Text),
        ("body", Sort::Blob),
    ],
    then: "",
};
const INSERT_THOUGHT: Change = Change::Insert {
    table: "thought",
    columns: &[
        ("interception", Sort::Blob),
        ("n", Sort::Int),
        ("source", Sort::Int),
        ("body", Sort::Blob),
    ],
    then: "",
};
const INSERT_OUTPUT: Change = Change::Insert {
    table: "output",
    columns: &[("interception", Sort::Blob), ("body", Sort::Blob)],
    then: "",
};

/// A count of tokens as an upstream reports it: whatever that is, sessions' sums of it stay whole numbers.
fn tokens(count: u64) -> i64 {
    i64::try_from(count.min(1 << 40)).unwrap_or(0)
}

/// The counts of a usage: input, output, read from the cache, written to it, reasoning.
pub(crate) fn counts(usage: &Usage) -> [i64; 5] {
    [
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_write,
        usage.reasoning,
    ]
    .map(tokens)
}

/// Whether it was answered, and nobody said with how many tokens.
pub(super) fn is_unmetered(ended: &Ended) -> bool {
    let usage = ended.facts.as_ref().and_then(|facts| facts.usage.as_ref());
    usage.is_none() && matches!(ended.outcome, Outcome::Completed | Outcome::Aborted)
}

/// The other counts of a usage, as JSON.
pub(crate) fn extra(usage: &Usage) -> Option<String> {
    (!usage.extra.is_empty()).then(|| serde_json::to_string(&usage.extra).unwrap_or_default())
}
