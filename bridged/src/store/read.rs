//! Interceptions as the API shows them.

use providers::{Api, ThoughtSource, ToolKind, UsageSource};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::filter::{Conditions, Cursor, Filter, Page, Status};
use super::{Store, StoreError};
use crate::clock::Micros;
use crate::record::{CredentialKind, Mode, Outcome};

/// One interception (design: an answered request with all that is known of it).
#[derive(Debug, Serialize)]
pub struct InterceptionRow {
    #[serde(skip)]
    seq: i64,
    /// UUIDv7.
    pub id: Uuid,
    /// The id that the client saw.
    pub request_id: Uuid,
    /// The CONNECT that carried it.
    pub connect_id: Option<Uuid>,
    /// Who asked.
    pub user: String,
    /// Instance name.
    pub provider: String,
    /// Instance kind.
    pub kind: String,
    /// The API.
    pub api: &'static str,
    /// The model asked for.
    pub model: Option<String>,
    /// The model that answered.
    pub model_answered: Option<String>,
    /// The client.
    pub client: String,
    /// Its version.
    pub client_version: Option<String>,
    /// Its own words.
    pub user_agent: Option<String>,
    /// The session.
    pub session_id: String,
    /// The thread's first interception.
    pub thread_root_id: Uuid,
    /// The interception whose tool calls this one answers.
    pub thread_parent_id: Option<Uuid>,
    /// The client's own id of the sub-agent that asked.
    pub agent_id: Option<String>,
    /// The client's own id of the agent that started that one.
    pub parent_agent_id: Option<String>,
    /// `proxy` or `base_url`.
    pub mode: &'static str,
    /// `byok`, `central` or `none`.
    pub credential_kind: &'static str,
    /// Masked.
    pub credential_hint: Option<String>,
    /// The HTTP status that the client got.
    pub status: Option<u16>,
    /// Null while in flight.
    pub outcome: Option<&'static str>,
    /// What went wrong, in one word.
    pub error_kind: Option<String>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub first_token_at: Option<String>,
    /// RFC 3339.
    pub ended_at: Option<String>,
    /// Milliseconds from start to end.
    pub duration_ms: Option<f64>,
    /// Microseconds that the gateway itself took.
    pub overhead_us: Option<i64>,
    /// Body length.
    pub request_bytes: i64,
    /// Body length.
    pub response_bytes: Option<i64>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The provider's word.
    pub finish_reason: Option<String>,
    /// The provider's id of the reply.
    pub response_id: Option<String>,
    /// Attempts beyond the first.
    pub retries: u32,
    /// The last user prompt.
    pub prompt: Option<String>,
    /// Whether the prompt was cut.
    pub prompt_truncated: bool,
    /// The reply's text, if it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Tokens; empty where nothing is known of them.
    pub usage: Vec<UsageRow>,
    /// Where `usage` comes from: `reported`, `partial`, `estimated` or `unknown`. Null while in flight, and where no
    /// model was asked.
    pub usage_source: Option<&'static str>,
    /// Tool calls that the model asked for.
    pub tool_calls: Vec<ToolCallRow>,
    /// What the model thought aloud.
    pub thoughts: Vec<ThoughtRow>,
}

/// Tokens of an interception.
#[derive(Debug, Default, Serialize)]
pub struct UsageRow {
    /// Without cached tokens.
    pub input: i64,
    /// Including reasoning.
    pub output: i64,
    /// Read from the provider's cache.
    pub cache_read: i64,
    /// Written to the provider's cache.
    pub cache_write: i64,
    /// Part of `output`.
    pub reasoning: i64,
    /// What else the provider counted.
    pub extra: Option<Box<RawValue>>,
    /// `reported`, `partial`, `estimated` or `unknown`.
    pub source: &'static str,
    /// Null where there is no price.
    pub cost_micros: Option<i64>,
}

/// A tool call.
#[derive(Debug, Serialize)]
pub struct ToolCallRow {
    /// The provider's id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// `function`, `custom`, `mcp` or `server`.
    pub kind: &'static str,
    /// As the model wrote them.
    pub arguments: String,
    /// Whether the arguments were cut.
    pub truncated: bool,
    /// `ok` or `error` once a later request has answered it.
    pub result: Option<&'static str>,
}

/// A thought.
#[derive(Debug, Serialize)]
pub struct ThoughtRow {
    /// `thinking`, `reasoning_summary` or `commentary`.
    pub source: &'static str,
    /// The text.
    pub text: String,
}

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
        self.ask(move |connection| {
            let mut rows = select(connection, conditions(&filter, page.cursor), page.rows_read())?;
            let next = page.cut(&mut rows, |row| cursor_of(row.id));
            for row in &mut rows {
                nest(connection, row)?;
            }
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
        self.ask(move |connection| {
            let filter = Filter {
                user: user.into_iter().collect(),
                ..Filter::default()
            };
            let mut conditions = conditions(&filter, None);
            conditions.add("i.id = ?", id.as_bytes().to_vec());
            let mut row = select(connection, conditions, 1)?.pop();
            if let Some(row) = &mut row {
                nest(connection, row)?;
            }
            Ok(row)
        })
        .await
    }
}

const COLUMNS: &str = "
    i.seq, i.id, i.request_id, i.connect_id, (SELECT text FROM label WHERE id = i.user),
    (SELECT text FROM label WHERE id = i.provider), (SELECT text FROM label WHERE id = i.kind), i.api,
    (SELECT text FROM label WHERE id = i.model), (SELECT text FROM label WHERE id = i.model_answered),
    (SELECT text FROM label WHERE id = i.client), (SELECT text FROM label WHERE id = i.client_version),
    (SELECT text FROM label WHERE id = i.user_agent), s.id, i.thread_root, i.thread_parent, i.mode,
    i.credential, i.credential_hint, i.status, i.outcome, i.error_kind, i.error_message, i.started_at,
    i.first_token_at, i.ended_at, i.overhead_us, i.request_bytes, i.response_bytes, i.stream,
    (SELECT text FROM label WHERE id = i.finish_reason), i.response_id, i.retries, p.text, p.truncated, o.text,
    i.agent_id, i.parent_agent_id";

fn select(
    connection: &Connection,
    conditions: Conditions,
    limit: i64,
) -> rusqlite::Result<Vec<InterceptionRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM interception i JOIN session s ON s.seq = i.session
         LEFT JOIN prompt p ON p.interception = i.seq LEFT JOIN output o ON o.interception = i.seq
         {} ORDER BY i.id DESC LIMIT ?",
        conditions.clause()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let values = conditions.values.into_iter().chain([Value::from(limit)]);
    statement.query_map(params_from_iter(values), row)?.collect()
}

fn conditions(filter: &Filter, cursor: Option<Cursor>) -> Conditions {
    let mut conditions = Conditions::default();
    for (column, words) in [
        ("i.user", &filter.user),
        ("i.client", &filter.client),
        ("i.provider", &filter.provider),
        ("i.model", &filter.model),
    ] {
        conditions.add_any(
            &format!("{column} IN (SELECT id FROM label WHERE text IN"),
            words,
            ")",
        );
    }
    conditions.add_any(
        "i.session IN (SELECT seq FROM session WHERE id IN",
        &filter.session,
        ")",
    );
    if !filter.status.is_empty() {
        let state = |status: &Status| match status {
            Status::InFlight => "i.outcome IS NULL".to_owned(),
            Status::Ended(outcome) => format!("i.outcome = {}", outcome.code()),
        };
        let states: Vec<String> = filter.status.iter().map(state).collect();
        conditions.add_plain(format!("({})", states.join(" OR ")));
    }
    if let Some(after) = filter.after {
        conditions.add("i.started_at >= ?", after.0);
    }
    if let Some(before) = filter.before {
        conditions.add("i.started_at < ?", before.0);
    }
    if let Some(Cursor(high, low)) = cursor {
        conditions.add("i.id < ?", Uuid::from_u64_pair(high, low).as_bytes().to_vec());
    }
    conditions
}

fn cursor_of(id: Uuid) -> Cursor {
    let (high, low) = id.as_u64_pair();
    Cursor(high, low)
}

fn row(row: &Row<'_>) -> rusqlite::Result<InterceptionRow> {
    let uuid = |index| row.get(index).map(Uuid::from_bytes);
    let optional_uuid = |index| {
        row.get::<_, Option<[u8; 16]>>(index)
            .map(|id| id.map(Uuid::from_bytes))
    };
    let date = |index| {
        row.get::<_, Option<i64>>(index)
            .map(|at| at.map(|at| Micros(at).rfc3339()))
    };
    let started: i64 = row.get(23)?;
    let ended: Option<i64> = row.get(25)?;
    Ok(InterceptionRow {
        seq: row.get(0)?,
        id: uuid(1)?,
        request_id: uuid(2)?,
        connect_id: optional_uuid(3)?,
        user: row.get(4)?,
        provider: row.get(5)?,
        kind: row.get(6)?,
        api: Api::from_code(row.get(7)?).map_or("unknown", Api::as_str),
        model: row.get(8)?,
        model_answered: row.get(9)?,
        client: row.get(10)?,
        client_version: row.get(11)?,
        user_agent: row.get(12)?,
        session_id: row.get(13)?,
        thread_root_id: uuid(14)?,
        thread_parent_id: optional_uuid(15)?,
        mode: Mode::from_code(row.get(16)?).map_or("unknown", Mode::as_str),
        credential_kind: CredentialKind::from_code(row.get(17)?).map_or("unknown", CredentialKind::as_str),
        credential_hint: row.get(18)?,
        status: row.get(19)?,
        outcome: row
            .get::<_, Option<u8>>(20)?
            .and_then(Outcome::from_code)
            .map(Outcome::as_str),
        error_kind: row.get(21)?,
        error_message: row.get(22)?,
        started_at: Micros(started).rfc3339(),
        first_token_at: date(24)?,
        ended_at: date(25)?,
        duration_ms: ended.map(|ended| millis(ended - started)),
        overhead_us: row.get(26)?,
        request_bytes: row.get(27)?,
        response_bytes: row.get(28)?,
        stream: row.get(29)?,
        finish_reason: row.get(30)?,
        response_id: row.get(31)?,
        retries: row.get(32)?,
        prompt: row.get(33)?,
        prompt_truncated: row.get::<_, Option<bool>>(34)?.unwrap_or(false),
        output: row.get(35)?,
        agent_id: row.get(36)?,
        parent_agent_id: row.get(37)?,
        usage: Vec::new(),
        usage_source: None,
        tool_calls: Vec::new(),
        thoughts: Vec::new(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a request lasts far less than 2^52 µs")]
fn millis(micros: i64) -> f64 {
    micros as f64 / 1_000.0
}

/// Fills in what hangs below an interception.
fn nest(connection: &Connection, row: &mut InterceptionRow) -> rusqlite::Result<()> {
    row.usage = connection
        .prepare_cached(
            "SELECT input, output, cache_read, cache_write, reasoning, extra, source, cost_micros
             FROM usage WHERE interception = ?1 ORDER BY n",
        )?
        .query_map([row.seq], usage)?
        .collect::<rusqlite::Result<_>>()?;
    let asked = row
        .outcome
        .is_some_and(|outcome| outcome != Outcome::Refused.as_str());
    let source = || {
        row.usage
            .first()
            .map_or(UsageSource::Unknown.as_str(), |usage| usage.source)
    };
    row.usage_source = asked.then(source);
    row.tool_calls = connection
        .prepare_cached(
            "SELECT t.id, l.text, t.kind, t.arguments, t.truncated, t.result
             FROM tool_call t JOIN label l ON l.id = t.name WHERE t.interception = ?1 ORDER BY t.n",
        )?
        .query_map([row.seq], tool_call)?
        .collect::<rusqlite::Result<_>>()?;
    row.thoughts = connection
        .prepare_cached("SELECT source, text FROM thought WHERE interception = ?1 ORDER BY n")?
        .query_map(params![row.seq], |row| {
            let source = ThoughtSource::from_code(row.get(0)?).map_or("unknown", ThoughtSource::as_str);
            Ok(ThoughtRow {
                source,
                text: row.get(1)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(())
}

fn usage(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    Ok(UsageRow {
        input: row.get(0)?,
        output: row.get(1)?,
        cache_read: row.get(2)?,
        cache_write: row.get(3)?,
        reasoning: row.get(4)?,
        extra: row
            .get::<_, Option<String>>(5)?
            .and_then(|text| RawValue::from_string(text).ok()),
        source: UsageSource::from_code(row.get(6)?).map_or("unknown", UsageSource::as_str),
        cost_micros: row.get(7)?,
    })
}

fn tool_call(row: &Row<'_>) -> rusqlite::Result<ToolCallRow> {
    let result: Option<bool> = row.get(5)?;
    Ok(ToolCallRow {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: ToolKind::from_code(row.get(2)?).map_or("unknown", ToolKind::as_str),
        arguments: row.get(3)?,
        truncated: row.get(4)?,
        result: result.map(|is_error| if is_error { "error" } else { "ok" }),
    })
}
