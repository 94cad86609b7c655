//! What the index has not read yet: the last links of the chains.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::indexer::Position;
use crate::store::sql::{Batch, Database, Sort};
use crate::store::{StoreError, read};

/// Links of a chain that a search looks at by itself, at most: those that have waited longest.
const LINKS: i64 = 1_024;

const IDS: Batch = Batch {
    columns: &[("instance", Sort::Int), ("after", Sort::Int), ("last", Sort::Int)],
    body: "SELECT l.id FROM batch CROSS JOIN chain l WHERE l.instance = batch.instance
        AND l.n > batch.after AND l.n <= batch.last AND l.kind IN (1, 2)",
};

/// Interceptions that began or ended without the index knowing.
pub(super) fn unread(database: &mut dyn Database) -> Result<BTreeSet<Uuid>, StoreError> {
    let row = |position: &Position| {
        let last = position.head.min(position.n + LINKS);
        vec![position.instance.into(), position.n.into(), last.into()]
    };
    let rows = Position::all(database)?.iter().map(row).collect();
    read::ids(database.batch(&IDS, rows)?).map(BTreeSet::from_iter)
}

/// Whether these are all of which the index does not know.
pub(super) fn is_complete(database: &mut dyn Database) -> Result<bool, StoreError> {
    let is_near = |position: &Position| position.head - position.n <= LINKS;
    Position::all(database).map(|positions| positions.iter().all(is_near))
}
