//! Full-text search over prompts: an index of its own in the tables of either database.
//!
//! It is made in the background (`indexer`) out of segments (`segment`, `terms`, `page`, `run`) that are merged as they become
//! many (`rewrite`), and read from the newest prompt on (`walk`, `list`, `find`). `words` and `query` say what fits.
//! Both databases hold the same index and find the same. Invariants: the index never decides what is shown, it only
//! names candidates; nothing in it outlives the erasure of its text for longer than `indexer` says; no transaction on
//! it is long enough to hold up the writer of records.

mod find;
mod indexer;
mod lease;
mod list;
mod page;
mod query;
mod rewrite;
mod run;
mod segment;
mod terms;
mod walk;
mod words;

pub use query::{Query, QueryError};

pub(super) use find::{interceptions, sessions};
pub(super) use indexer::{Indexer, forget, purge};
#[cfg(test)]
pub(super) use lease::Lease;
#[cfg(test)]
pub(super) use list::seek_through;

#[cfg(test)]
impl super::Store {
    /// Brings the index up to date at once.
    pub(crate) async fn catch_up(&self) -> Result<(), super::StoreError> {
        self.ask(|database| indexer::catch_up(database)).await
    }
}
