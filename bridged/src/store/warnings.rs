//! Warnings of budgets: one for each account, period and level, whichever process noticed first.
//!
//! They are numbered in the order in which they become visible, so that a reader who remembers the last number has
//! missed none.

use std::sync::Arc;

use serde::Serialize;

use super::sql::{Database, Dialect, Row, Value, transaction};
use super::{Store, StoreError};
use crate::clock::Micros;

/// Names the lock of those who warn among the locks of a PostgreSQL server.
const LOCK: i64 = 0x4357_4242;
/// Microseconds for which warnings are kept after their period has ended.
const KEPT: i64 = 31 * 86_400 * 1_000_000;
/// Warnings that are read at once.
const PAGE: i64 = 200;

/// An account of a budget that is nearly or wholly used up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warning {
    /// The budget's name.
    pub budget: Arc<str>,
    /// What the account is of: `all`, `provider`, `group` or `user`.
    pub per: Arc<str>,
    /// Whose account it is.
    pub account: Arc<str>,
    /// The percentage that was reached: 85 or 100.
    pub level: u8,
    /// What is used, as a share of the budget: 1 is all of it.
    pub share: f64,
    /// When the period began.
    #[serde(serialize_with = "as_text")]
    pub since: Micros,
    /// When the next one begins.
    #[serde(serialize_with = "as_text")]
    pub resets_at: Micros,
    /// When it was noticed.
    #[serde(serialize_with = "as_text")]
    pub at: Micros,
}

fn as_text<S: serde::Serializer>(date: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&date.rfc3339())
}

impl super::Position {
    /// Goes on to a warning.
    pub fn pass_warning(&mut self, number: i64) {
        self.warning = number;
    }
}

impl Store {
    /// Keeps warnings; returns those that nobody gave before.
    ///
    /// # Errors
    /// The store cannot be written; none is kept.
    pub async fn warn(&self, warnings: Vec<Warning>) -> Result<Vec<Warning>, StoreError> {
        let fresh = self
            .ask(move |database| {
                transaction(database, |database| {
                    if database.dialect() == Dialect::Postgres {
                        // The numbers become visible in their order.
                        database.query("SELECT pg_advisory_xact_lock(?1)", &[Value::Int(LOCK)])?;
                    }
                    let mut fresh = Vec::new();
                    for warning in warnings {
                        if insert(database, &warning)? {
                            fresh.push(warning);
                        }
                    }
                    Ok(fresh)
                })
            })
            .await?;
        if !fresh.is_empty() {
            self.announce();
        }
        Ok(fresh)
    }

    /// The warnings behind `position`, each with its number; with `user` only those about that user's own accounts.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn warnings(
        &self,
        position: &super::Position,
        user: Option<String>,
    ) -> Result<Vec<(i64, Warning)>, StoreError> {
        let last = position.warning;
        self.ask(move |database| {
            let sql = "SELECT seq, name, per, account, level, permille, since, until, noticed_at
                FROM budget_warning
                WHERE seq > ?1 AND (?2 = 0 OR per = 'user' AND account = ?3) ORDER BY seq LIMIT ?4";
            let own = user.is_some();
            let user = user.unwrap_or_default();
            let values = [last.into(), i64::from(own).into(), user.into(), PAGE.into()];
            database.query(sql, &values)?.into_iter().map(read).collect()
        })
        .await
    }
}

/// Adds a warning unless the same or a higher one was given; whether it did.
fn insert(database: &mut dyn Database, warning: &Warning) -> Result<bool, StoreError> {
    #[expect(clippy::cast_possible_truncation, reason = "a share is a small number")]
    let permille = (warning.share * 1_000.0).round() as i64;
    let values = [
        (&*warning.budget).into(),
        (&*warning.per).into(),
        (&*warning.account).into(),
        warning.since.0.into(),
        warning.resets_at.0.into(),
        warning.level.into(),
        permille.into(),
        warning.at.0.into(),
    ];
    let sql = "INSERT INTO budget_warning (name, per, account, since, until, level, permille, noticed_at)
        SELECT w.name, w.per, w.account, w.since, w.until, w.level, w.permille, w.noticed_at
        FROM (SELECT CAST(?1 AS TEXT) AS name, CAST(?2 AS TEXT) AS per, CAST(?3 AS TEXT) AS account,
            CAST(?4 AS BIGINT) AS since, CAST(?5 AS BIGINT) AS until, CAST(?6 AS SMALLINT) AS level,
            CAST(?7 AS BIGINT) AS permille, CAST(?8 AS BIGINT) AS noticed_at) w
        WHERE NOT EXISTS (SELECT 1 FROM budget_warning b
            WHERE b.name = w.name AND b.account = w.account AND b.since = w.since AND b.level >= w.level)";
    let is_new = database.execute(sql, &values)? == 1;
    if is_new {
        // After the insertion, so that numbers are never given a second time.
        database.execute(
            "DELETE FROM budget_warning WHERE until < ?1",
            &[(warning.at.0.saturating_sub(KEPT)).into()],
        )?;
    }
    Ok(is_new)
}

fn read(row: Row) -> Result<(i64, Warning), StoreError> {
    let mut row = row.read();
    let number = row.int()?;
    let (budget, per, account) = (row.text()?, row.text()?, row.text()?);
    let level = row.code()?.unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a share is a small number")]
    let share = row.int()? as f64 / 1_000.0;
    let mut date = || row.int().map(Micros);
    let warning = Warning {
        budget: budget.into(),
        per: per.into(),
        account: account.into(),
        level,
        share,
        since: date()?,
        resets_at: date()?,
        at: date()?,
    };
    Ok((number, warning))
}
