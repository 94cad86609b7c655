//! One event into the tables, inside the writer's transaction.
//!
//! A start makes the interception, finds the thread and session it belongs to and counts it there; an end fills
//! in the rest and adds its usage and tools to the session. Both are idempotent: a start whose id is known and
//! an end whose interception has ended already change nothing.

use std::collections::HashMap;

use providers::{ReplyFacts, ToolResult, Usage};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::record::{Answerer, Ended, Event, Outcome, Started};

/// Facets of a session.
pub(super) const CLIENT: i64 = 1;
pub(super) const PROVIDER: i64 = 2;
pub(super) const MODEL: i64 = 3;

/// Labels kept in memory; past this the memory is emptied, not the table.
const LABELS_KEPT: usize = 20_000;
/// Tool results that are followed to the call they answer.
const RESULTS_FOLLOWED: usize = 16;

/// What the writer remembers between batches. To be emptied when a batch fails.
#[derive(Debug, Default)]
pub(super) struct Memory {
    labels: HashMap<String, i64>,
}

impl Memory {
    pub(super) fn clear(&mut self) {
        self.labels.clear();
    }

    fn label(&mut self, transaction: &Transaction<'_>, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.labels.get(text) {
            return Ok(*id);
        }
        let mut find = transaction.prepare_cached("SELECT id FROM label WHERE text = ?1")?;
        let id = match find.query_row([text], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                transaction
                    .prepare_cached("INSERT INTO label (text) VALUES (?1)")?
                    .execute([text])?;
                transaction.last_insert_rowid()
            }
        };
        if self.labels.len() >= LABELS_KEPT {
            self.labels.clear();
        }
        self.labels.insert(text.to_owned(), id);
        Ok(id)
    }

    fn optional_label(
        &mut self,
        transaction: &Transaction<'_>,
        text: Option<&str>,
    ) -> rusqlite::Result<Option<i64>> {
        text.map(|text| self.label(transaction, text)).transpose()
    }
}

/// Writes one event.
pub(super) fn write(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    event: &Event,
) -> rusqlite::Result<()> {
    match event {
        Event::Start(started) => start(transaction, memory, started),
        Event::End(ended) => end(transaction, memory, ended),
    }
}

/// The interception whose tool calls a request answers.
struct Parent {
    id: Vec<u8>,
    root: Vec<u8>,
    session: String,
}

fn start(transaction: &Transaction<'_>, memory: &mut Memory, started: &Started) -> rusqlite::Result<()> {
    let mut known = transaction.prepare_cached("SELECT 1 FROM interception WHERE id = ?1")?;
    if known.exists([started.id.as_bytes()])? {
        return Ok(());
    }
    let user = memory.label(transaction, &started.user)?;
    let parent = parent(transaction, user, &started.tool_results)?;
    let session = session(transaction, user, started, parent.as_ref())?;
    let model = memory.optional_label(transaction, started.model.as_deref())?;
    let client = memory.label(transaction, started.client)?;
    let provider = memory.label(transaction, &started.provider)?;
    for (facet, label) in [(CLIENT, Some(client)), (PROVIDER, Some(provider)), (MODEL, model)] {
        let Some(label) = label else { continue };
        transaction
            .prepare_cached("INSERT OR IGNORE INTO session_label VALUES (?1, ?2, ?3)")?
            .execute([session, facet, label])?;
    }
    let root = parent
        .as_ref()
        .map_or(started.id.as_bytes().as_slice(), |parent| &parent.root);
    let mut insert = transaction.prepare_cached(
        "INSERT INTO interception (id, request_id, connect_id, session, thread_root, thread_parent, user,
            provider, kind, api, model, client, client_version, user_agent, mode, credential, credential_hint,
            stream, started_at, request_bytes, agent_id, parent_agent_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
            ?21, ?22)",
    )?;
    insert.execute(params![
        started.id.as_bytes(),
        started.request_id.as_bytes(),
        started.connect_id.as_ref().map(uuid::Uuid::as_bytes),
        session,
        root,
        parent.as_ref().map(|parent| &parent.id),
        user,
        provider,
        memory.label(transaction, started.kind)?,
        started.api.code(),
        model,
        client,
        memory.optional_label(transaction, started.client_version.as_deref())?,
        memory.optional_label(transaction, started.user_agent.as_deref())?,
        started.mode.code(),
        started.credential.code(),
        started.credential_hint,
        started.stream,
        started.started_at.0,
        signed(started.request_bytes),
        started.agent_id,
        started.parent_agent_id,
    ])?;
    prompt(transaction, transaction.last_insert_rowid(), started)
}

fn prompt(transaction: &Transaction<'_>, interception: i64, started: &Started) -> rusqlite::Result<()> {
    let Some(prompt) = &started.prompt else {
        return Ok(());
    };
    transaction
        .prepare_cached("INSERT INTO prompt VALUES (?1, ?2, ?3)")?
        .execute(params![interception, prompt, started.prompt_truncated])
        .map(drop)
}

/// Finds the interception that made the tool calls which this request answers, the latest first, and notes on
/// those calls how they went.
fn parent(
    transaction: &Transaction<'_>,
    user: i64,
    results: &[ToolResult],
) -> rusqlite::Result<Option<Parent>> {
    let mut parent = None;
    for result in results.iter().rev().take(RESULTS_FOLLOWED) {
        let mut find = transaction.prepare_cached(
            "SELECT t.interception, t.n, i.id, i.thread_root, s.id
             FROM tool_call t JOIN interception i ON i.seq = t.interception JOIN session s ON s.seq = i.session
             WHERE t.id = ?1 AND i.user = ?2 ORDER BY t.interception DESC LIMIT 1",
        )?;
        let found = find
            .query_row(params![result.call_id, user], |row| {
                let call: (i64, i64) = (row.get(0)?, row.get(1)?);
                Ok((
                    call,
                    Parent {
                        id: row.get(2)?,
                        root: row.get(3)?,
                        session: row.get(4)?,
                    },
                ))
            })
            .optional()?;
        let Some(((interception, n), found)) = found else {
            continue;
        };
        transaction
            .prepare_cached("UPDATE tool_call SET result = ?3 WHERE interception = ?1 AND n = ?2")?
            .execute(params![interception, n, result.is_error.unwrap_or(false)])?;
        parent.get_or_insert(found);
    }
    Ok(parent)
}

/// Counts the request in its session: the client's own, else the thread's, else one of its own.
fn session(
    transaction: &Transaction<'_>,
    user: i64,
    started: &Started,
    parent: Option<&Parent>,
) -> rusqlite::Result<i64> {
    let own = started.id.to_string();
    let id = started
        .session_id
        .as_deref()
        .or(parent.map(|parent| parent.session.as_str()))
        .unwrap_or(&own);
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO session (user, id, started_at, last_active_at, interceptions, threads, prompts,
            last_prompt, last_prompt_at)
         VALUES (?1, ?2, ?3, ?3, 1, ?4, ?5, ?6, ?7)
         ON CONFLICT (user, id) DO UPDATE SET
            started_at = min(started_at, excluded.started_at),
            last_active_at = max(last_active_at, excluded.last_active_at),
            interceptions = interceptions + 1,
            threads = threads + excluded.threads,
            prompts = prompts + excluded.prompts,
            last_prompt = CASE WHEN excluded.last_prompt_at >= ifnull(last_prompt_at, 0)
                THEN excluded.last_prompt ELSE last_prompt END,
            last_prompt_at = max(ifnull(last_prompt_at, 0), ifnull(excluded.last_prompt_at, 0))
         RETURNING seq",
    )?;
    upsert.query_row(
        params![
            user,
            id,
            started.started_at.0,
            parent.is_none(),
            started.prompt.is_some(),
            started.prompt.as_deref().map(excerpt),
            started.prompt.as_ref().map(|_| started.started_at.0),
        ],
        |row| row.get(0),
    )
}

/// A session's `last_prompt` is for lists: its first 500 characters.
fn excerpt(prompt: &str) -> &str {
    prompt
        .char_indices()
        .nth(500)
        .and_then(|(end, _)| prompt.get(..end))
        .unwrap_or(prompt)
}

fn end(transaction: &Transaction<'_>, memory: &mut Memory, ended: &Ended) -> rusqlite::Result<()> {
    let facts = ended.facts.as_ref();
    let answered = memory.optional_label(transaction, facts.and_then(|facts| facts.model.as_deref()))?;
    let reason = memory.optional_label(
        transaction,
        facts.and_then(|facts| facts.finish_reason.as_deref()),
    )?;
    let mut update = transaction.prepare_cached(
        "UPDATE interception SET status = ?2, outcome = ?3, error_kind = ?4, error_message = ?5,
            first_token_at = ?6, ended_at = ?7, overhead_us = ?8, response_bytes = ?9, finish_reason = ?10,
            response_id = ?11, retries = ?12, model_answered = ?13
         WHERE id = ?1 AND outcome IS NULL RETURNING seq, session",
    )?;
    let found: Option<(i64, i64)> = update
        .query_row(
            params![
                ended.id.as_bytes(),
                ended.status,
                ended.outcome.code(),
                ended.error_kind,
                ended.error_message,
                ended.first_token_at.map(|at| at.0),
                ended.ended_at.0,
                signed(ended.overhead_us),
                signed(ended.response_bytes),
                reason,
                facts.and_then(|facts| facts.response_id.as_deref()),
                ended.retries,
                answered,
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((interception, session)) = found else {
        return Ok(());
    };
    if let Some(answerer) = &ended.answerer {
        move_to(transaction, memory, (interception, session), answerer)?;
    }
    let calls = match facts {
        Some(facts) => details(transaction, memory, interception, facts, ended.cost_micros)?,
        None => 0,
    };
    count_end(transaction, session, ended, calls)
}

/// Names the instance that answered in place of the one that was asked.
fn move_to(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    (interception, session): (i64, i64),
    answerer: &Answerer,
) -> rusqlite::Result<()> {
    let provider = memory.label(transaction, &answerer.provider)?;
    transaction
        .prepare_cached("UPDATE interception SET provider = ?2, credential_hint = ?3 WHERE seq = ?1")?
        .execute(params![interception, provider, answerer.credential_hint])?;
    transaction
        .prepare_cached("INSERT OR IGNORE INTO session_label VALUES (?1, ?2, ?3)")?
        .execute([session, PROVIDER, provider])?;
    Ok(())
}

fn count_end(
    transaction: &Transaction<'_>,
    session: i64,
    ended: &Ended,
    calls: usize,
) -> rusqlite::Result<()> {
    let known = ended.facts.as_ref().and_then(|facts| facts.usage.as_ref());
    let none = Usage::default();
    let usage = known.unwrap_or(&none);
    let answered = matches!(ended.outcome, Outcome::Completed | Outcome::Aborted);
    transaction
        .prepare_cached(
            "UPDATE session SET last_active_at = max(last_active_at, ?2), tool_calls = tool_calls + ?3,
                input = input + ?4, output = output + ?5, cache_read = cache_read + ?6,
                cache_write = cache_write + ?7, reasoning = reasoning + ?8,
                cost_micros = CASE WHEN ?9 IS NULL THEN cost_micros ELSE ifnull(cost_micros, 0) + ?9 END,
                unmetered = unmetered + ?10, unpriced = unpriced + ?11
             WHERE seq = ?1",
        )?
        .execute(params![
            session,
            ended.ended_at.0,
            signed(calls as u64),
            tokens(usage.input),
            tokens(usage.output),
            tokens(usage.cache_read),
            tokens(usage.cache_write),
            tokens(usage.reasoning),
            ended.cost_micros,
            known.is_none() && answered,
            known.is_some() && ended.cost_micros.is_none(),
        ])
        .map(drop)
}

/// Writes what the tap learned; returns the number of tool calls.
fn details(
    transaction: &Transaction<'_>,
    memory: &mut Memory,
    interception: i64,
    facts: &ReplyFacts,
    cost_micros: Option<i64>,
) -> rusqlite::Result<usize> {
    if let Some(usage) = &facts.usage {
        let extra =
            (!usage.extra.is_empty()).then(|| serde_json::to_string(&usage.extra).unwrap_or_default());
        transaction
            .prepare_cached("INSERT INTO usage VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
            .execute(params![
                interception,
                tokens(usage.input),
                tokens(usage.output),
                tokens(usage.cache_read),
                tokens(usage.cache_write),
                tokens(usage.reasoning),
                extra,
                facts.usage_source.code(),
                cost_micros,
            ])?;
    }
    for (n, call) in (0_i64..).zip(&facts.tool_calls) {
        let name = memory.label(transaction, &call.name)?;
        transaction
            .prepare_cached("INSERT INTO tool_call VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL)")?
            .execute(params![
                interception,
                n,
                call.id,
                name,
                call.kind.code(),
                call.arguments,
                call.truncated
            ])?;
    }
    for (n, thought) in (0_i64..).zip(&facts.thoughts) {
        transaction
            .prepare_cached("INSERT INTO thought VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![interception, n, thought.source.code(), thought.text])?;
    }
    if let Some(output) = &facts.output {
        transaction
            .prepare_cached("INSERT INTO output VALUES (?1, ?2)")?
            .execute(params![interception, output])?;
    }
    Ok(facts.tool_calls.len())
}

/// Ends what a process left open that died: nobody else will.
pub(super) fn abort_open(transaction: &Transaction<'_>, now: i64) -> rusqlite::Result<usize> {
    transaction.execute(
        "UPDATE interception SET outcome = ?1, ended_at = ?2, error_kind = 'gateway_stopped',
            error_message = 'the gateway stopped before the reply had ended' WHERE outcome IS NULL",
        params![Outcome::Aborted.code(), now],
    )
}

/// A count of tokens as an upstream reports it: whatever that is, sessions' sums of it stay whole numbers.
fn tokens(count: u64) -> i64 {
    signed(count.min(1 << 40))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
