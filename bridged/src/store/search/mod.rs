//! Full-text search over prompts: an index of its own in the tables of either database.
//!
//! It is made in the background (`indexer`) out of segments (`segment`, `terms`, `page`, `run`) that are merged as they
//! become many (`rewrite`), and read from the newest prompt on (`find`, `plan`, `walk`, `order`, `intersect`, `list`). What it
//! has not read yet (`fresh`), and what it does not know, is looked for in the prompts (`scan`). `words` and `query` say
//! what fits. Both databases hold the same index and find the same. Invariants: the index never decides what is shown,
//! it only names candidates; nothing in it outlives the erasure of its text for longer than `indexer` says; no
//! transaction on it is long enough to hold up the writer of records.

mod find;
mod fresh;
mod indexer;
mod intersect;
mod lease;
mod list;
mod order;
mod page;
mod plan;
mod query;
mod rewrite;
mod run;
mod scan;
mod segment;
mod terms;
mod walk;
mod words;

use std::time::{Duration, Instant};

pub use query::{Query, QueryError};

pub(super) use find::{interceptions, sessions};
#[cfg(test)]
pub(super) use indexer::rewrite_largest;
pub(super) use indexer::{Indexer, forget, purge};
#[cfg(test)]
pub(super) use lease::{Lease, is_waited_for};
#[cfg(test)]
pub(super) use list::seek_through;

/// How long an export waits for an index that is behind.
pub const SEARCH_PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two looks at how far the index is.
const PAUSE: Duration = Duration::from_millis(100);

impl super::Store {
    /// Whether a search finds all that is on record, which for long it does not only while the index is being made;
    /// waits up to `patience` for it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn is_searchable(&self, patience: Duration) -> Result<bool, super::StoreError> {
        let began = Instant::now();
        loop {
            let is_complete = self.ask(|database| fresh::is_complete(database)).await?;
            if is_complete || began.elapsed() >= patience {
                return Ok(is_complete);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
impl super::Store {
    /// Brings the index up to date at once.
    pub(crate) async fn catch_up(&self) -> Result<(), super::StoreError> {
        self.ask(|database| indexer::catch_up(database)).await
    }
}
