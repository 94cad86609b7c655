//! How far each sink has got each chain, and which process delivers which chain.
//!
//! A process delivers its own chain to the sinks that it is configured with; the chain of a process whose lease has
//! run out is taken over by exactly one other. A sink that is new begins with what ends from then on; of its own chain
//! a process knows better than the store when that was (`begin_own`). A position is moved on only after the delivery,
//! so what a crash interrupts is delivered again. Invariant: at any time a chain has at most one keeper whose lease
//! runs.

use uuid::Uuid;

use super::feed::read_chain;
use super::filter::Filter;
use super::rows::InterceptionRow;
use super::sql::{Database, Row, Value, transaction};
use super::{Store, StoreError};
use crate::clock::Micros;

/// Records behind that are counted, at most.
const COUNTED: i64 = 100_000;

/// A chain that a sink is to get from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The process that wrote the chain.
    pub writer: Uuid,
    /// The last link that the sink has got.
    pub n: i64,
    /// The last link there is.
    pub end: i64,
    chain: i64,
}

/// What of a share is to be delivered next.
#[derive(Debug)]
pub struct Due {
    /// Interceptions, each with its place in the chain. None where nothing fits the sink's filter.
    pub rows: Vec<(i64, InterceptionRow)>,
    /// The share behind them.
    pub next: Share,
}

impl Share {
    /// The share behind the link `n`.
    pub fn behind(self, n: i64) -> Share {
        Share { n, ..self }
    }
}

impl Store {
    /// Enters a sink. One that was not known begins with what comes.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn enter_sink(&self, sink: &str) -> Result<(), StoreError> {
        let sink = sink.to_owned();
        self.ask(move |database| {
            let known = "SELECT 1 FROM sink WHERE name = ?1 AND chain = 0";
            if !database.query(known, &[(&*sink).into()])?.is_empty() {
                return Ok(());
            }
            transaction(database, |database| {
                let own = "INSERT INTO sink (name, chain, n, keeper) VALUES (?1, 0, 0, 0) ON CONFLICT (name, chain) DO NOTHING";
                if database.execute(own, &[(&*sink).into()])? == 0 {
                    return Ok(());
                }
                // Nobody's, until the process that writes the chain says where it begins.
                let chains = "INSERT INTO sink (name, chain, n, keeper)
                    SELECT CAST(?1 AS TEXT), i.id, i.head_n, 0 FROM instance i WHERE true
                    ON CONFLICT (name, chain) DO NOTHING";
                database.execute(chains, &[(&*sink).into()]).map(drop)
            })
        })
        .await
    }

    /// Begins the chain of the process `own` for a sink that was new when the chain was already there: with what ended
    /// at `since` or later, or with its first link. While the store was away, that waited in the spool, and came into
    /// the chain before the sink was entered. Does nothing where the sink has begun the chain.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn begin_own(&self, sink: &str, own: i64, since: Option<Micros>) -> Result<(), StoreError> {
        let sink = sink.to_owned();
        self.ask(move |database| {
            let n = match since {
                Some(since) => last_before(database, own, since)?,
                None => 0,
            };
            let sql = "UPDATE sink SET n = CASE WHEN n < ?3 THEN n ELSE ?3 END, keeper = ?2
                WHERE name = ?1 AND chain = ?2 AND keeper = 0";
            let values = [sink.into(), own.into(), n.into()];
            database.execute(sql, &values).map(drop)
        })
        .await
    }

    /// The number of the process named `name`; none before it has written for the first time.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn number_of(&self, name: Uuid) -> Result<Option<i64>, StoreError> {
        self.ask(move |database| {
            let rows = database.query("SELECT id FROM instance WHERE name = ?1", &[name.into()])?;
            rows.into_iter().next().map(Row::int).transpose()
        })
        .await
    }

    /// Makes the process `own` the keeper of its own chain, and of those that nobody delivers any more.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn take_over(&self, sink: &str, own: i64) -> Result<u64, StoreError> {
        let sink = sink.to_owned();
        self.ask(move |database| {
            let mut taken = take(database, &sink, own, own)?;
            for (chain, keeper) in left(database, &sink, own)? {
                taken += match keeper {
                    None => take(database, &sink, chain, own)?,
                    Some(keeper) => database.execute(
                        "UPDATE sink SET keeper = ?3 WHERE name = ?1 AND chain = ?2 AND keeper = ?4",
                        &[(&*sink).into(), chain.into(), own.into(), keeper.into()],
                    )?,
                };
            }
            Ok(taken)
        })
        .await
    }

    /// What `sink` has not got yet of the chains that `own` delivers.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn shares(&self, sink: &str, own: i64) -> Result<Vec<Share>, StoreError> {
        let sink = sink.to_owned();
        self.ask(move |database| {
            let sql = "SELECT i.name, s.n, i.head_n, s.chain FROM sink s JOIN instance i ON i.id = s.chain
                WHERE s.name = ?1 AND s.keeper = ?2 AND s.n < i.head_n ORDER BY s.chain";
            let share = |row: Row| {
                let mut row = row.read();
                Ok(Share {
                    writer: row.id()?,
                    n: row.int()?,
                    end: row.int()?,
                    chain: row.int()?,
                })
            };
            let rows = database.query(sql, &[sink.into(), own.into()])?;
            rows.into_iter().map(share).collect()
        })
        .await
    }

    /// The next interceptions of a share that fit `filter`, at most `most`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn due(&self, share: Share, filter: Filter, most: u32) -> Result<Due, StoreError> {
        self.ask(move |database| {
            let read = read_chain(database, (share.chain, share.n, share.end), &filter, most)?;
            Ok(Due {
                rows: read.rows,
                next: share.behind(read.reached),
            })
        })
        .await
    }

    /// Notes that `sink` has got all before `share`. False when another process delivers the chain meanwhile.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn delivered(&self, sink: &str, own: i64, share: Share) -> Result<bool, StoreError> {
        let values = [
            Value::from(sink.to_owned()),
            share.chain.into(),
            own.into(),
            share.n.into(),
        ];
        self.ask(move |database| {
            let sql = "UPDATE sink SET n = ?4 WHERE name = ?1 AND chain = ?2 AND keeper = ?3 AND n < ?4";
            Ok(database.execute(sql, &values)? == 1)
        })
        .await
    }

    /// How many ended interceptions there are in shares, up to a hundred thousand in each.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn count_due(&self, shares: Vec<Share>) -> Result<u64, StoreError> {
        self.ask(move |database| {
            let mut sum = 0;
            for share in shares {
                let sql = "SELECT count(*) FROM (SELECT 1 FROM chain
                    WHERE instance = ?1 AND n > ?2 AND n <= ?3 AND kind = 2 LIMIT ?4) due";
                let values = [
                    share.chain.into(),
                    share.n.into(),
                    share.end.into(),
                    COUNTED.into(),
                ];
                let mut rows = database.query(sql, &values)?;
                let count = rows.pop().ok_or(StoreError::Unreadable)?.int()?;
                sum += u64::try_from(count).unwrap_or(0);
            }
            Ok(sum)
        })
        .await
    }
}

/// The last link of a chain that tells of an end before `time`.
fn last_before(database: &mut dyn Database, chain: i64, time: Micros) -> Result<i64, StoreError> {
    // From the newest on: it is among the last few. What was deleted is old.
    let sql = "SELECT c.n FROM chain c LEFT JOIN reply r ON r.interception = c.id
        WHERE c.instance = ?1 AND c.kind = 2 AND coalesce(r.ended_at, 0) < ?2 ORDER BY c.n DESC LIMIT 1";
    let mut rows = database.query(sql, &[chain.into(), time.0.into()])?;
    rows.pop().map_or(Ok(0), Row::int)
}

/// Makes `own` the keeper of a chain that has none; 1 if it did.
fn take(database: &mut dyn Database, sink: &str, chain: i64, own: i64) -> Result<u64, StoreError> {
    database.execute(
        "INSERT INTO sink (name, chain, n, keeper) VALUES (?1, ?2, 0, ?3) ON CONFLICT (name, chain) DO NOTHING",
        &[sink.into(), chain.into(), own.into()],
    )
}

/// Chains of dead processes, and the own one, that the sink has not got whole and nobody alive delivers; with their
/// keepers.
fn left(database: &mut dyn Database, sink: &str, own: i64) -> Result<Vec<(i64, Option<i64>)>, StoreError> {
    let now = database.dialect().now();
    let sql = format!(
        "SELECT i.id, s.keeper FROM instance i
         LEFT JOIN sink s ON s.name = ?1 AND s.chain = i.id
         LEFT JOIN instance k ON k.id = s.keeper
         WHERE (i.id = ?2 OR i.lease_until < {now}) AND i.head_n > coalesce(s.n, 0)
            AND coalesce(s.keeper, 0) <> ?2 AND coalesce(k.lease_until, 0) < {now}"
    );
    let rows = database.query(&sql, &[sink.into(), own.into()])?;
    let read = |row: Row| {
        let mut row = row.read();
        Ok((row.int()?, row.optional_int()?))
    };
    rows.into_iter().map(read).collect()
}
