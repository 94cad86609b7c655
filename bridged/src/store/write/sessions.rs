//! What a batch adds to its sessions: sums, firsts and lasts, which come out the same in any order.

use std::collections::BTreeMap;
use std::collections::HashMap;

use uuid::Uuid;

use super::ends::{counts, is_unmetered};
use crate::record::{Ended, Started};
use crate::store::StoreError;
use crate::store::sql::{Change, Database, Sort, Value};

/// Additions to sessions, by user and session id.
#[derive(Debug, Default)]
pub(super) struct Deltas(BTreeMap<(String, i64), Delta>);

#[derive(Debug)]
struct Delta {
    started_at: i64,
    last_active_at: i64,
    interceptions: i64,
    threads: i64,
    prompts: i64,
    tool_calls: i64,
    tokens: [i64; 5],
    cost_micros: Option<i64>,
    unmetered: i64,
    unpriced: i64,
    last_prompt: Option<(i64, Uuid)>,
}

impl Default for Delta {
    fn default() -> Delta {
        Delta {
            // No start yet: the session's own stays.
            started_at: i64::MAX,
            last_active_at: 0,
            interceptions: 0,
            threads: 0,
            prompts: 0,
            tool_calls: 0,
            tokens: [0; 5],
            cost_micros: None,
            unmetered: 0,
            unpriced: 0,
            last_prompt: None,
        }
    }
}

/// The number of each session and when it was active last, by user and session id.
pub(super) type Sessions = HashMap<(String, i64), (i64, i64)>;

impl Deltas {
    /// Counts a request.
    pub(super) fn start(&mut self, who: i64, session: &str, started: &Started, begins_thread: bool) {
        let delta = self.0.entry((session.to_owned(), who)).or_default();
        let at = started.started_at.0;
        delta.started_at = delta.started_at.min(at);
        delta.last_active_at = delta.last_active_at.max(at);
        delta.interceptions += 1;
        delta.threads += i64::from(begins_thread);
        if started.prompt.is_some() {
            delta.prompts += 1;
            delta.last_prompt = delta.last_prompt.max(Some((at, started.id)));
        }
    }

    /// Adds what a reply brought; `again` if it was counted as given up before.
    pub(super) fn end(&mut self, who: i64, session: &str, ended: &Ended, again: bool) {
        let delta = self.0.entry((session.to_owned(), who)).or_default();
        let usage = ended.facts.as_ref().and_then(|facts| facts.usage.as_ref());
        delta.unmetered += i64::from(is_unmetered(ended)) - i64::from(again);
        delta.unpriced += i64::from(usage.is_some() && ended.cost_micros.is_none());
        if let Some(cost) = ended.cost_micros {
            delta.cost_micros = Some(delta.cost_micros.unwrap_or(0).saturating_add(cost));
        }
        let Some(facts) = &ended.facts else { return };
        delta.tool_calls += i64::try_from(facts.tool_calls.len()).unwrap_or(0);
        let Some(usage) = usage else { return };
        for (sum, count) in delta.tokens.iter_mut().zip(counts(usage)) {
            *sum = sum.saturating_add(count);
        }
    }

    /// Writes the additions; returns what the sessions are then.
    pub(super) fn write(self, database: &mut dyn Database) -> Result<Sessions, StoreError> {
        let rows = self
            .0
            .iter()
            .map(|((id, who), delta)| row(id, *who, delta))
            .collect();
        let mut sessions = Sessions::new();
        for row in database.change(&UPSERT, rows)? {
            let mut row = row.read();
            let (seq, active, who, id) = (row.int()?, row.int()?, row.int()?, row.text()?);
            sessions.insert((id, who), (seq, active));
        }
        Ok(sessions)
    }
}

fn row<'a>(id: &'a str, who: i64, delta: &Delta) -> Vec<Value<'a>> {
    let [input, output, cache_read, cache_write, reasoning] = delta.tokens;
    vec![
        id.into(),
        who.into(),
        delta.started_at.into(),
        delta.last_active_at.into(),
        delta.interceptions.into(),
        delta.threads.into(),
        delta.prompts.into(),
        delta.tool_calls.into(),
        input.into(),
        output.into(),
        cache_read.into(),
        cache_write.into(),
        reasoning.into(),
        delta.cost_micros.into(),
        delta.unmetered.into(),
        delta.unpriced.into(),
        delta.last_prompt.map(|(_, id)| id).into(),
        delta.last_prompt.map(|(at, _)| at).into(),
    ]
}

const UPSERT: Change = Change::Insert {
    table: "session",
    columns: &[
        ("id", Sort::Text),
        ("who", Sort::Int),
        ("started_at", Sort::Int),
        ("last_active_at", Sort::Int),
        ("interceptions", Sort::Int),
        ("threads", Sort::Int),
        ("prompts", Sort::Int),
        ("tool_calls", Sort::Int),
        ("input", Sort::Int),
        ("output", Sort::Int),
        ("cache_read", Sort::Int),
        ("cache_write", Sort::Int),
        ("reasoning", Sort::Int),
        ("cost_micros", Sort::Int),
        ("unmetered", Sort::Int),
        ("unpriced", Sort::Int),
        ("last_prompt", Sort::Blob),
        ("last_prompt_at", Sort::Int),
    ],
    then: "ON CONFLICT (id, who) DO UPDATE SET
            started_at = CASE WHEN excluded.started_at < session.started_at
                THEN excluded.started_at ELSE session.started_at END,
            last_active_at = CASE WHEN excluded.last_active_at > session.last_active_at
                THEN excluded.last_active_at ELSE session.last_active_at END,
            interceptions = session.interceptions + excluded.interceptions,
            threads = session.threads + excluded.threads,
            prompts = session.prompts + excluded.prompts,
            tool_calls = session.tool_calls + excluded.tool_calls,
            input = session.input + excluded.input,
            output = session.output + excluded.output,
            cache_read = session.cache_read + excluded.cache_read,
            cache_write = session.cache_write + excluded.cache_write,
            reasoning = session.reasoning + excluded.reasoning,
            cost_micros = CASE WHEN excluded.cost_micros IS NULL THEN session.cost_micros
                ELSE coalesce(session.cost_micros, 0) + excluded.cost_micros END,
            unmetered = session.unmetered + excluded.unmetered,
            unpriced = session.unpriced + excluded.unpriced,
            last_prompt = CASE WHEN excluded.last_prompt_at >= coalesce(session.last_prompt_at, 0)
                THEN excluded.last_prompt ELSE session.last_prompt END,
            last_prompt_at = CASE WHEN excluded.last_prompt_at >= coalesce(session.last_prompt_at, 0)
                THEN excluded.last_prompt_at ELSE session.last_prompt_at END
        RETURNING seq, last_active_at, who, id",
};
