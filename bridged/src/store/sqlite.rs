//! SQLite: a file with one writer at a time and readers that do not wait for it.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql};

use super::labels::Labels;
use super::schema::{self, APPLICATION_ID};
use super::sql::{Batch, BatchTexts, Change, Database, Dialect, Row, Value, transaction};
use super::{OpenError, StoreError};
use crate::config::Durability;

/// Longest wait for another writer.
const BUSY: Duration = Duration::from_secs(2);
/// Statements kept prepared.
const STATEMENTS: usize = 96;

/// An open database file.
#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
    texts: BatchTexts,
    labels: Labels,
}

impl Sqlite {
    /// Opens the database at `path`, making or migrating it where needed.
    pub(super) fn open(path: &Path) -> Result<Sqlite, OpenError> {
        make_private(path).map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?;
        let failed = |source| OpenError::Store {
            store: path.display().to_string(),
            source,
        };
        let mut database = Sqlite::connect(path).map_err(failed)?;
        database.check_owner(path)?;
        transaction(&mut database, |database| {
            schema::migrate(database)?;
            database.script(&format!("PRAGMA application_id = {APPLICATION_ID}"))
        })
        .map_err(|error| OpenError::migrating(path.display().to_string(), error))?;
        Ok(database)
    }

    /// Opens one more connection to a database that `open` has prepared.
    pub(super) fn connect(path: &Path) -> Result<Sqlite, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.pragma_update(None, "journal_mode", "wal")?;
        // What a statement with many rows notes for its undoing needs no file.
        connection.pragma_update(None, "temp_store", "memory")?;
        // What is erased must not stay readable in the file.
        connection.pragma_update(None, "secure_delete", "on")?;
        Ok(Sqlite {
            connection,
            texts: BatchTexts::default(),
            labels: Labels::default(),
        })
    }

    /// Prepares the connection that writes records.
    pub(super) fn tune_for_writing(&self) -> Result<(), StoreError> {
        self.connection
            .pragma_update(None, "wal_autocheckpoint", 16_000)?;
        // A log that a slow disk has let grow becomes small again.
        self.connection
            .pragma_update(None, "journal_size_limit", 256 << 20)?;
        // The writer's tables are wider than the default 2 MiB.
        self.connection.pragma_update(None, "cache_size", -64_000)?;
        Ok(())
    }

    fn run_each(&self, sql: &str, rows: &[Vec<Value<'_>>]) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        let mut statement = self.connection.prepare_cached(sql)?;
        for row in rows {
            run(&mut statement, row, &mut found)?;
        }
        Ok(found)
    }

    fn check_owner(&mut self, path: &Path) -> Result<(), OpenError> {
        let look = |connection: &Connection| -> rusqlite::Result<(i32, i64, i64)> {
            let owner = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
            let tables = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
            // Where migrations were counted before there was another database.
            let old = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((owner, tables, old))
        };
        let (owner, tables, old) = look(&self.connection).map_err(|source| OpenError::Store {
            store: path.display().to_string(),
            source: source.into(),
        })?;
        if owner != APPLICATION_ID && tables > 0 {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
            });
        }
        if old > 0 {
            return Err(OpenError::Old {
                store: path.display().to_string(),
            });
        }
        Ok(())
    }
}

impl Database for Sqlite {
    fn set_durability(&mut self, durability: Durability) -> Result<(), StoreError> {
        let synchronous = match durability {
            // The log is forced to disk at every commit.
            Durability::Strict => "full",
            Durability::Relaxed => "normal",
        };
        self.connection.pragma_update(None, "synchronous", synchronous)?;
        Ok(())
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        Ok(self
            .connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])
            .map(drop)?)
    }

    fn begin_reading(&mut self) -> Result<(), StoreError> {
        self.script("BEGIN")
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(self.connection.prepare_cached("COMMIT")?.execute([]).map(drop)?)
    }

    fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            // SQLite has done so itself where this fails.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn query(&mut self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = Vec::new();
        run(&mut statement, values, &mut found)?;
        Ok(found)
    }

    fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute(rusqlite::params_from_iter(values))? as u64)
    }

    fn script(&mut self, sql: &str) -> Result<(), StoreError> {
        Ok(self.connection.execute_batch(sql)?)
    }

    fn batch(&mut self, batch: &'static Batch, rows: Vec<Vec<Value<'_>>>) -> Result<Vec<Row>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let text = self.texts.of(batch, || {
            let marks: Vec<String> = (1..=batch.columns.len()).map(|n| format!("?{n}")).collect();
            batch.sql(&format!("VALUES ({})", marks.join(", ")))
        });
        self.run_each(&text, &rows)
    }

    fn change(&mut self, change: &'static Change, rows: Vec<Vec<Value<'_>>>) -> Result<Vec<Row>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let text = self.texts.of(change, || change.for_one());
        self.run_each(&text, &rows)
    }

    fn labels(&mut self) -> &mut Labels {
        &mut self.labels
    }

    fn is_usable(&self) -> bool {
        true
    }

    fn vacuum(&mut self) -> Result<(), StoreError> {
        Ok(self
            .connection
            .execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")?)
    }
}

fn run(statement: &mut Statement<'_>, values: &[Value<'_>], found: &mut Vec<Row>) -> rusqlite::Result<()> {
    let columns = statement.column_count();
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| row.get_ref(column).and_then(owned));
        found.push(Row(values.collect::<rusqlite::Result<_>>()?));
    }
    Ok(())
}

fn owned(value: ValueRef<'_>) -> rusqlite::Result<Value<'static>> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        // Sums come as floating point where they overflow; there are none in the schema.
        ValueRef::Real(_) => return Err(rusqlite::Error::InvalidQuery),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned().into()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec().into()),
    })
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Makes the file readable by its owner only, before SQLite puts anything into it. SQLite gives its journal
/// files the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_it_did_not_write() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("foreign.db");
        Connection::open(&foreign)
            .unwrap()
            .execute_batch("CREATE TABLE theirs (x)")
            .unwrap();
        assert!(matches!(Sqlite::open(&foreign), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn refuses_what_an_old_build_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let old = format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2; CREATE TABLE label (x)"
        );
        Connection::open(&path).unwrap().execute_batch(&old).unwrap();
        assert!(matches!(Sqlite::open(&path), Err(OpenError::Old { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn keeps_the_file_to_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        Sqlite::open(&path).unwrap();
        Sqlite::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
