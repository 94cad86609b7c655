//! Who may change the index: one at a time, of all processes that use the store.
//!
//! The holder says in every transaction that it still is; one that was held up for too long finds that it is not,
//! and nothing of what it did is seen.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::store::StoreError;
use crate::store::lease::micros;
use crate::store::sql::{Database, begun, transaction};

/// How long a lease lasts after its holder's last transaction. The next process on the data folder of one that was
/// killed need not wait for it (`store::lease::end_of`).
const LEASE: Duration = Duration::from_secs(30);
/// How often a transaction is begun before the database counts as away. SQLite lets somebody wait in vain who is
/// unlucky, as long as another writes without a pause.
const TRIES: usize = 10;
/// How often somebody who waits looks again.
const LOOK: Duration = Duration::from_millis(10);
/// How long it is known after such a look that somebody waits.
const WISH: Duration = Duration::from_secs(2);
/// Rows of the table: the lease, and who waits for it.
const HELD: i64 = 1;
const WANTED: i64 = 2;

/// The right to change the index.
#[derive(Debug)]
pub(in crate::store) struct Lease(Uuid);

impl Lease {
    /// Takes the lease for `holder` if nobody has it, nor waits for it.
    pub(in crate::store) fn take(
        database: &mut dyn Database,
        holder: Uuid,
    ) -> Result<Option<Lease>, StoreError> {
        if is_waited_for(database)? {
            return Ok(None);
        }
        Ok(claim(database, HELD, (holder, LEASE))?.then_some(Lease(holder)))
    }

    /// Waits for the lease. Who has it for long work leaves that.
    ///
    /// # Errors
    /// There is none in a time in which every other holder has ended what it does, or is dead.
    pub(in crate::store) fn wait(database: &mut dyn Database) -> Result<Lease, StoreError> {
        let (began, holder) = (Instant::now(), Uuid::now_v7());
        loop {
            claim(database, WANTED, (holder, WISH))?;
            if claim(database, HELD, (holder, LEASE))? {
                release(database, WANTED, holder)?;
                return Ok(Lease(holder));
            }
            if began.elapsed() > LEASE * 4 {
                return Err(StoreError::TimedOut);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Does `work` in a transaction if the lease is still held, which it then is for longer.
    pub(super) fn transaction<T>(
        &self,
        database: &mut dyn Database,
        work: impl FnOnce(&mut dyn Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let now = database.dialect().now();
        let sql = format!("UPDATE search_lease SET until = {now} + ?2 WHERE id = {HELD} AND holder = ?1");
        let mut tries = 1;
        while let Err(error) = database.begin() {
            if tries == TRIES || !error.is_passing() || !database.is_usable() {
                return Err(error);
            }
            tries += 1;
        }
        begun(database, |database| {
            match database.execute(&sql, &[self.0.into(), micros(LEASE).into()])? {
                1 => work(database),
                _ => Err(StoreError::TimedOut),
            }
        })
    }

    /// Gives the lease back.
    pub(in crate::store) fn end(self, database: &mut dyn Database) -> Result<(), StoreError> {
        release(database, HELD, self.0)
    }
}

/// Claims a row for so long if nobody else has.
fn claim(
    database: &mut dyn Database,
    row: i64,
    (holder, time): (Uuid, Duration),
) -> Result<bool, StoreError> {
    let now = database.dialect().now();
    let sql = format!(
        "INSERT INTO search_lease (id, holder, until) VALUES (?1, ?2, {now} + ?3)
         ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, until = excluded.until
         WHERE search_lease.until < {now}"
    );
    let claimed = transaction(database, |database| {
        database.execute(&sql, &[row.into(), holder.into(), micros(time).into()])
    })?;
    Ok(claimed == 1)
}

fn release(database: &mut dyn Database, row: i64, holder: Uuid) -> Result<(), StoreError> {
    let sql = "UPDATE search_lease SET until = 0 WHERE id = ?1 AND holder = ?2";
    transaction(database, |database| {
        database.execute(sql, &[row.into(), holder.into()])
    })
    .map(drop)
}

/// Whether somebody waits for the lease.
pub(in crate::store) fn is_waited_for(database: &mut dyn Database) -> Result<bool, StoreError> {
    let now = database.dialect().now();
    let sql = format!("SELECT id FROM search_lease WHERE id = ?1 AND until > {now}");
    Ok(!database.query(&sql, &[WANTED.into()])?.is_empty())
}
