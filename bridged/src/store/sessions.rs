//! Sessions as the API shows them: read from rows that the writer keeps up to date, never by scanning
//! interceptions.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::content::{Content, sha256};
use super::filter::{Cursor, Filter, Page, Parts, Question};
use super::sql::{Batch, Columns, Database, Dialect, Row, Sort};
use super::{Store, StoreError, labels, search};
use crate::clock::Micros;

/// One session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionRow {
    #[serde(skip)]
    pub(super) seq: i64,
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
    /// When its latest request began. RFC 3339.
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

/// Tokens added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
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

impl SessionUsage {
    /// Reads the next five columns.
    pub(super) fn read(row: &mut Columns) -> Result<SessionUsage, StoreError> {
        Ok(SessionUsage {
            input: row.int()?,
            output: row.int()?,
            cache_read: row.int()?,
            cache_write: row.int()?,
            reasoning: row.int()?,
        })
    }
}

/// One thread of a session: requests chained by tool calls.
#[derive(Debug, Serialize, ToSchema)]
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
    /// A page of sessions, latest activity first; with a query, latest fitting prompt first, and the page may end
    /// early although another follows.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn sessions(
        &self,
        filter: Filter,
        page: Page,
    ) -> Result<(Vec<SessionRow>, Option<Cursor>), StoreError> {
        if let Some(query) = filter.query.clone() {
            return self
                .ask_of_one_moment(move |database| search::sessions(database, &filter, &query, page))
                .await;
        }
        self.ask(move |database| {
            let cursor = page
                .cursor
                .map(|cursor| inner_cursor(database, cursor))
                .transpose()?;
            let page = Page { cursor, ..page };
            let (sql, question) = page_of(database.dialect(), &filter, page);
            let mut places = places(database.query(&sql, &question.values)?)?;
            let next = page.cut(&mut places, |(active, _)| Cursor(active.unsigned_abs(), 0));
            let rows = by_numbers(database, places.iter().map(|(_, seq)| *seq))?;
            let tag = rows.last().map_or(0, |row| tag(&row.user, &row.id));
            let next = next.map(|Cursor(active, _)| Cursor(active, tag));
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
        self.ask(move |database| {
            let filter = Filter {
                session: vec![id],
                user,
                ..Filter::default()
            };
            let page = Page {
                cursor: None,
                limit: SAME_ID,
            };
            let (sql, question) = page_of(database.dialect(), &filter, page);
            let places = places(database.query(&sql, &question.values)?)?;
            let rows = by_numbers(database, places.iter().map(|(_, seq)| *seq))?;
            let mut sessions = Vec::with_capacity(rows.len());
            for row in rows {
                let threads = threads(database, row.seq)?;
                sessions.push((row, threads));
            }
            Ok(sessions)
        })
        .await
    }
}

/// Sessions with the same id that are shown, one a user.
const SAME_ID: u32 = 100;
/// Characters of the latest prompt that are shown.
const EXCERPT: usize = 500;
/// Interceptions of a session that are shown.
const MOST_SHOWN: i64 = 10_000;

/// Tells a session from others in a cursor that leaves the store: the session's number would tell how many
/// sessions others have.
fn tag(user: &str, id: &str) -> u64 {
    let digest = sha256(format!("{user}\0{id}").as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}

/// The cursor of `page_of` for one that came back.
fn inner_cursor(database: &mut dyn Database, cursor: Cursor) -> Result<Cursor, StoreError> {
    let Cursor(active, wanted) = cursor;
    let sql = "SELECT s.seq, s.id, l.text FROM session s JOIN label l ON l.id = s.who
        WHERE s.last_active_at = ?1 LIMIT ?2";
    for row in database.query(sql, &[active.into(), MOST_SHOWN.into()])? {
        let mut row = row.read();
        let (seq, id, user) = (row.int()?, row.text()?, row.text()?);
        if tag(&user, &id) == wanted {
            return Ok(Cursor(active, seq.unsigned_abs()));
        }
    }
    // It has moved on or is gone. Its neighbours of the same microsecond come again rather than not at all.
    Ok(Cursor(active, i64::MAX.unsigned_abs()))
}

/// The query of the times and numbers of a page.
pub(super) fn page_of(dialect: Dialect, filter: &Filter, page: Page) -> (String, Question) {
    let mut question = Question::default();
    let has_combos = [&filter.client, &filter.provider, &filter.model]
        .iter()
        .any(|words| !words.is_empty());
    // A session is listed under each of its combos, and in a table of its own.
    let (table, seq, active) = if has_combos && filter.session.is_empty() {
        ("session_combo", "session", "active")
    } else {
        ("session", "seq", "last_active_at")
    };
    let mut parts = if filter.session.is_empty() {
        Parts::by_user_and_combo(&mut question, filter)
    } else {
        by_id(&mut question, filter)
    };
    if let Some(after) = filter.after {
        parts
            .row
            .push(format!("x.{active} >= {}", question.bind(after.0)));
    }
    if let Some(before) = filter.before {
        parts
            .row
            .push(format!("x.{active} < {}", question.bind(before.0)));
    }
    if let Some(Cursor(last_active, last)) = page.cursor {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (last_active, last) = (question.bind(signed(last_active)), question.bind(signed(last)));
        parts
            .row
            .push(format!("(x.{active}, x.{seq}) < ({last_active}, {last})"));
    }
    let limit = question.bind(page.rows_read());
    (parts.query(dialect, table, seq, &[active, seq], &limit), question)
}

fn by_id(question: &mut Question, filter: &Filter) -> Parts {
    let mut parts = Parts::default();
    parts.row.extend(question.any("x.id", &filter.session));
    parts.row.extend(question.any_label("x.who", &filter.user));
    let combos = question.combos("c", filter);
    if !combos.is_empty() {
        let combos = combos.join(" AND ");
        parts.row.push(format!(
            "x.seq IN (SELECT m.session FROM session_combo m JOIN combo c ON c.id = m.combo WHERE {combos})"
        ));
    }
    parts
}

/// When the sessions of a page were active last, and their numbers.
fn places(rows: Vec<Row>) -> Result<Vec<(i64, i64)>, StoreError> {
    let place = |row: Row| {
        let mut row = row.read();
        Ok((row.int()?, row.int()?))
    };
    rows.into_iter().map(place).collect()
}

const ROWS: Batch = Batch {
    columns: &[("seq", Sort::Int)],
    body: "SELECT
        s.seq, s.last_active_at, s.id, s.who, s.started_at, s.interceptions, s.threads, s.prompts, s.tool_calls,
        s.input, s.output, s.cache_read, s.cache_write, s.reasoning, s.cost_micros, s.unpriced, s.unmetered, p.body
        FROM batch CROSS JOIN session s LEFT JOIN prompt p ON p.interception = s.last_prompt
        WHERE s.seq = batch.seq",
};
/// The column of the user's label.
const WHO: usize = 3;

/// The sessions with these numbers, in their order.
pub(super) fn by_numbers(
    database: &mut dyn Database,
    numbers: impl Iterator<Item = i64>,
) -> Result<Vec<SessionRow>, StoreError> {
    let order: HashMap<i64, usize> = numbers.zip(0..).collect();
    let mut found = database.batch(&ROWS, order.keys().map(|seq| vec![(*seq).into()]).collect())?;
    labels::spell_out(database, &mut found, &[WHO])?;
    let mut rows = found.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
    rows.sort_unstable_by_key(|row| order.get(&row.seq).copied());
    nest(database, &mut rows)?;
    Ok(rows)
}

fn row(row: Row) -> Result<SessionRow, StoreError> {
    let mut row = row.read();
    let (seq, active) = (row.int()?, row.int()?);
    Ok(SessionRow {
        seq,
        id: row.text()?,
        user: row.text()?,
        clients: Vec::new(),
        providers: Vec::new(),
        models: Vec::new(),
        started_at: Micros(row.int()?).rfc3339(),
        last_active_at: Micros(active).rfc3339(),
        interceptions: row.int()?,
        threads: row.int()?,
        prompts: row.int()?,
        tool_calls: row.int()?,
        usage: SessionUsage::read(&mut row)?,
        cost_micros: row.optional_int()?,
        unpriced: row.int()?,
        unmetered: row.int()?,
        last_prompt: row
            .optional_blob()?
            .map(|body| excerpt(&body))
            .transpose()?
            .flatten(),
    })
}

/// The beginning of a prompt.
fn excerpt(body: &[u8]) -> Result<Option<String>, StoreError> {
    let text = Content::read(body)?.text();
    Ok(text.map(|mut text| {
        if let Some((end, _)) = text.char_indices().nth(EXCERPT) {
            text.truncate(end);
            text.push('…');
        }
        text
    }))
}

const WORDS: Batch = Batch {
    columns: &[("seq", Sort::Int)],
    body: "SELECT m.session, c.client, c.provider, c.model
        FROM batch CROSS JOIN session_combo m JOIN combo c ON c.id = m.combo WHERE m.session = batch.seq",
};

/// Reads the clients, providers and models of sessions.
fn nest(database: &mut dyn Database, rows: &mut [SessionRow]) -> Result<(), StoreError> {
    let mut found = database.batch(&WORDS, rows.iter().map(|row| vec![row.seq.into()]).collect())?;
    labels::spell_out(database, &mut found, &[1, 2, 3])?;
    let mut places: HashMap<i64, &mut SessionRow> = rows.iter_mut().map(|row| (row.seq, row)).collect();
    for found in found {
        let mut found = found.read();
        let Some(row) = places.get_mut(&found.int()?) else {
            continue;
        };
        row.clients.push(found.text()?);
        row.providers.push(found.text()?);
        row.models.extend(found.optional_text()?);
    }
    for row in rows {
        for words in [&mut row.clients, &mut row.providers, &mut row.models] {
            words.sort_unstable();
            words.dedup();
        }
    }
    Ok(())
}

fn threads(database: &mut dyn Database, session: i64) -> Result<Vec<ThreadRow>, StoreError> {
    let found = database.query(
        "SELECT coalesce(i.thread_root, i.id), i.id, i.started_at FROM interception i
         WHERE i.session = ?1 ORDER BY i.id LIMIT ?2",
        &[session.into(), MOST_SHOWN.into()],
    )?;
    let mut threads: Vec<ThreadRow> = Vec::new();
    let mut places = HashMap::new();
    for row in found {
        let mut row = row.read();
        let (root_id, id, started_at) = (row.id()?, row.id()?, row.int()?);
        let place = *places.entry(root_id).or_insert(threads.len());
        match threads.get_mut(place) {
            Some(thread) => thread.interceptions.push(id),
            None => threads.push(ThreadRow {
                root_id,
                interceptions: vec![id],
                prompt: None,
                started_at: Micros(started_at).rfc3339(),
            }),
        }
    }
    prompts(database, &mut threads)?;
    Ok(threads)
}

const PROMPTS: Batch = Batch {
    columns: &[("id", Sort::Blob)],
    body: "SELECT p.interception, p.body FROM batch CROSS JOIN prompt p WHERE p.interception = batch.id",
};

/// Reads the first prompt of each thread.
fn prompts(database: &mut dyn Database, threads: &mut [ThreadRow]) -> Result<(), StoreError> {
    let first = |thread: &ThreadRow| thread.interceptions.first().copied();
    let ids = threads.iter().filter_map(first).map(|id| vec![id.into()]);
    let found = database.batch(&PROMPTS, ids.collect())?;
    let mut prompts = HashMap::new();
    for row in found {
        let mut row = row.read();
        let (id, body) = (row.id()?, row.blob()?);
        prompts.insert(id, Content::read(&body)?.text());
    }
    for thread in threads {
        thread.prompt = first(thread).and_then(|id| prompts.remove(&id)).flatten();
    }
    Ok(())
}
