//! Sessions as the API shows them: read from rows that the writer keeps up to date, never by scanning
//! interceptions.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use serde::Serialize;
use uuid::Uuid;

use super::filter::{Conditions, Cursor, Filter, Page};
use super::{Store, StoreError, write};
use crate::clock::Micros;

/// One session.
#[derive(Debug, Serialize)]
pub struct SessionRow {
    #[serde(skip)]
    seq: i64,
    #[serde(skip)]
    active: i64,
    /// The client's own id, else the thread's, else the interception's.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// The clients seen in it.
    pub clients: Vec<String>,
    /// The instances it used.
    pub providers: Vec<String>,
    /// The models it asked for.
    pub models: Vec<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub last_active_at: String,
    /// How many.
    pub interceptions: i64,
    /// How many.
    pub threads: i64,
    /// How many.
    pub prompts: i64,
    /// How many.
    pub tool_calls: i64,
    /// Tokens in all.
    pub usage: SessionUsage,
    /// What is known of the cost, in millionths of the prices' currency. Null while nothing in it has a price.
    pub cost_micros: Option<i64>,
    /// Interceptions whose tokens are known and have no price; `cost_micros` lacks them.
    pub unpriced: i64,
    /// Answered interceptions whose tokens nobody reported; `usage` and `cost_micros` lack them.
    pub unmetered: i64,
    /// The beginning of the latest prompt.
    pub last_prompt: Option<String>,
}

/// Tokens of a session.
#[derive(Debug, Serialize)]
pub struct SessionUsage {
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
}

/// One thread of a session: requests chained by tool calls.
#[derive(Debug, Serialize)]
pub struct ThreadRow {
    /// The first interception.
    pub root_id: Uuid,
    /// All of them, oldest first.
    pub interceptions: Vec<Uuid>,
    /// The first prompt.
    pub prompt: Option<String>,
    /// RFC 3339.
    pub started_at: String,
}

impl Store {
    /// A page of sessions, latest activity first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn sessions(
        &self,
        filter: Filter,
        page: Page,
    ) -> Result<(Vec<SessionRow>, Option<Cursor>), StoreError> {
        self.ask(move |connection| {
            let mut rows = select(connection, conditions(&filter, page.cursor), page.rows_read())?;
            let next = page.cut(&mut rows, |row| {
                Cursor(row.active.unsigned_abs(), row.seq.unsigned_abs())
            });
            for row in &mut rows {
                nest(connection, row)?;
            }
            Ok((rows, next))
        })
        .await
    }

    /// The sessions with this id (one a user), with `user` only that user's, each with its threads.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn session(
        &self,
        id: String,
        user: Vec<String>,
    ) -> Result<Vec<(SessionRow, Vec<ThreadRow>)>, StoreError> {
        self.ask(move |connection| {
            let filter = Filter {
                session: vec![id],
                user,
                ..Filter::default()
            };
            let mut rows = select(connection, conditions(&filter, None), 100)?;
            let mut sessions = Vec::with_capacity(rows.len());
            for mut row in rows.drain(..) {
                nest(connection, &mut row)?;
                let threads = threads(connection, row.seq)?;
                sessions.push((row, threads));
            }
            Ok(sessions)
        })
        .await
    }
}

const COLUMNS: &str = "
    s.seq, s.last_active_at, s.id, (SELECT text FROM label WHERE id = s.user), s.started_at, s.interceptions,
    s.threads, s.prompts, s.tool_calls, s.input, s.output, s.cache_read, s.cache_write, s.reasoning,
    s.cost_micros, s.last_prompt, s.unpriced, s.unmetered";

fn select(connection: &Connection, conditions: Conditions, limit: i64) -> rusqlite::Result<Vec<SessionRow>> {
    let clause = conditions.clause();
    let sql = format!(
        "SELECT {COLUMNS} FROM session s {clause} ORDER BY s.last_active_at DESC, s.seq DESC LIMIT ?"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let values = conditions.values.into_iter().chain([Value::from(limit)]);
    statement.query_map(params_from_iter(values), row)?.collect()
}

fn conditions(filter: &Filter, cursor: Option<Cursor>) -> Conditions {
    let mut conditions = Conditions::default();
    conditions.add_any("s.user IN (SELECT id FROM label WHERE text IN", &filter.user, ")");
    conditions.add_any("s.id IN", &filter.session, "");
    for (facet, words) in [
        (write::CLIENT, &filter.client),
        (write::PROVIDER, &filter.provider),
        (write::MODEL, &filter.model),
    ] {
        let before = format!(
            "EXISTS (SELECT 1 FROM session_label x JOIN label l ON l.id = x.label
             WHERE x.session = s.seq AND x.facet = {facet} AND l.text IN"
        );
        conditions.add_any(&before, words, ")");
    }
    if let Some(after) = filter.after {
        conditions.add("s.last_active_at >= ?", after.0);
    }
    if let Some(before) = filter.before {
        conditions.add("s.started_at < ?", before.0);
    }
    if let Some(Cursor(active, seq)) = cursor {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        conditions.add_pair("(s.last_active_at, s.seq) < (?, ?)", signed(active), signed(seq));
    }
    conditions
}

fn row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let active: i64 = row.get(1)?;
    Ok(SessionRow {
        seq: row.get(0)?,
        active,
        id: row.get(2)?,
        user: row.get(3)?,
        clients: Vec::new(),
        providers: Vec::new(),
        models: Vec::new(),
        started_at: Micros(row.get(4)?).rfc3339(),
        last_active_at: Micros(active).rfc3339(),
        interceptions: row.get(5)?,
        threads: row.get(6)?,
        prompts: row.get(7)?,
        tool_calls: row.get(8)?,
        usage: SessionUsage {
            input: row.get(9)?,
            output: row.get(10)?,
            cache_read: row.get(11)?,
            cache_write: row.get(12)?,
            reasoning: row.get(13)?,
        },
        cost_micros: row.get(14)?,
        last_prompt: row.get(15)?,
        unpriced: row.get(16)?,
        unmetered: row.get(17)?,
    })
}

fn nest(connection: &Connection, row: &mut SessionRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT x.facet, l.text FROM session_label x JOIN label l ON l.id = x.label
         WHERE x.session = ?1 ORDER BY l.text",
    )?;
    let labels = statement.query_map([row.seq], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
    for label in labels {
        match label? {
            (write::CLIENT, text) => row.clients.push(text),
            (write::PROVIDER, text) => row.providers.push(text),
            (write::MODEL, text) => row.models.push(text),
            _ => {}
        }
    }
    Ok(())
}

fn threads(connection: &Connection, session: i64) -> rusqlite::Result<Vec<ThreadRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT i.thread_root, i.id, p.text, i.started_at FROM interception i
         LEFT JOIN prompt p ON p.interception = i.seq WHERE i.session = ?1 ORDER BY i.id LIMIT 10000",
    )?;
    let mut threads: Vec<ThreadRow> = Vec::new();
    let mut places = std::collections::HashMap::new();
    let rows = statement.query_map([session], |row| {
        let root = Uuid::from_bytes(row.get(0)?);
        Ok((
            root,
            Uuid::from_bytes(row.get(1)?),
            row.get::<_, Option<String>>(2)?,
            row.get::<_, i64>(3)?,
        ))
    })?;
    for found in rows {
        let (root_id, id, prompt, started_at) = found?;
        let place = *places.entry(root_id).or_insert(threads.len());
        match threads.get_mut(place) {
            Some(thread) => thread.interceptions.push(id),
            None => threads.push(ThreadRow {
                root_id,
                interceptions: vec![id],
                prompt,
                started_at: Micros(started_at).rfc3339(),
            }),
        }
    }
    Ok(threads)
}
