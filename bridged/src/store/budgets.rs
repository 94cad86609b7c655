//! What of budgets is spent, as a table of sums that every process adds to.

use std::sync::Arc;

use super::sql::{self, Row, Value, transaction};
use super::{Store, StoreError};
use crate::admission::{Entry, Usage};
use crate::clock::Micros;

/// How far back changes are looked for again: a transaction may become visible later than it is dated.
const OVERLAP: i64 = 10_000_000;

/// A moment by the database's own clock, up to which sums were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(i64);

impl Store {
    /// Adds to the sums, all or nothing.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn spend(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        self.ask(move |database| {
            let sql = format!(
                "INSERT INTO budget (name, account, since, tokens, micros, changed_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, {})
                 ON CONFLICT (name, account, since) DO UPDATE SET
                     tokens = budget.tokens + excluded.tokens,
                     micros = budget.micros + excluded.micros,
                     changed_at = excluded.changed_at",
                database.dialect().now()
            );
            transaction(database, |database| {
                for entry in &entries {
                    database.execute(&sql, &values(entry))?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The sums that have changed since `mark`, and the mark for the next time. The first mark is the default.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn spent(&self, mark: Mark) -> Result<(Vec<Entry>, Mark), StoreError> {
        self.ask(move |database| {
            let now = sql::now(database)?;
            let rows = database.query(
                "SELECT name, account, since, tokens, micros FROM budget WHERE changed_at >= ?1",
                &[Value::Int(mark.0.saturating_sub(OVERLAP))],
            )?;
            let entries: Result<Vec<Entry>, StoreError> = rows.into_iter().map(entry).collect();
            Ok((entries?, Mark(now)))
        })
        .await
    }
}

fn values(entry: &Entry) -> [Value<'_>; 5] {
    [
        (&*entry.budget).into(),
        (&*entry.account).into(),
        entry.since.0.into(),
        entry.used.tokens.into(),
        entry.used.micros.into(),
    ]
}

fn entry(row: Row) -> Result<Entry, StoreError> {
    let mut row = row.read();
    let (budget, account) = (Arc::from(row.text()?), Arc::from(row.text()?));
    let since = Micros(row.int()?);
    let mut amount = || Ok::<_, StoreError>(u64::try_from(row.int()?).unwrap_or_default());
    let used = Usage {
        tokens: amount()?,
        micros: amount()?,
    };
    Ok(Entry {
        budget,
        account,
        since,
        used,
    })
}
