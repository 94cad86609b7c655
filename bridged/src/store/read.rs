//! Reading interceptions: which ones, their columns, and what hangs on them.

use std::cmp::Reverse;
use std::collections::HashMap;

use providers::{Api, ThoughtSource, ToolKind, UsageSource};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::content::{Content, Digest};
use super::filter::{Cursor, Filter, Page, Parts, Question, Status, first_id};
use super::rows::{Digests, InterceptionRow, ThoughtRow, ToolCallRow, UsageRow};
use super::sql::{Batch, Columns, Database, Dialect, Row, Sort};
use super::{Store, StoreError, labels, search};
use crate::clock::Micros;
use crate::record::{CredentialKind, Mode, Outcome};

impl Store {
    /// A page of interceptions, latest first. With a query it may end early although another follows.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn interceptions(
        &self,
        filter: Filter,
        page: Page,
    ) -> Result<(Vec<InterceptionRow>, Option<Cursor>), StoreError> {
        if let Some(query) = filter.query.clone() {
            return self
                .ask_of_one_moment(move |database| search::interceptions(database, &filter, &query, page))
                .await;
        }
        self.ask(move |database| {
            let (sql, question) = page_of(database.dialect(), &filter, page);
            let mut ids = ids(database.query(&sql, &question.values)?)?;
            let next = page.cut(&mut ids, |id| cursor_of(*id));
            Ok((by_ids(database, &ids)?, next))
        })
        .await
    }

    /// One interception, by its own id or, which is the same for HTTP, its request's; with `user` only if it is one of
    /// theirs.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn interception(
        &self,
        id: Uuid,
        user: impl IntoIterator<Item = String>,
    ) -> Result<Option<InterceptionRow>, StoreError> {
        let user: Vec<String> = user.into_iter().collect();
        self.ask(move |database| {
            let found = by_ids(database, &[id])?.pop();
            Ok(found.filter(|row| user.is_empty() || user.contains(&row.user)))
        })
        .await
    }
}

/// The ids of rows that have nothing else.
pub(super) fn ids(rows: Vec<Row>) -> Result<Vec<Uuid>, StoreError> {
    rows.into_iter().map(|row| row.read().id()).collect()
}

/// The interceptions with these ids, latest first.
pub(super) fn by_ids(database: &mut dyn Database, ids: &[Uuid]) -> Result<Vec<InterceptionRow>, StoreError> {
    let mut found = database.batch(&ROWS, ids.iter().map(|id| vec![(*id).into()]).collect())?;
    labels::spell_out(database, &mut found, &LABELS)?;
    let mut rows = found.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
    rows.sort_unstable_by_key(|row| Reverse(row.id));
    nest(database, &mut rows)?;
    Ok(rows)
}

/// The query of the ids of a page.
pub(super) fn page_of(dialect: Dialect, filter: &Filter, page: Page) -> (String, Question) {
    let mut question = Question::default();
    let limit = question.bind(page.rows_read());
    let mut lists: Vec<String> = lists(filter)
        .into_iter()
        .map(|list| list.query(dialect, &mut question, filter, page, &limit))
        .collect();
    if lists.len() == 1 {
        return (lists.pop().unwrap_or_default(), question);
    }
    let parts: Vec<String> = lists
        .into_iter()
        .map(|list| format!("SELECT id FROM ({list}) part"))
        .collect();
    let sql = format!("{} ORDER BY id DESC LIMIT {limit}", parts.join(" UNION ALL "));
    (sql, question)
}

/// A table that lists interceptions, and which of them.
struct List {
    table: &'static str,
    outcomes: Vec<Outcome>,
}

/// Where interceptions of the filter's states are listed. The few that are open or did not complete have lists of
/// their own; the many that did are told apart one by one, and so are those of a session.
fn lists(filter: &Filter) -> Vec<List> {
    let list = |table, outcomes| List { table, outcomes };
    let mut outcomes: Vec<Outcome> = Vec::new();
    for status in &filter.status {
        if let Status::Ended(outcome) = status
            && !outcomes.contains(outcome)
        {
            outcomes.push(*outcome);
        }
    }
    if filter.status.is_empty() || !filter.session.is_empty() {
        return vec![list("interception", outcomes)];
    }
    let mut lists = Vec::new();
    let (usual, unusual): (Vec<_>, Vec<_>) = outcomes
        .into_iter()
        .partition(|outcome| *outcome == Outcome::Completed);
    if filter.status.contains(&Status::InFlight) {
        lists.push(list("open", Vec::new()));
    }
    if !unusual.is_empty() {
        lists.push(list("unusual", unusual));
    }
    if !usual.is_empty() {
        lists.push(list("interception", usual));
    }
    lists
}

impl List {
    /// The query of the latest ids in this list.
    fn query(
        &self,
        dialect: Dialect,
        question: &mut Question,
        filter: &Filter,
        page: Page,
        limit: &str,
    ) -> String {
        let mut parts = if filter.session.is_empty() {
            Parts::by_user_and_combo(question, filter)
        } else {
            of_sessions(question, filter)
        };
        let codes: Vec<String> = self
            .outcomes
            .iter()
            .map(|outcome| outcome.code().to_string())
            .collect();
        if self.table == "unusual" {
            let which = format!("o.code IN ({}) AND i.outcome = o.code", codes.join(", "));
            parts.look_up(OUTCOMES, [which], "x.outcome = o.code");
        } else if !filter.status.is_empty() && self.table == "interception" {
            parts.row.push(state_of(filter, &codes));
        }
        parts.row.extend(dates(question, filter));
        if let Some(Cursor(high, low)) = page.cursor {
            let last = question.bind(Uuid::from_u64_pair(high, low));
            parts.row.push(format!("x.id < {last}"));
        }
        parts.query(dialect, self.table, "id", &["id"], limit)
    }
}

/// What is in the list of what did not complete, so that rows of each are looked up in their order.
const OUTCOMES: &str = "(SELECT 2 AS code UNION ALL SELECT 3 UNION ALL SELECT 4) o";

/// Ids are made when requests begin, by the same clock, give or take this.
pub(super) const SKEW: i64 = 86_400_000_000;

/// The filter's dates: exactly by the row, and by its id, so that what is far off is not even read.
fn dates(question: &mut Question, filter: &Filter) -> Vec<String> {
    let mut conditions = Vec::new();
    if let Some(after) = filter.after {
        let id = question.bind(first_id(Micros(after.0.saturating_sub(SKEW))));
        let after = question.bind(after.0);
        conditions.push(format!("x.id >= {id} AND x.started_at >= {after}"));
    }
    if let Some(before) = filter.before {
        let id = question.bind(first_id(Micros(before.0.saturating_add(SKEW))));
        let before = question.bind(before.0);
        conditions.push(format!("x.id < {id} AND x.started_at < {before}"));
    }
    conditions
}

/// Asks of each row whether its reply has one of these outcomes, or is still to come where that is wanted.
fn state_of(filter: &Filter, codes: &[String]) -> String {
    let mut codes = codes.to_vec();
    if filter.status.contains(&Status::InFlight) && !filter.session.is_empty() {
        codes.push("0".to_owned());
    }
    ended_as(&codes)
}

/// The reply to `x` has one of these outcomes; 0 is still to come.
fn ended_as(codes: &[String]) -> String {
    let reply = "(SELECT r.outcome FROM reply r WHERE r.interception = x.id)";
    format!("coalesce({reply}, 0) IN ({})", codes.join(", "))
}

fn of_sessions(question: &mut Question, filter: &Filter) -> Parts {
    let mut parts = Parts::default();
    let ids = question.any("f.id", &filter.session);
    let users = question.any_label("f.who", &filter.user);
    parts.look_up("session f", ids.into_iter().chain(users), "x.session = f.seq");
    let combos = question.combos("y", filter);
    if !combos.is_empty() {
        parts.row.push(in_combos("x.combo", &combos));
    }
    parts
}

/// What the filter says of an interception `x`, for a few that are known.
pub(super) fn conditions(question: &mut Question, filter: &Filter) -> Vec<String> {
    let mut conditions = dates(question, filter);
    if !filter.status.is_empty() {
        let code = |status: &Status| match status {
            Status::InFlight => "0".to_owned(),
            Status::Ended(outcome) => outcome.code().to_string(),
        };
        let codes: Vec<String> = filter.status.iter().map(code).collect();
        conditions.push(ended_as(&codes));
    }
    // Not by the columns themselves, whose indexes would be walked for more than these few.
    conditions.extend(question.any_label("coalesce(x.who, 0)", &filter.user));
    let combos = question.combos("y", filter);
    if !combos.is_empty() {
        conditions.push(in_combos("coalesce(x.combo, 0)", &combos));
    }
    if let Some(ids) = question.any("f.id", &filter.session) {
        conditions.push(format!(
            "coalesce(x.session, 0) IN (SELECT f.seq FROM session f WHERE {ids})"
        ));
    }
    conditions
}

/// A combo is one, called `y`, of which all this holds.
fn in_combos(combo: &str, combos: &[String]) -> String {
    format!(
        "{combo} IN (SELECT y.id FROM combo y WHERE {})",
        combos.join(" AND ")
    )
}

const ROWS: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT
        i.id, i.request_id, i.connect_id, i.who, o.provider, o.kind, i.api, o.model, r.model_answered, o.client,
        i.client_version, i.user_agent, s.id, i.thread_root, i.thread_parent, i.agent_id, i.parent_agent_id, i.mode,
        i.credential, i.credential_hint, i.credential_fingerprint, i.credential_plan, i.credential_account, r.status,
        r.outcome, r.error_kind, r.error_message, i.started_at, r.first_token_at, r.ended_at, r.overhead_us,
        i.request_bytes, r.response_bytes, i.stream, r.finish_reason, r.response_id, r.retries, p.body, p.truncated,
        t.body, a.provider, i.asked_hint, r.usage_source, r.input, r.output, r.cache_read, r.cache_write,
        r.reasoning, r.extra, r.cost_micros
        FROM batch CROSS JOIN interception i JOIN session s ON s.seq = i.session JOIN combo o ON o.id = i.combo
        LEFT JOIN combo a ON a.id = i.asked_combo LEFT JOIN reply r ON r.interception = i.id
        LEFT JOIN prompt p ON p.interception = i.id LEFT JOIN output t ON t.interception = i.id
        WHERE i.id = batch.id",
};
/// Which of these columns are labels.
const LABELS: [usize; 15] = [3, 4, 5, 7, 8, 9, 10, 11, 19, 20, 21, 22, 34, 40, 41];

pub(super) fn cursor_of(id: Uuid) -> Cursor {
    let (high, low) = id.as_u64_pair();
    Cursor(high, low)
}

/// The name of a stored code.
fn word<T>(
    row: &mut Columns,
    from_code: fn(u8) -> Option<T>,
    as_str: fn(T) -> &'static str,
) -> Result<&'static str, StoreError> {
    Ok(row.code()?.and_then(from_code).map_or("unknown", as_str))
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
        api: word(&mut row, Api::from_code, Api::as_str)?,
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
        mode: word(&mut row, Mode::from_code, Mode::as_str)?,
        credential_kind: word(&mut row, CredentialKind::from_code, CredentialKind::as_str)?,
        credential_hint: row.optional_text()?,
        credential_fingerprint: row.optional_text()?,
        credential_plan: row.optional_text()?,
        credential_account: row.optional_text()?,
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
    read.read_usage(row)?;
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

const CALLS: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT t.interception, t.id, t.name, t.kind, t.body, t.truncated, t.result
        FROM batch CROSS JOIN tool_call t
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
    let mut calls = database.batch(&CALLS, ids(rows))?;
    labels::spell_out(database, &mut calls, &[2])?;
    let thoughts = database.batch(&THOUGHTS, ids(rows))?;
    let mut places: HashMap<Uuid, &mut InterceptionRow> = rows.iter_mut().map(|row| (row.id, row)).collect();
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

impl InterceptionRow {
    fn read_usage(&mut self, row: &mut Columns) -> Result<(), StoreError> {
        let source = row.code()?.and_then(UsageSource::from_code);
        let mut count = || Ok::<_, StoreError>(row.optional_int()?.unwrap_or(0));
        let usage = UsageRow {
            input: count()?,
            output: count()?,
            cache_read: count()?,
            cache_write: count()?,
            reasoning: count()?,
            extra: row
                .optional_text()?
                .and_then(|text| RawValue::from_string(text).ok()),
            source: source.map_or("unknown", UsageSource::as_str),
            cost_micros: row.optional_int()?,
        };
        let was_asked = self
            .outcome
            .is_some_and(|outcome| outcome != Outcome::Refused.as_str());
        self.usage_source = was_asked.then_some(usage.source);
        if source.is_some() {
            self.usage.push(usage);
        }
        Ok(())
    }

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
