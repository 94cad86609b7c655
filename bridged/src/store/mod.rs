//! The store: records and tokens in SQLite or PostgreSQL, with one writer a process and a few readers.
//!
//! Events come from the recorder's queue and are committed in batches by the writer's own threads (`writer`);
//! questions of the API and the command line are answered by `read` and `sessions` on blocking threads. What is
//! stored is defined in `schema`; both databases are spoken to through `sql::Database`. Invariants: only the
//! writer, token management and the keeping of deadlines (`retention`) write; a batch is committed whole or not
//! at all; an event that is seen twice is stored once, in whatever order events come.

mod audit;
mod budgets;
mod chain;
mod content;
mod feed;
mod filter;
mod labels;
mod lease;
mod news;
mod position;
mod postgres;
mod read;
mod retention;
mod rows;
mod schema;
mod search;
mod sessions;
mod sinks;
mod sql;
mod sqlite;
mod tokens;
mod usage;
mod warnings;
mod write;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, Semaphore, watch};

use crate::config::{Durability, StoreConfig, StoreLocation};
use crate::upstream::{Trust, TrustError};
use sql::Database;

pub use audit::{Audit, ChainHead, Fault};
pub use budgets::Mark;
pub use feed::{Portion, Told};
pub use filter::{Cursor, Filter, Page, Status};
pub use news::{Topic, Versions};
pub use position::{Position, PositionKey};
pub use retention::Deleted;
pub use rows::{InterceptionRow, ThoughtRow, ToolCallRow, UsageRow};
pub use search::{Query, QueryError, SEARCH_PATIENCE};
pub use sessions::{SessionRow, SessionUsage, ThreadRow};
pub use sinks::{Due, Share};
pub use tokens::{NewToken, TokenLine};
pub use usage::{Bookmark, Dimension, FacetLine, SeatLine, Totals, UsageLine};
pub use warnings::Warning;
pub use writer::{Bounds, Writer, WriterConfig, WriterError};

/// A failed read or token change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite refused.
    #[error("the record store failed")]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL refused, or cannot be reached.
    #[error("the record store failed")]
    Postgres(#[from] tokio_postgres::Error),
    /// The system refuses what a connection to a server needs.
    #[error("the record store cannot be connected to")]
    Io(#[from] std::io::Error),
    /// There was no answer in time.
    #[error("the record store does not answer")]
    TimedOut,
    /// Something is stored that no release writes.
    #[error("the record store holds something unreadable")]
    Unreadable,
    /// A newer release has written the database.
    #[error("the record store was written by a newer release (schema {found}, known up to {known})")]
    Newer {
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// A build before the first release has written the database.
    #[error("the record store was written before the first release")]
    Old,
    /// Somebody else has written under this process's name.
    #[error("the chain of records was continued by somebody else")]
    Forked,
    /// There is no randomness for a token.
    #[error("the system has no randomness")]
    NoRandomness,
    /// The runtime is shutting down.
    #[error("the process is shutting down")]
    Stopped,
}

impl StoreError {
    /// Whether a server cannot be reached, or is just starting or stopping.
    pub fn is_away(&self) -> bool {
        let StoreError::Postgres(error) = self else {
            return matches!(self, StoreError::TimedOut | StoreError::Io(_));
        };
        if let Some(code) = error.code() {
            return code.code().starts_with("57");
        }
        let mut reason = std::error::Error::source(error);
        while let Some(error) = reason {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                // A certificate that is not trusted will not be so later.
                return error.kind() != std::io::ErrorKind::InvalidData;
            }
            reason = error.source();
        }
        false
    }

    /// Whether the same may succeed later.
    pub fn is_passing(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            StoreError::Io(_) | StoreError::TimedOut | StoreError::Stopped | StoreError::Forked => true,
            StoreError::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::CannotOpen
                        | ErrorCode::OutOfMemory
                        | ErrorCode::ReadOnly
                )
            ),
            // Data exceptions and broken constraints stay what they are; all else is the server's state.
            StoreError::Postgres(error) => error.code().is_none_or(|code| {
                !["22", "23", "42"]
                    .iter()
                    .any(|class| code.code().starts_with(class))
            }),
            StoreError::Unreadable
            | StoreError::Newer { .. }
            | StoreError::Old
            | StoreError::NoRandomness => false,
        }
    }
}

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
    /// The database refused, or cannot be reached.
    #[error("{store} cannot be used")]
    Store {
        /// The database.
        store: String,
        /// The reason.
        source: StoreError,
    },
    /// The file belongs to another program.
    #[error("{} is the database of another program", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// A build before the first release has written the database.
    #[error("{store} was written before the first release: move it away")]
    Old {
        /// The database.
        store: String,
    },
    /// A newer release has written the database.
    #[error("{store} was written by a newer release (schema {found}, known up to {known})")]
    Newer {
        /// The database.
        store: String,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// The server's certificate could not be checked.
    #[error("the certificate of the record store cannot be checked")]
    Trust(#[from] TrustError),
    /// The process is shutting down.
    #[error("the process is shutting down")]
    Stopped,
}

impl OpenError {
    fn migrating(store: String, error: StoreError) -> OpenError {
        match error {
            StoreError::Newer { found, known } => OpenError::Newer { store, found, known },
            StoreError::Old => OpenError::Old { store },
            source => OpenError::Store { store, source },
        }
    }

    /// Whether the server, or the way there, is down: not that it refuses us.
    fn is_away(&self) -> bool {
        match self {
            OpenError::Store { source, .. } => source.is_away(),
            _ => false,
        }
    }

    fn into_store_error(self) -> StoreError {
        match self {
            OpenError::Store { source, .. } => source,
            OpenError::Newer { found, known, .. } => StoreError::Newer { found, known },
            OpenError::Old { .. } => StoreError::Old,
            OpenError::File { .. } | OpenError::Foreign { .. } | OpenError::Trust(_) => {
                StoreError::Unreadable
            }
            OpenError::Stopped => StoreError::Stopped,
        }
    }
}

/// Reads records and manages tokens. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    place: Place,
    /// Whether the tables are known to be there.
    is_prepared: AtomicBool,
    idle: Mutex<Vec<Box<dyn Database>>>,
    asking: Semaphore,
    /// Told of every commit of this process that readers of the feed want to see.
    news: watch::Sender<()>,
    position_key: OnceCell<Arc<PositionKey>>,
}

/// Where connections lead.
#[derive(Clone, Debug)]
enum Place {
    Sqlite(PathBuf),
    Postgres(postgres::Server),
}

impl Place {
    /// Prepares the database, making or migrating it where needed.
    fn open(&self) -> Result<Box<dyn Database>, OpenError> {
        match self {
            Place::Sqlite(path) => Ok(Box::new(sqlite::Sqlite::open(path)?)),
            Place::Postgres(server) => Ok(Box::new(server.open()?)),
        }
    }

    /// One more connection.
    fn connect(&self) -> Result<Box<dyn Database>, StoreError> {
        match self {
            Place::Sqlite(path) => Ok(Box::new(sqlite::Sqlite::connect(path)?)),
            Place::Postgres(server) => Ok(Box::new(server.connect()?)),
        }
    }

    /// A connection for the writer, with commits of this durability.
    fn connect_to_write(&self, durability: Durability) -> Result<Box<dyn Database>, StoreError> {
        let mut database: Box<dyn Database> = match self {
            Place::Sqlite(path) => {
                let database = sqlite::Sqlite::connect(path)?;
                database.tune_for_writing()?;
                Box::new(database)
            }
            Place::Postgres(server) => {
                let mut database = server.connect()?;
                database.tune_for_writing()?;
                Box::new(database)
            }
        };
        database.set_durability(durability)?;
        Ok(database)
    }
}

/// Questions that are answered at the same time, and connections kept open for them.
const ASKING: usize = 8;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("place", &self.0.place).finish()
    }
}

impl Store {
    /// Opens the database that `config` names, making or migrating it where needed.
    ///
    /// # Errors
    /// It cannot be made or reached, is not ours, or is newer than this program.
    pub async fn open(config: &StoreConfig) -> Result<Store, OpenError> {
        let store = Store::at(config)?;
        let opening = store.clone();
        tokio::task::spawn_blocking(move || opening.prepare())
            .await
            .map_err(|_| OpenError::Stopped)??;
        Ok(store)
    }

    /// The same, but a server that cannot be reached now is asked again with each question.
    ///
    /// # Errors
    /// As `open`, unless the server is away.
    pub async fn open_or_wait(config: &StoreConfig) -> Result<Store, OpenError> {
        match Store::open(config).await {
            Err(error) if error.is_away() => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the record store cannot be reached; records wait in the spool"
                );
                Store::at(config)
            }
            outcome => outcome,
        }
    }

    fn at(config: &StoreConfig) -> Result<Store, OpenError> {
        let place = match &config.location {
            StoreLocation::Sqlite(path) => Place::Sqlite(path.clone()),
            StoreLocation::Postgres(url) => {
                let trust = Trust::load(&config.extra_ca)?;
                Place::Postgres(postgres::Server::new(url.config(), trust.for_database()))
            }
        };
        Ok(Store(Arc::new(Inner {
            place,
            is_prepared: AtomicBool::new(false),
            idle: Mutex::new(Vec::new()),
            asking: Semaphore::new(ASKING),
            news: watch::Sender::new(()),
            position_key: OnceCell::new(),
        })))
    }

    /// Makes or migrates the database where that has not happened yet.
    fn prepare(&self) -> Result<(), OpenError> {
        if !self.0.is_prepared.load(Ordering::Acquire) {
            let database = self.0.place.open()?;
            self.keep_idle(database);
            self.0.is_prepared.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// A connection for the writer.
    fn connect_to_write(&self, durability: Durability) -> Result<Box<dyn Database>, StoreError> {
        self.prepare().map_err(OpenError::into_store_error)?;
        self.0.place.connect_to_write(durability)
    }

    fn keep_idle(&self, database: Box<dyn Database>) {
        self.idle().push(database);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<dyn Database>>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that the database takes on its server; nothing for a file, whose size the file system knows.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn bytes(&self) -> Result<Option<u64>, StoreError> {
        self.ask(|database| {
            if database.dialect() == sql::Dialect::Sqlite {
                return Ok(None);
            }
            let mut rows = database.query("SELECT pg_database_size(current_database())", &[])?;
            let bytes = rows.pop().ok_or(StoreError::Unreadable)?.int()?;
            Ok(u64::try_from(bytes).ok())
        })
        .await
    }

    /// Answers a question, all of whose parts see the database as it is at the beginning.
    async fn ask_of_one_moment<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(|database| {
            database.script(database.dialect().begin_looking())?;
            let answer = question(database);
            database.roll_back();
            answer
        })
        .await
    }

    /// Answers a question on a blocking thread.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _turn = self.0.asking.acquire().await.map_err(|_| StoreError::Stopped)?;
        let store = self.clone();
        let task = tokio::task::spawn_blocking(move || store.ask_now(question));
        task.await.map_err(|_| StoreError::Stopped)?
    }

    /// Answers a question on this thread, which may wait.
    fn ask_now<T>(
        &self,
        question: impl FnOnce(&mut dyn Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.prepare().map_err(OpenError::into_store_error)?;
        let mut database = loop {
            let kept = self.idle().pop();
            match kept {
                Some(database) if database.is_usable() => break database,
                Some(_) => {}
                None => break self.0.place.connect()?,
            }
        };
        let answer = question(database.as_mut());
        if database.is_usable() {
            self.keep_idle(database);
        }
        answer
    }
}

#[cfg(test)]
mod tests;
