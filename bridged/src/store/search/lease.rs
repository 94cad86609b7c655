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

/// The right to change the index.
#[derive(Debug)]
pub(in crate::store) struct Lease(Uuid);

impl Lease {
    /// Takes the lease for `holder` if nobody has it.
    pub(in crate::store) fn take(
        database: &mut dyn Database,
        holder: Uuid,
    ) -> Result<Option<Lease>, StoreError> {
        let now = database.dialect().now();
        let sql = format!(
            "INSERT INTO search_lease (id, holder, until) VALUES (1, ?1, {now} + ?2)
             ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, until = excluded.until
             WHERE search_lease.until < {now}"
        );
        let taken = transaction(database, |database| {
            database.execute(&sql, &[holder.into(), micros(LEASE).into()])
        })?;
        Ok((taken == 1).then_some(Lease(holder)))
    }

    /// Waits for the lease.
    ///
    /// # Errors
    /// There is none in a time in which every other holder has ended what it does, or is dead.
    pub(super) fn wait(database: &mut dyn Database) -> Result<Lease, StoreError> {
        let (began, holder) = (Instant::now(), Uuid::now_v7());
        loop {
            if let Some(lease) = Lease::take(database, holder)? {
                return Ok(lease);
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
        let sql = format!("UPDATE search_lease SET until = {now} + ?2 WHERE id = 1 AND holder = ?1");
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
        let sql = "UPDATE search_lease SET until = 0 WHERE id = 1 AND holder = ?1";
        transaction(database, |database| database.execute(sql, &[self.0.into()])).map(drop)
    }
}
