//! The store: an SQLite database with one writer and a few readers.
//!
//! Events come from the recorder's queue and are committed in batches by the writer's own thread (`writer`);
//! questions of the API and the command line are answered by `read` on blocking threads. What is stored is
//! defined in `schema`. Invariants: only the writer and token management write; a batch is committed whole or
//! not at all; an event that is seen twice is stored once.

mod filter;
mod open;
mod read;
mod schema;
mod sessions;
mod tokens;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

pub use filter::{Cursor, Filter, Page, Status};
pub use open::OpenError;
pub use read::{InterceptionRow, ThoughtRow, ToolCallRow, UsageRow};
pub use sessions::{SessionRow, ThreadRow};
pub use tokens::{NewToken, TokenLine};
pub use writer::Writer;

/// A failed read or token change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite refused.
    #[error("the record store failed")]
    Sqlite(#[from] rusqlite::Error),
    /// There is no randomness for a token.
    #[error("the system has no randomness")]
    NoRandomness,
    /// The runtime is shutting down.
    #[error("the process is shutting down")]
    Stopped,
}

/// Reads records and manages tokens. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// Connections kept open between questions.
const IDLE_CONNECTIONS: usize = 4;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.0.path).finish()
    }
}

impl Store {
    /// Opens the database at `path`, making or migrating it where needed.
    ///
    /// # Errors
    /// The file cannot be made, is not ours, or is newer than this program.
    pub fn open(path: &Path) -> Result<Store, OpenError> {
        let connection = open::open(path)?;
        Ok(Store(Arc::new(Inner {
            path: path.to_owned(),
            idle: Mutex::new(vec![connection]),
        })))
    }

    /// Answers a question on a blocking thread.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let task = tokio::task::spawn_blocking(move || store.ask_now(question));
        task.await.map_err(|_| StoreError::Stopped)?
    }

    /// Answers a question on this thread.
    fn ask_now<T>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => open::connect(&self.0.path)?,
        };
        let answer = question(&mut connection);
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
        answer
    }
}

#[cfg(test)]
mod tests;
