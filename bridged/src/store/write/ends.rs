//! Ends: what is known of the reply, its usage, tool calls, thoughts and text.

use providers::Usage;

use super::Memory;
use crate::record::{Ended, Outcome};
use crate::store::StoreError;
use crate::store::sql::{Batch, Database, Sort, Value};

/// The error of an interception whose process died. An end that comes nevertheless takes its place.
pub(crate) const GATEWAY_STOPPED: &str = "gateway_stopped";

/// Fills in interceptions that have ended.
pub(super) fn write(database: &mut dyn Database, memory: &Memory, ends: &[&Ended]) -> Result<(), StoreError> {
    let mut rows: Vec<_> = ends.iter().map(|ended| row(memory, ended)).collect();
    rows.sort_by(|one, other| id_of(one).cmp(id_of(other)));
    database.batch(&UPDATE, rows)?;
    let mut parts = Parts::default();
    for ended in ends {
        parts.add(memory, ended);
    }
    parts.write(database)
}

fn id_of<'r>(row: &'r [Value<'_>]) -> &'r [u8] {
    match row.first() {
        Some(Value::Blob(id)) => id,
        _ => &[],
    }
}

fn row<'e>(memory: &Memory, ended: &'e Ended) -> Vec<Value<'e>> {
    let facts = ended.facts.as_ref();
    let words = &memory.words;
    vec![
        ended.id.into(),
        ended.status.map(i64::from).into(),
        ended.outcome.code().into(),
        ended.error_kind.as_deref().into(),
        ended.error_message.as_deref().into(),
        ended.first_token_at.map(|at| at.0).into(),
        ended.ended_at.0.into(),
        ended.overhead_us.into(),
        ended.response_bytes.into(),
        words
            .optional(facts.and_then(|facts| facts.finish_reason.as_deref()))
            .into(),
        facts.and_then(|facts| facts.response_id.as_deref()).into(),
        i64::from(ended.retries).into(),
        words
            .optional(facts.and_then(|facts| facts.model.as_deref()))
            .into(),
    ]
}

const UPDATE: Batch = Batch {
    columns: &[
        ("id", Sort::Blob),
        ("status", Sort::Int),
        ("outcome", Sort::Int),
        ("error_kind", Sort::Text),
        ("error_message", Sort::Text),
        ("first_token_at", Sort::Int),
        ("ended_at", Sort::Int),
        ("overhead_us", Sort::Int),
        ("response_bytes", Sort::Int),
        ("finish_reason", Sort::Int),
        ("response_id", Sort::Text),
        ("retries", Sort::Int),
        ("model_answered", Sort::Int),
    ],
    body: "UPDATE interception SET status = batch.status, outcome = batch.outcome, error_kind = batch.error_kind,
            error_message = batch.error_message, first_token_at = batch.first_token_at,
            ended_at = batch.ended_at, overhead_us = batch.overhead_us, response_bytes = batch.response_bytes,
            finish_reason = batch.finish_reason, response_id = batch.response_id, retries = batch.retries,
            model_answered = batch.model_answered
        FROM batch WHERE interception.id = batch.id",
};

/// The rows that belong to ended interceptions.
#[derive(Default)]
struct Parts<'e> {
    usage: Vec<Vec<Value<'e>>>,
    calls: Vec<Vec<Value<'e>>>,
    thoughts: Vec<Vec<Value<'e>>>,
    outputs: Vec<Vec<Value<'e>>>,
}

impl<'e> Parts<'e> {
    fn add(&mut self, memory: &Memory, ended: &'e Ended) {
        let Some(facts) = &ended.facts else { return };
        let id = ended.id;
        if let Some(usage) = &facts.usage {
            self.usage.push(vec![
                id.into(),
                tokens(usage.input).into(),
                tokens(usage.output).into(),
                tokens(usage.cache_read).into(),
                tokens(usage.cache_write).into(),
                tokens(usage.reasoning).into(),
                extra(usage).into(),
                facts.usage_source.code().into(),
                ended.cost_micros.into(),
            ]);
        }
        for (n, call) in (0_i64..).zip(&facts.tool_calls) {
            self.calls.push(vec![
                id.into(),
                n.into(),
                call.id.as_str().into(),
                memory.words.label(&call.name).into(),
                call.kind.code().into(),
                memory.packer.body(&call.arguments).into(),
                call.truncated.into(),
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
        database.batch(&INSERT_USAGE, self.usage)?;
        database.batch(&INSERT_CALL, self.calls)?;
        database.batch(&INSERT_THOUGHT, self.thoughts)?;
        database.batch(&INSERT_OUTPUT, self.outputs).map(drop)
    }
}

const INSERT_USAGE: Batch = Batch {
    columns: &[
        ("interception", Sort::Blob),
        ("input", Sort::Int),
        ("output", Sort::Int),
        ("cache_read", Sort::Int),
        ("cache_write", Sort::Int),
        ("reasoning", Sort::Int),
        ("extra", Sort::Text),
        ("source", Sort::Int),
        ("cost_micros", Sort::Int),
    ],
    body:
        "INSERT INTO usage (interception, n, input, output, cache_read, cache_write, reasoning, extra, source,
            cost_micros)
        SELECT interception, 0, input, output, cache_read, cache_write, reasoning, extra, source, cost_micros
        FROM batch WHERE true ON CONFLICT (interception, n) DO NOTHING",
};
const INSERT_CALL: Batch = Batch {
    columns: &[
        ("interception", Sort::Blob),
        ("n", Sort::Int),
        ("id", Sort::Text),
        ("name", Sort::Int),
        ("kind", Sort::Int),
        ("body", Sort::Blob),
        ("truncated", Sort::Int),
    ],
    body: "INSERT INTO tool_call (interception, n, id, name, kind, body, truncated)
        SELECT interception, n, id, name, kind, body, truncated FROM batch",
};
const INSERT_THOUGHT: Batch = Batch {
    columns: &[
        ("interception", Sort::Blob),
        ("n", Sort::Int),
        ("source", Sort::Int),
        ("body", Sort::Blob),
    ],
    body: "INSERT INTO thought (interception, n, source, body) SELECT interception, n, source, body FROM batch",
};
const INSERT_OUTPUT: Batch = Batch {
    columns: &[("interception", Sort::Blob), ("body", Sort::Blob)],
    body: "INSERT INTO output (interception, body) SELECT interception, body FROM batch",
};

/// A count of tokens as an upstream reports it: whatever that is, sessions' sums of it stay whole numbers.
pub(crate) fn tokens(count: u64) -> i64 {
    i64::try_from(count.min(1 << 40)).unwrap_or(0)
}

/// The counts of a usage: input, output, read from the cache, written to it, reasoning.
pub(super) fn counts(usage: &Usage) -> [i64; 5] {
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
