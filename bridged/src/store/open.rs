//! Opening the database: permissions, settings, migrations, records left open by a process that died.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::schema::{APPLICATION_ID, MIGRATIONS};

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be made or read.
    #[error("{} cannot be opened", path.display())]
    File {
        /// The database.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("{} cannot be opened as a database", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// The reason.
        source: rusqlite::Error,
    },
    /// The file belongs to another program.
    #[error("{} is the database of another program", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// A newer release has written the file.
    #[error("{} was written by a newer release (schema {found}, known up to {known})", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest schema known here.
        known: usize,
    },
}

/// Opens the database at `path`, making or migrating it where needed.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    make_private(path).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let mut connection = connect(path).map_err(failed)?;
    let version = migrate(&mut connection).map_err(failed)?;
    match version {
        Version::Current => Ok(connection),
        Version::Foreign => Err(OpenError::Foreign { path: path.to_owned() }),
        Version::Newer(found) => {
            Err(OpenError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() })
        }
    }
}

/// Opens one more connection to a database that `open` has prepared.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "wal")?;
    Ok(connection)
}

enum Version {
    Current,
    Foreign,
    Newer(usize),
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<Version> {
    // The lock is taken at once, so that two processes that start together do not both migrate.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let owner: i32 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    if owner != APPLICATION_ID && tables > 0 {
        return Ok(Version::Foreign);
    }
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = found as usize;
    if found > MIGRATIONS.len() {
        return Ok(Version::Newer(found));
    }
    for step in MIGRATIONS.iter().skip(found) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
    transaction.commit()?;
    Ok(Version::Current)
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
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(open(&foreign), Err(OpenError::Foreign { .. })));

        let newer = folder.path().join("newer.db");
        open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(open(&newer), Err(OpenError::Newer { found: 99, .. })));
    }

    #[cfg(unix)]
    #[test]
    fn keeps_the_file_to_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        open(&path).unwrap();
        open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
