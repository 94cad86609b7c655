//! The one writer: a thread that takes events from the queue and commits them in batches.
//!
//! It takes whatever is queued (group commit), so that under load one fsync serves many requests. A batch that
//! fails for a passing reason (disk full, database locked) is tried again until it succeeds or the process
//! ends; events that can never be stored are counted as lost and logged by id.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc;

use super::write::{self, Memory};
use super::{Store, StoreError, open};
use crate::clock::{Clock, Micros};
use crate::config::Durability;
use crate::metrics::RecordMetrics;
use crate::record::{Event, Job};

/// Events in one transaction.
const BATCH: usize = 512;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Attempts at a batch once the queue is closed, so that a process can end with a broken disk.
const LAST_ATTEMPTS: u32 = 10;

/// The running writer.
#[derive(Debug)]
pub struct Writer(JoinHandle<()>);

impl Writer {
    /// Ends what an earlier process left open, then starts the thread. It ends at `Job::Stop`, or
    /// when every sender of `queue` is gone, once the rest is written.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn start(
        store: &Store,
        queue: mpsc::Receiver<Job>,
        durability: Durability,
        metrics: Arc<RecordMetrics>,
        clock: &Clock,
    ) -> Result<Writer, StoreError> {
        let mut connection = open::connect(&store.0.path)?;
        let synchronous = match durability {
            // The log is forced to disk at every commit.
            Durability::Strict => "full",
            Durability::Relaxed => "normal",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        end_open(&mut connection, clock.micros())?;
        let worker = Worker {
            connection,
            memory: Memory::default(),
            metrics,
        };
        let thread = std::thread::Builder::new()
            .name("record-writer".to_owned())
            .spawn(move || worker.run(queue));
        thread.map(Writer).map_err(|_| StoreError::Stopped)
    }

    /// Waits until the thread has ended.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the record writer panicked");
        }
    }
}

fn end_open(connection: &mut Connection, now: Micros) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let ended = write::abort_open(&transaction, now.0)?;
    transaction.commit()?;
    if ended > 0 {
        tracing::warn!(
            interceptions = ended,
            "an earlier process left interceptions open; they are now aborted"
        );
    }
    Ok(())
}

struct Worker {
    connection: Connection,
    memory: Memory,
    metrics: Arc<RecordMetrics>,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        let mut batch = Vec::with_capacity(BATCH);
        let mut waiting = Vec::new();
        while queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
            for job in jobs.drain(..) {
                match job {
                    Job::Write { event, committed } => {
                        batch.push(event);
                        waiting.extend(committed);
                    }
                    // What is queued behind it is still received.
                    Job::Stop => queue.close(),
                }
            }
            self.store(&batch, &queue);
            #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
            self.metrics.queued.decrement(batch.len() as f64);
            batch.clear();
            for committed in waiting.drain(..) {
                // Nobody waits any more if the client has left.
                let _ = committed.send(());
            }
        }
    }

    /// Stores a batch whole; where an event stands in the way for good, the others one by one.
    fn store(&mut self, batch: &[Event], queue: &mpsc::Receiver<Job>) {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            let Err(error) = self.commit(batch) else { return };
            attempts += 1;
            if !is_passing(&error) {
                return self.store_singly(batch);
            }
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "records cannot be written; trying again"
            );
            if queue.is_closed() && attempts >= LAST_ATTEMPTS {
                self.metrics.lost.increment(batch.len() as u64);
                return;
            }
            std::thread::sleep(pause);
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    fn store_singly(&mut self, batch: &[Event]) {
        for event in batch {
            if let Err(error) = self.commit(std::slice::from_ref(event)) {
                let id = match event {
                    Event::Start(started) => started.id,
                    Event::End(ended) => ended.id,
                };
                self.metrics.lost.increment(1);
                let error = &error as &dyn std::error::Error;
                tracing::error!(interception = %id, error, "a record is lost");
            }
        }
    }

    fn commit(&mut self, batch: &[Event]) -> rusqlite::Result<()> {
        let outcome = self.write(batch);
        match &outcome {
            Ok(()) => self.metrics.written.increment(batch.len() as u64),
            // What the batch added to the memory was rolled back.
            Err(_) => self.memory.clear(),
        }
        outcome
    }

    fn write(&mut self, batch: &[Event]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for event in batch {
            write::write(&transaction, &mut self.memory, event)?;
        }
        transaction.commit()
    }
}

fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly
        )
    )
}
