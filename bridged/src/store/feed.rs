//! The feed: every interception that has ended, in the order in which each process ended them.
//!
//! It is read from the chains, which only ever grow, so a reader needs nothing but its position to go on: nothing is
//! missed or repeated over restarts, crashes and several gateways. Where a process was thought dead and was not, an
//! interception is told of twice; the telling whose `error_kind` is not `gateway_stopped` is the later one. What
//! retention has deleted is skipped. Invariant: a position never passes a link that was not looked at.

use std::collections::HashMap;

use tokio::sync::watch;
use uuid::Uuid;

use super::filter::{Filter, Question, first_id};
use super::position::{Position, Tip};
use super::read;
use super::rows::InterceptionRow;
use super::sql::Database;
use super::{Store, StoreError};
use crate::clock::Micros;

/// Links that one statement looks at.
const SPAN: i64 = 5_000;
/// A chain whose process has given no sign of life for so long (in microseconds) counts as over.
const SILENT: i64 = 7 * 86_400 * 1_000_000;
/// A chain is over at the earliest so long after its beginning (in microseconds): by then no transaction is open
/// that began a chain with a lower number.
const YOUNG: i64 = 60 * 1_000_000;

/// An interception that has ended.
#[derive(Debug)]
pub struct Told {
    /// The interception as it is now.
    pub row: InterceptionRow,
    chain: i64,
    n: i64,
}

/// A part of the feed.
#[derive(Debug)]
pub struct Portion {
    /// In order, chain by chain.
    pub told: Vec<Told>,
    /// Behind all of it.
    pub position: Position,
    /// Whether there is more to read at once.
    pub more: bool,
}

impl Position {
    /// Goes on to what was told.
    pub fn pass(&mut self, told: &Told) {
        self.reach(told.chain, told.n);
    }
}

impl Store {
    /// Tells those who wait for `news` that something was committed.
    pub(crate) fn announce(&self) {
        self.0.news.send_replace(());
    }

    /// Changes whenever this process has committed something. What others commit shows only in the store.
    pub fn news(&self) -> watch::Receiver<()> {
        self.0.news.subscribe()
    }

    /// The position behind all there is.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn feed_end(&self) -> Result<Position, StoreError> {
        self.ask(|database| {
            let tips = tips(database)?;
            let mut position = Position::default();
            for tip in &tips {
                position.reach(tip.chain, tip.n);
            }
            position.shorten(&tips);
            let rows = database.query("SELECT coalesce(max(seq), 0) FROM budget_warning", &[])?;
            position.warning = rows.into_iter().next().ok_or(StoreError::Unreadable)?.int()?;
            Ok(position)
        })
        .await
    }

    /// What comes behind `position` and fits `filter`, about `limit` interceptions.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn feed(&self, position: Position, filter: Filter, limit: u32) -> Result<Portion, StoreError> {
        self.ask(move |database| read_feed(database, position, &filter, limit))
            .await
    }
}

fn read_feed(
    database: &mut dyn Database,
    mut position: Position,
    filter: &Filter,
    limit: u32,
) -> Result<Portion, StoreError> {
    let tips = tips(database)?;
    let behind: Vec<Tip> = tips
        .iter()
        .copied()
        .filter(|tip| position.of(*tip) < tip.n)
        .collect();
    // No chain keeps another waiting.
    let share = (limit / u32::try_from(behind.len()).unwrap_or(u32::MAX).max(1)).max(1);
    let (mut told, mut more) = (Vec::new(), false);
    for tip in behind {
        let read = read_chain(database, (tip.chain, position.of(tip), tip.n), filter, share)?;
        more |= read.reached < tip.n;
        position.reach(tip.chain, read.reached);
        told.extend(read.rows.into_iter().map(|(n, row)| Told {
            row,
            chain: tip.chain,
            n,
        }));
    }
    position.shorten(&tips);
    Ok(Portion { told, position, more })
}

/// The ends of all chains.
pub(super) fn tips(database: &mut dyn Database) -> Result<Vec<Tip>, StoreError> {
    let now = database.dialect().now();
    let sql = format!(
        "SELECT id, head_n, CASE WHEN (lease_until = 0 OR lease_until < {now} - ?1) AND started_at < {now} - ?2
            THEN 1 ELSE 0 END
         FROM instance ORDER BY id"
    );
    let rows = database.query(&sql, &[SILENT.into(), YOUNG.into()])?;
    let tip = |row: super::sql::Row| {
        let mut row = row.read();
        Ok(Tip {
            chain: row.int()?,
            n: row.int()?,
            is_over: row.truth()?,
        })
    };
    rows.into_iter().map(tip).collect()
}

/// Part of a chain.
pub(super) struct Stretch {
    /// The interceptions whose ends are in it, each with its place.
    pub(super) rows: Vec<(i64, InterceptionRow)>,
    /// The last link that was looked at.
    pub(super) reached: i64,
}

/// Reads the chain `chain` behind the link `after` and not beyond `end`: at most `most` ends that fit.
pub(super) fn read_chain(
    database: &mut dyn Database,
    (chain, after, end): (i64, i64, i64),
    filter: &Filter,
    most: u32,
) -> Result<Stretch, StoreError> {
    let last = end.min(after.saturating_add(SPAN));
    let mut question = Question::default();
    let [chain, after, to] = [chain, after, last].map(|number| question.bind(number));
    let mut conditions = vec![format!(
        "c.instance = {chain} AND c.n > {after} AND c.n <= {to} AND c.kind = 2"
    )];
    if let Some(date) = filter.after {
        // Without looking the interception up.
        let earliest = question.bind(first_id(Micros(date.0.saturating_sub(read::SKEW))));
        conditions.push(format!("c.id >= {earliest}"));
    }
    let of_row = read::conditions(&mut question, filter);
    let from = if of_row.is_empty() {
        "chain c"
    } else {
        conditions.push("x.id = c.id".to_owned());
        "chain c CROSS JOIN interception x"
    };
    conditions.extend(of_row);
    let limit = question.bind(i64::from(most));
    let conditions = conditions.join(" AND ");
    let sql = format!("SELECT c.n, c.id FROM {from} WHERE {conditions} ORDER BY c.n LIMIT {limit}");
    let mut places = Vec::new();
    for row in database.query(&sql, &question.values)? {
        let mut row = row.read();
        places.push((row.int()?, row.id()?));
    }
    let is_cut = places.len() >= most as usize;
    let reached = places.last().filter(|_| is_cut).map_or(last, |(n, _)| *n);
    let ids: Vec<Uuid> = places.iter().map(|(_, id)| *id).collect();
    let rows = read::by_ids(database, &ids)?;
    // Not by the index, which comes later than the end.
    let fits = |row: &InterceptionRow| {
        let prompt = row.prompt.as_deref().unwrap_or_default();
        filter.query.as_ref().is_none_or(|query| query.fits(prompt))
    };
    let rows = rows.into_iter().filter(fits);
    let mut rows: HashMap<Uuid, InterceptionRow> = rows.map(|row| (row.id, row)).collect();
    let rows = places
        .into_iter()
        .filter_map(|(n, id)| Some((n, rows.remove(&id)?)))
        .collect();
    Ok(Stretch { rows, reached })
}
