//! What a database must do for the store, and the values that go in and out: SQLite and PostgreSQL look alike
//! from here on.
//!
//! Statements are written once, in the SQL that both understand, with `?1`, `?2` … as placeholders. A `Batch` is
//! a question over the rows of a table `batch` that exists for that statement only, a `Change` what is done with
//! such rows: SQLite runs them once a row, PostgreSQL once for all of them. So that both give the same result, no two
//! rows may touch the same row of a table. What cannot be written the same is a method of `Dialect`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::StoreError;
use super::labels::Labels;
use crate::config::Durability;

/// A connection to a record database. Blocking: to be used on threads that may wait.
pub(super) trait Database: Send {
    /// The database's manner of speaking.
    fn dialect(&self) -> Dialect;

    /// Sets how surely a commit is on disk when it returns. Not inside a transaction.
    fn set_durability(&mut self, durability: Durability) -> Result<(), StoreError>;

    /// Begins a transaction that will write.
    fn begin(&mut self) -> Result<(), StoreError>;

    /// Begins a transaction that reads everything as it is now, however long it takes; `roll_back` ends it.
    fn begin_reading(&mut self) -> Result<(), StoreError>;

    /// Ends the transaction; only then does anyone see it.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Undoes the transaction, if one is open. The connection may be broken afterwards.
    fn roll_back(&mut self);

    /// Runs a statement and returns its rows.
    fn query(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError>;

    /// Runs a statement and returns the number of rows it changed.
    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError>;

    /// Runs several statements without values.
    fn script(&mut self, sql: &str) -> Result<(), StoreError>;

    /// Runs a batch statement; returns the rows that it answers, in any order.
    fn batch(&mut self, batch: &'static Batch, rows: Vec<Vec<Value<'_>>>) -> Result<Vec<Row>, StoreError>;

    /// Makes a change for each of `rows`; returns what its `RETURNING` says of them, in any order.
    fn change(&mut self, change: &'static Change, rows: Vec<Vec<Value<'_>>>) -> Result<Vec<Row>, StoreError>;

    /// The texts of labels that this connection has read.
    fn labels(&mut self) -> &mut Labels;

    /// Whether the connection can be used again.
    fn is_usable(&self) -> bool;

    /// Frees space that deleted rows leave, as far as that needs a command. Not inside a transaction.
    fn vacuum(&mut self) -> Result<(), StoreError>;
}

/// Runs `work` in a transaction: all of it is stored, or nothing.
pub(super) fn transaction<T>(
    database: &mut dyn Database,
    work: impl FnOnce(&mut dyn Database) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    database.begin()?;
    begun(database, work)
}

/// Does `work` in the transaction that was begun, and ends it.
pub(super) fn begun<T>(
    database: &mut dyn Database,
    work: impl FnOnce(&mut dyn Database) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let outcome = work(database).and_then(|done| database.commit().map(|()| done));
    if outcome.is_err() {
        database.roll_back();
    }
    outcome
}

/// The differences between the databases that a statement cannot hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// The present in microseconds since the Unix epoch, by the database's own clock.
    pub(super) fn now(self) -> &'static str {
        match self {
            Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            Dialect::Postgres => "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
        }
    }

    /// Begins a transaction that sees everything as it is now.
    pub(super) fn begin_looking(self) -> &'static str {
        match self {
            Dialect::Sqlite => "BEGIN",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// A `FROM` clause that gives, as `i`, the rows `x` of `table` that `list`, which has a limit, finds for each row
    /// of `each`. More may come of them where a row's `key` is another's too: what `list` demands must be asked again.
    pub(super) fn few_of_each(self, each: &str, table: &str, key: &str, list: &str) -> String {
        match self {
            Dialect::Sqlite => format!("{each} CROSS JOIN {table} i ON i.{key} IN (SELECT x.{key} {list})"),
            Dialect::Postgres => format!("{each} CROSS JOIN LATERAL (SELECT x.* {list}) i"),
        }
    }
}

/// The present by the database's own clock, in microseconds since the Unix epoch.
pub(super) fn now(database: &mut dyn Database) -> Result<i64, StoreError> {
    let sql = format!("SELECT {}", database.dialect().now());
    database
        .query(&sql, &[])?
        .pop()
        .ok_or(StoreError::Unreadable)?
        .int()
}

/// A value on its way in or out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
    Blob(Cow<'a, [u8]>),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u8> for Value<'_> {
    fn from(number: u8) -> Self {
        Value::Int(number.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Value::Int(truth.into())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Value::Blob(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Value::Blob(Cow::Owned(bytes))
    }
}

impl From<Uuid> for Value<'_> {
    fn from(id: Uuid) -> Self {
        Value::Blob(Cow::Owned(id.as_bytes().to_vec()))
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// The sort of a column in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Int,
    Text,
    Blob,
}

/// A statement over a table `batch` of the given columns.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) columns: &'static [(&'static str, Sort)],
    pub(super) body: &'static str,
}

impl Batch {
    /// The whole statement, where `rows` is the query that gives the rows of `batch`.
    pub(super) fn sql(&self, rows: &str) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        format!("WITH batch ({}) AS ({rows}) {}", names.join(", "), self.body)
    }
}

/// Columns with the sorts of their values.
pub(super) type ColumnList = &'static [(&'static str, Sort)];

/// A change by the rows of a batch. SQLite gets the plain statement for one row, which it runs without noting how to
/// undo its half.
#[derive(Debug)]
pub(super) enum Change {
    /// Adds rows.
    Insert {
        table: &'static str,
        columns: ColumnList,
        /// `ON CONFLICT` and `RETURNING`, where wanted.
        then: &'static str,
    },
    /// Sets columns of the rows with this key.
    Update {
        table: &'static str,
        key: ColumnList,
        columns: ColumnList,
        /// A further condition, which begins with `AND`; `t` is the row, `batch` has the new values.
        and: &'static str,
    },
    /// Deletes the rows with this key.
    Delete { table: &'static str, key: ColumnList },
}

impl Change {
    /// The columns that each row brings, in their order.
    pub(super) fn columns(&self) -> impl Iterator<Item = &'static (&'static str, Sort)> {
        let (first, second): (ColumnList, ColumnList) = match self {
            Change::Insert { columns, .. } => (columns, &[]),
            Change::Update { key, columns, .. } => (key, columns),
            Change::Delete { key, .. } => (key, &[]),
        };
        first.iter().chain(second)
    }

    /// The statement for one row.
    pub(super) fn for_one(&self) -> String {
        let mark = |n: usize| format!("?{}", n + 1);
        match self {
            Change::Insert { table, columns, then } => {
                let marks: Vec<String> = (0..columns.len()).map(mark).collect();
                format!(
                    "INSERT INTO {table} ({}) VALUES ({}) {then}",
                    names(columns),
                    marks.join(", ")
                )
            }
            Change::Update {
                table,
                key,
                columns,
                and,
            } => {
                let mut and = (*and).to_owned();
                for (n, (name, _)) in self.columns().enumerate() {
                    and = and.replace(&format!("batch.{name}"), &mark(n));
                }
                let set = pairs(columns, ", ", |n| mark(key.len() + n));
                format!(
                    "UPDATE OR ROLLBACK {table} AS t SET {set} WHERE {} {and}",
                    pairs(key, " AND ", mark)
                )
            }
            Change::Delete { table, key } => {
                format!("DELETE FROM {table} WHERE {}", pairs(key, " AND ", mark))
            }
        }
    }

    /// The statement for all rows, which the query `rows` gives.
    pub(super) fn for_all(&self, rows: &str) -> String {
        let new =
            |list: ColumnList| move |n: usize| format!("batch.{}", list.get(n).map_or("", |(name, _)| name));
        let with = |key: ColumnList| {
            let equal: Vec<String> = key
                .iter()
                .map(|(name, _)| format!("t.{name} = batch.{name}"))
                .collect();
            equal.join(" AND ")
        };
        let columns: Vec<&str> = self.columns().map(|(name, _)| *name).collect();
        let batch = format!("({rows}) AS batch ({})", columns.join(", "));
        match self {
            Change::Insert { table, columns, then } => {
                format!("INSERT INTO {table} ({}) {rows} {then}", names(columns))
            }
            Change::Update {
                table,
                key,
                columns,
                and,
            } => {
                let set = pairs(columns, ", ", new(columns));
                format!(
                    "UPDATE {table} AS t SET {set} FROM {batch} WHERE {} {and}",
                    with(key)
                )
            }
            // Looked up one by one, even where the server believes that there are none: a list that is empty whenever
            // it counts, and is full of dead rows, would be read whole.
            Change::Delete {
                table,
                key: [(name, _)],
            } => {
                format!("DELETE FROM {table} WHERE {name} = ANY(ARRAY({rows}))")
            }
            Change::Delete { table, key } => {
                format!("DELETE FROM {table} AS t USING {batch} WHERE {}", with(key))
            }
        }
    }
}

fn names(columns: ColumnList) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

fn pairs(columns: ColumnList, between: &str, value: impl Fn(usize) -> String) -> String {
    let pairs: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(n, (name, _))| format!("{name} = {}", value(n)))
        .collect();
    pairs.join(between)
}

/// The texts of batch statements, made once for each `Batch` and `Change`.
#[derive(Debug, Default)]
pub(super) struct BatchTexts(HashMap<usize, Arc<str>>);

impl BatchTexts {
    /// The text for `statement`, as `make` writes it.
    pub(super) fn of<T>(&mut self, statement: &'static T, make: impl FnOnce() -> String) -> Arc<str> {
        let place = std::ptr::from_ref(statement).addr();
        Arc::clone(self.0.entry(place).or_insert_with(|| make().into()))
    }
}

/// A row that a statement answered.
#[derive(Clone, Debug)]
pub(super) struct Row(pub(super) Vec<Value<'static>>);

impl Row {
    /// Reads the columns one after the other.
    pub(super) fn read(self) -> Columns {
        Columns(self.0.into_iter())
    }

    /// The only column, a number.
    pub(super) fn int(self) -> Result<i64, StoreError> {
        self.read().int()
    }
}

/// The columns of a row, from left to right. Each method takes the next.
#[derive(Debug)]
pub(super) struct Columns(std::vec::IntoIter<Value<'static>>);

impl Columns {
    fn next(&mut self) -> Result<Value<'static>, StoreError> {
        self.0.next().ok_or(StoreError::Unreadable)
    }

    pub(super) fn optional_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.next()? {
            Value::Null => Ok(None),
            Value::Int(number) => Ok(Some(number)),
            Value::Text(_) | Value::Blob(_) => Err(StoreError::Unreadable),
        }
    }

    pub(super) fn int(&mut self) -> Result<i64, StoreError> {
        self.optional_int()?.ok_or(StoreError::Unreadable)
    }

    pub(super) fn truth(&mut self) -> Result<bool, StoreError> {
        Ok(self.optional_int()?.unwrap_or(0) != 0)
    }

    /// A small number of an enum.
    pub(super) fn code(&mut self) -> Result<Option<u8>, StoreError> {
        Ok(self.optional_int()?.and_then(|code| u8::try_from(code).ok()))
    }

    pub(super) fn optional_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.next()? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text.into_owned())),
            Value::Int(_) | Value::Blob(_) => Err(StoreError::Unreadable),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        self.optional_text()?.ok_or(StoreError::Unreadable)
    }

    pub(super) fn optional_blob(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.next()? {
            Value::Null => Ok(None),
            Value::Blob(bytes) => Ok(Some(bytes.into_owned())),
            Value::Int(_) | Value::Text(_) => Err(StoreError::Unreadable),
        }
    }

    pub(super) fn blob(&mut self) -> Result<Vec<u8>, StoreError> {
        self.optional_blob()?.ok_or(StoreError::Unreadable)
    }

    pub(super) fn optional_id(&mut self) -> Result<Option<Uuid>, StoreError> {
        let bytes = self.optional_blob()?;
        bytes
            .map(|bytes| Uuid::from_slice(&bytes).map_err(|_| StoreError::Unreadable))
            .transpose()
    }

    pub(super) fn id(&mut self) -> Result<Uuid, StoreError> {
        self.optional_id()?.ok_or(StoreError::Unreadable)
    }
}
