//! Reading interceptions: which ones, their columns, and what hangs on them.

use std::collections::HashMap;

use providers::{Api, ThoughtSource, ToolKind, UsageSource};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::content::{Content, Digest};
use super::filter::{Cursor, Filter, Page, Parts, Question, Status};
use super::rows::{Digests, InterceptionRow, ThoughtRow, ToolCallRow, UsageRow};
use super::sql::{Batch, Columns, Database, Dialect, Row, Sort};
use super::{Store, StoreError};
use crate::clock::Micros;
use crate::record::{CredentialKind, Mode, Outcome};

impl Store {
    /// A page of interceptions, latest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn interceptions(
        &self,
        filter: Filter,
        page: Page,
    ) -> Result<(Vec<InterceptionRow>, Option<Cursor>), StoreError> {
        self.ask(move |database| {
            let (sql, question) = page_of(database.dialect(), &filter, page);
            let mut rows = select(database, &sql, &question)?;
            let next = page.cut(&mut rows, |row| cursor_of(row.id));
            nest(database, &mut rows)?;
            Ok((rows, next))
        })
        .await
    }

    /// One interception, by its own id or, which is the same for HTTP, its request's; with `user` only if it is that user's.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn interception(
        &self,
        id: Uuid,
        user: Option<String>,
    ) -> Result<Option<InterceptionRow>, StoreError> {
        self.ask(move |database| {
            let found = by_ids(database, &[id])?.pop();
            Ok(found.filter(|row| user.is_none_or(|user| user == row.user)))
        })
        .await
    }
}

/// Ids in one statement.
const IDS: usize = 50;

/// The interceptions with these ids, in no order.
pub(super) fn by_ids(database: &mut dyn Database, ids: &[Uuid]) -> Result<Vec<InterceptionRow>, StoreError> {
    let mut rows = Vec::with_capacity(ids.len());
    for ids in ids.chunks(IDS) {
        let mut question = Question::default();
        // Always the same number, so that there is one statement to prepare; saying an id twice changes nothing.
        let count = if ids.len() == 1 { 1 } else { IDS };
        let marks: Vec<String> = ids
            .iter()
            .cycle()
            .take(count)
            .map(|id| question.bind(*id))
            .collect();
        let sql = format!("SELECT id FROM interception WHERE id IN ({})", marks.join(", "));
        rows.extend(select(database, &sql, &question)?);
    }
    nest(database, &mut rows)?;
    Ok(rows)
}

/// The query of the ids of a page.
pub(super) fn page_of(dialect: Dialect, filter: &Filter, page: Page) -> (String, Question) {
    let mut question = Question::default();
    let mut parts = if filter.session.is_empty() {
        Parts::by_user_and_combo(&mut question, filter)
    } else {
        of_sessions(&mut question, filter)
    };
    parts.row.extend(state_of(filter));
    if let Some(after) = filter.after {
        parts
            .row
            .push(format!("x.started_at >= {}", question.bind(after.0)));
    }
    if let Some(before) = filter.before {
        parts
            .row
            .push(format!("x.started_at < {}", question.bind(before.0)));
    }
    if let Some(Cursor(high, low)) = page.cursor {
        let last = question.bind(Uuid::from_u64_pair(high, low));
        parts.row.push(format!("x.id < {last}"));
    }
    let limit = question.bind(page.rows_read());
    (
        parts.query(dialect, "interception", "id", &["id"], &limit),
        question,
    )
}

fn of_sessions(question: &mut Question, filter: &Filter) -> Parts {
    let mut parts = Parts::default();
    let ids = question.any("f.id", &filter.session);
    let users = question.any_label("f.who", &filter.user);
    parts.look_up("session f", ids.into_iter().chain(users), "x.session = f.seq");
    let combos = question.combos("y", filter);
    if !combos.is_empty() {
        let combos = combos.join(" AND ");
        parts
            .row
            .push(format!("x.combo IN (SELECT y.id FROM combo y WHERE {combos})"));
    }
    parts
}

fn state_of(filter: &Filter) -> Option<String> {
    let state = |status: &Status| match status {
        Status::InFlight => "x.outcome IS NULL".to_owned(),
        Status::Ended(outcome) => format!("x.outcome = {}", outcome.code()),
    };
    let states: Vec<String> = filter.status.iter().map(state).collect();
    if states.is_empty() {
        return None;
    }
    let completed = Status::Ended(Outcome::Completed);
    // Said aloud, so that the index of what is not completed can be used.
    let unusual = if filter.status.contains(&completed) {
        ""
    } else {
        " AND (x.outcome IS NULL OR x.outcome <> 1)"
    };
    Some(format!("({}){unusual}", states.join(" OR ")))
}

const COLUMNS: &str = "
    i.id, i.request_id, i.connect_id, (SELECT text FROM label WHERE id = i.who),
    (SELECT text FROM label WHERE id = o.provider), (SELECT text FROM label WHERE id = o.kind), i.api,
    (SELECT text FROM label WHERE id = o.model), (SELECT text FROM label WHERE id = i.model_answered),
    (SELECT text FROM label WHERE id = o.client), (SELECT text FROM label WHERE id = i.client_version),
    (SELECT text FROM label WHERE id = i.user_agent), s.id, i.thread_root, i.thread_parent,
    i.agent_id, i.parent_agent_id, i.mode, i.credential, i.credential_hint, i.status, i.outcome, i.error_kind, i.error_message, i.started_at,
    i.first_token_at, i.ended_at, i.overhead_us, i.request_bytes, i.response_bytes, i.stream,
    (SELECT text FROM label WHERE id = i.finish_reason), i.response_id, i.retries, p.body, p.truncated, t.body,
    (SELECT l.text FROM combo a JOIN label l ON l.id = a.provider WHERE a.id = i.asked_combo), i.asked_hint";

/// The interceptions whose ids `ids` asks for, latest first.
fn select(
    database: &mut dyn Database,
    ids: &str,
    question: &Question,
) -> Result<Vec<InterceptionRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM ({ids}) page CROSS JOIN interception i
         JOIN session s ON s.seq = i.session JOIN combo o ON o.id = i.combo
         LEFT JOIN prompt p ON p.interception = i.id LEFT JOIN output t ON t.interception = i.id
         WHERE i.id = page.id ORDER BY i.id DESC"
    );
    let rows = database.query(&sql, &question.values)?;
    rows.into_iter().map(row).collect()
}

fn cursor_of(id: Uuid) -> Cursor {
    let (high, low) = id.as_u64_pair();
    Cursor(high, low)
}

fn row(row: Row) -> Result<InterceptionRow, StoreError> {
    let mut row = row.read();
    let id = row.id()?;
    let mut read = InterceptionRow {
        id,
        request_id: row.optional_id()?.unwrap_or(id),
        connect_id: row.optional_id()?,
        user: row.text()?,
        provider: row.text()?,
        kind: row.text()?,
        api: row
            .code()?
            .and_then(Api::from_code)
            .map_or("unknown", Api::as_str),
        model: row.optional_text()?,
        model_answered: row.optional_text()?,
        client: row.text()?,
        client_version: row.optional_text()?,
        user_agent: row.optional_text()?,
        session_id: row.text()?,
        thread_root_id: row.optional_id()?.unwrap_or(id),
        thread_parent_id: row.optional_id()?,
        agent_id: row.optional_text()?,
        parent_agent_id: row.optional_text()?,
        mode: row
            .code()?
            .and_then(Mode::from_code)
            .map_or("unknown", Mode::as_str),
        credential_kind: row
            .code()?
            .and_then(CredentialKind::from_code)
            .map_or("unknown", CredentialKind::as_str),
        credential_hint: row.optional_text()?,
        status: row.optional_int()?.and_then(|status| u16::try_from(status).ok()),
        outcome: row.code()?.and_then(Outcome::from_code).map(Outcome::as_str),
        error_kind: row.optional_text()?,
        error_message: row.optional_text()?,
        started_at: String::new(),
        first_token_at: None,
        ended_at: None,
        duration_ms: None,
        overhead_us: None,
        request_bytes: 0,
        response_bytes: None,
        stream: false,
        finish_reason: None,
        response_id: None,
        retries: 0,
        prompt: None,
        prompt_truncated: false,
        output: None,
        usage: Vec::new(),
        usage_source: None,
        tool_calls: Vec::new(),
        thoughts: Vec::new(),
        erased: false,
        digests: Digests::default(),
        asked: None,
    };
    read_reply(&mut read, &mut row)?;
    Ok(read)
}

fn read_reply(read: &mut InterceptionRow, row: &mut Columns) -> Result<(), StoreError> {
    let date = |at: Option<i64>| at.map(|at| Micros(at).rfc3339());
    let started = row.int()?;
    read.started_at = Micros(started).rfc3339();
    read.first_token_at = date(row.optional_int()?);
    let ended = row.optional_int()?;
    read.ended_at = date(ended);
    #[expect(clippy::cast_precision_loss, reason = "a request lasts far less than 2^52 µs")]
    {
        read.duration_ms = ended.map(|ended| ended.saturating_sub(started) as f64 / 1_000.0);
    }
    read.overhead_us = row.optional_int()?;
    read.request_bytes = row.int()?;
    read.response_bytes = row.optional_int()?;
    read.stream = row.truth()?;
    read.finish_reason = row.optional_text()?;
    read.response_id = row.optional_text()?;
    read.retries = u32::try_from(row.optional_int()?.unwrap_or(0)).unwrap_or(u32::MAX);
    let prompt = row.optional_blob()?;
    read.prompt_truncated = row.truth()?;
    let output = row.optional_blob()?;
    let provider = row.optional_text()?;
    let hint = row.optional_text()?;
    read.asked = provider.map(|provider| (provider, hint.unwrap_or_default()));
    if let Some(body) = prompt {
        (read.prompt, read.digests.prompt) = read.open(&body).map(|(text, digest)| (text, Some(digest)))?;
    }
    if let Some(body) = output {
        (read.output, read.digests.output) = read.open(&body).map(|(text, digest)| (text, Some(digest)))?;
    }
    Ok(())
}

impl InterceptionRow {
    /// Reads a body that belongs to this interception.
    fn open(&mut self, body: &[u8]) -> Result<(Option<String>, Digest), StoreError> {
        let content = Content::read(body)?;
        let digest = content.digest();
        let text = content.text();
        self.erased |= text.is_none();
        Ok((text, digest))
    }
}

const USAGE: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT u.interception, u.input, u.output, u.cache_read, u.cache_write, u.reasoning, u.extra, u.source,
            u.cost_micros
        FROM batch CROSS JOIN usage u WHERE u.interception = batch.id ORDER BY u.interception, u.n",
};
const CALLS: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT t.interception, t.id, l.text, t.kind, t.body, t.truncated, t.result
        FROM batch CROSS JOIN tool_call t JOIN label l ON l.id = t.name
        WHERE t.interception = batch.id ORDER BY t.interception, t.n",
};
const THOUGHTS: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT t.interception, t.source, t.body FROM batch CROSS JOIN thought t
        WHERE t.interception = batch.id ORDER BY t.interception, t.n",
};

/// Reads what hangs on interceptions.
fn nest(database: &mut dyn Database, rows: &mut [InterceptionRow]) -> Result<(), StoreError> {
    let ids = |rows: &[InterceptionRow]| rows.iter().map(|row| vec![row.id.into()]).collect();
    let usage = database.batch(&USAGE, ids(rows))?;
    let calls = database.batch(&CALLS, ids(rows))?;
    let thoughts = database.batch(&THOUGHTS, ids(rows))?;
    let mut places: HashMap<Uuid, &mut InterceptionRow> = rows.iter_mut().map(|row| (row.id, row)).collect();
    for found in usage {
        let mut found = found.read();
        if let Some(row) = places.get_mut(&found.id()?) {
            row.usage.push(read_usage(&mut found)?);
        }
    }
    for row in places.values_mut() {
        let asked = row
            .outcome
            .is_some_and(|outcome| outcome != Outcome::Refused.as_str());
        let source = row.usage.first().map(|usage| usage.source);
        row.usage_source = asked.then(|| source.unwrap_or(UsageSource::Unknown.as_str()));
    }
    for found in calls {
        let mut found = found.read();
        if let Some(row) = places.get_mut(&found.id()?) {
            row.read_call(&mut found)?;
        }
    }
    for found in thoughts {
        let mut found = found.read();
        if let Some(row) = places.get_mut(&found.id()?) {
            row.read_thought(&mut found)?;
        }
    }
    Ok(())
}

fn read_usage(row: &mut Columns) -> Result<UsageRow, StoreError> {
    Ok(UsageRow {
        input: row.int()?,
        output: row.int()?,
        cache_read: row.int()?,
        cache_write: row.int()?,
        reasoning: row.int()?,
        extra: row
            .optional_text()?
            .and_then(|text| RawValue::from_string(text).ok()),
        source: row
            .code()?
            .and_then(UsageSource::from_code)
            .map_or("unknown", UsageSource::as_str),
        cost_micros: row.optional_int()?,
    })
}

impl InterceptionRow {
    fn read_call(&mut self, row: &mut Columns) -> Result<(), StoreError> {
        let (id, name) = (row.text()?, row.text()?);
        let kind = row.code()?.and_then(ToolKind::from_code);
        let (arguments, digest) = self.open(&row.blob()?)?;
        let truncated = row.truth()?;
        let result = row.optional_int()?;
        self.digests.arguments.push(digest);
        self.tool_calls.push(ToolCallRow {
            id,
            name,
            kind: kind.map_or("unknown", ToolKind::as_str),
            arguments: arguments.unwrap_or_default(),
            truncated,
            result: result.map(|failed| if failed == 0 { "ok" } else { "error" }),
        });
        Ok(())
    }

    fn read_thought(&mut self, row: &mut Columns) -> Result<(), StoreError> {
        let source = row.code()?.and_then(ThoughtSource::from_code);
        let (text, digest) = self.open(&row.blob()?)?;
        self.digests.thoughts.push(digest);
        self.thoughts.push(ThoughtRow {
            source: source.map_or("unknown", ThoughtSource::as_str),
            text: text.unwrap_or_default(),
        });
        Ok(())
    }
}
