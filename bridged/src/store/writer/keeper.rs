//! The thread that puts events into the store: what it is handed at once, what waits in the spool in order, and the
//! ends of interceptions whose processes have died. It also keeps this process's lease.

mod cleaning;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use uuid::Uuid;

use super::{BATCH, Bounds, Shared};
use crate::clock::Clock;
use crate::config::Durability;
use crate::record::{Ended, Event, Ledger, Outcome};
use crate::store::chain::Head;
use crate::store::lease::{self, LEASE, Names, RENEWAL};
use crate::store::retention::CleanUp;
use crate::store::sql::{Database, transaction};
use crate::store::write::{self, GATEWAY_STOPPED, Memory};
use crate::store::{Store, StoreError};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The pause between two steps of a clean-up.
const BREATH: Duration = Duration::from_millis(5);

/// What the keeper is asked to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Write this now, so surely, and say how much of it is in the store; nothing if it must be tried again.
    Write(Arc<Vec<Event>>, Durability, Sender<Option<Written>>),
    /// Write what is in the spool.
    Replay,
    /// End.
    Stop,
}

/// The state of the thread.
pub(super) struct Keeper {
    store: Store,
    spool: Shared,
    ledger: Arc<Ledger>,
    names: Names,
    clock: Clock,
    open: Option<Open>,
    renewed: Instant,
    bounds: watch::Receiver<Bounds>,
    /// When old records are looked for next.
    clean_at: Instant,
    cleaning: Option<CleanUp>,
    /// Since when this process has held its lease without a break.
    alive_since: Option<Instant>,
}

/// A connection with what is remembered of the database behind it.
struct Open {
    database: Box<dyn Database>,
    /// Of its next commit.
    durability: Durability,
    memory: Memory,
}

/// How many events were written, and how many can never be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) written: u64,
    pub(super) lost: u64,
}

impl Keeper {
    pub(super) fn new(
        store: Store,
        bounds: watch::Receiver<Bounds>,
        (spool, ledger): (Shared, Arc<Ledger>),
        names: Names,
        clock: Clock,
    ) -> Keeper {
        Keeper {
            store,
            bounds,
            clean_at: Instant::now(),
            cleaning: None,
            spool,
            ledger,
            names,
            clock,
            open: None,
            renewed: Instant::now(),
            alive_since: None,
        }
    }

    pub(super) fn run(mut self, orders: &Receiver<Work>) {
        loop {
            // Between two steps of a clean-up nobody waits long.
            let due = if self.cleaning.is_some() || self.is_cleaning_due() {
                BREATH
            } else {
                RENEWAL.saturating_sub(self.renewed.elapsed())
            };
            match orders.recv_timeout(due) {
                Ok(Work::Write(events, durability, done)) => {
                    // Nobody listens any more if it took too long; then the events are in the spool too.
                    let _ = done.send(self.write(&events, durability).ok());
                }
                Ok(Work::Replay) => {
                    if !self.replay(orders) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.clean(),
                Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.renewed.elapsed() >= RENEWAL {
                self.renew();
            }
            self.note_bounds();
        }
        self.finish();
    }

    /// Writes the spool to its end, however long that takes; false when the process is to end.
    fn replay(&mut self, orders: &Receiver<Work>) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.replay_once() {
                Ok(true) => pause = FIRST_PAUSE,
                Ok(false) => return true,
                Err(error) => {
                    tracing::error!(
                        error = &*error as &dyn std::error::Error,
                        waiting = self.spool.lock().events(),
                        "records cannot be written; they wait in the spool"
                    );
                    match orders.recv_timeout(pause) {
                        Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                        Ok(Work::Write(_, _, done)) => drop(done.send(None)),
                        Ok(Work::Replay) | Err(RecvTimeoutError::Timeout) => {}
                    }
                    self.note_bounds();
                    std::thread::sleep(FIRST_PAUSE);
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
            }
        }
    }

    /// Writes some events of the spool; false when there is nothing left to do.
    fn replay_once(&mut self) -> Result<bool, Box<dyn std::error::Error>> {
        let portion = self.spool.lock().read(BATCH)?;
        if portion.events.is_empty() && portion.unreadable == 0 {
            self.reopen()?;
            self.recover()?;
            return Ok(false);
        }
        // What leaves the spool's disk must be on the store's.
        let written = self.write(&portion.events, Durability::Strict)?;
        let mut spool = self.spool.lock();
        spool.release(&portion)?;
        self.spool.publish(&spool);
        // There is room again.
        self.spool.set_full(false);
        self.ledger
            .replayed(written.written, written.lost + portion.unreadable);
        drop(spool);
        if self.renewed.elapsed() >= RENEWAL {
            self.renew();
        }
        Ok(true)
    }

    /// Opens the gate if the store can be written. While it is closed nothing comes that would notice it.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.spool.is_full() {
            let open = self.open()?;
            let instance = open.memory.instance;
            transaction(open.database.as_mut(), |database| {
                lease::renew(database, instance)
            })?;
            self.spool.set_full(false);
        }
        Ok(())
    }

    /// The connection, made where there is none.
    fn open(&mut self) -> Result<&mut Open, StoreError> {
        if self.open.as_ref().is_some_and(|open| !open.database.is_usable()) {
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let durability = Durability::Strict;
                let mut database = self.store.connect_to_write(durability)?;
                let name = self.names.own;
                let (instance, head) =
                    transaction(database.as_mut(), |database| lease::enter(database, name))?;
                self.renewed = Instant::now();
                self.alive_since = Some(self.renewed);
                Open {
                    database,
                    durability,
                    memory: Memory::new(instance, head),
                }
            }
        };
        Ok(self.open.insert(open))
    }

    /// Writes a batch whole; where an event stands in the way for good, the others one by one.
    fn write(&mut self, events: &[Event], durability: Durability) -> Result<Written, StoreError> {
        match self.commit(events, durability) {
            Ok(()) => Ok(Written {
                written: events.len() as u64,
                lost: 0,
            }),
            Err(error) if error.is_passing() => Err(error),
            Err(_) => self.write_singly(events, durability),
        }
    }

    fn write_singly(&mut self, events: &[Event], durability: Durability) -> Result<Written, StoreError> {
        let mut written = Written::default();
        for event in events {
            match self.commit(std::slice::from_ref(event), durability) {
                Ok(()) => written.written += 1,
                Err(error) if error.is_passing() => return Err(error),
                Err(error) => {
                    written.lost += 1;
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(interception = %event.id(), error, "a record is lost");
                }
            }
        }
        Ok(written)
    }

    fn commit(&mut self, events: &[Event], durability: Durability) -> Result<(), StoreError> {
        let open = self.open()?;
        if open.durability != durability {
            open.database.set_durability(durability)?;
            open.durability = durability;
        }
        let head = open.memory.head;
        let memory = &mut open.memory;
        let outcome = transaction(open.database.as_mut(), |database| {
            write::write(database, memory, events)
        });
        if let Err(error) = &outcome {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "a batch of records was not stored"
            );
            self.fail(error, head);
        }
        self.store.announce();
        outcome
    }

    /// After a failure nothing that the batch added to the memory holds; where the connection broke, not even
    /// whether the batch was stored is known.
    fn fail(&mut self, error: &StoreError, head: Head) {
        let Some(mut open) = self.open.take() else { return };
        if !open.database.is_usable() || matches!(error, StoreError::Forked) {
            self.alive_since = None;
            return;
        }
        open.memory.restore(head);
        self.open = Some(open);
    }

    /// Gives a sign of life, and ends what dead processes left open.
    fn renew(&mut self) {
        self.renewed = Instant::now();
        let outcome = self.open().and_then(|open| {
            let instance = open.memory.instance;
            transaction(open.database.as_mut(), |database| {
                lease::renew(database, instance)
            })
        });
        match outcome {
            // In the middle of a replay the end of an interception may still be in the spool.
            Ok(()) if self.spool.lock().events() > 0 => {}
            Ok(()) => {
                if let Err(error) = self.recover() {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "what dead processes left open could not be ended");
                }
            }
            Err(error) => {
                self.alive_since = None;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the lease of this process could not be renewed");
            }
        }
    }

    /// Ends what dead processes left open.
    fn recover(&mut self) -> Result<(), StoreError> {
        // After an outage of the store the others need time for a sign of life.
        let also_expired = self.alive_since.is_some_and(|since| since.elapsed() > LEASE);
        if self.names.before.is_empty() && !also_expired {
            return Ok(());
        }
        let before = self.names.before.clone();
        let open = self.open()?;
        let instance = open.memory.instance;
        let dead = lease::dead(open.database.as_mut(), instance, &before, also_expired)?;
        for instance in dead {
            self.end_open(instance)?;
        }
        lease::end_of(self.open()?.database.as_mut(), &before)?;
        if let Err(error) = self.names.settle() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the names of processes cannot be saved"
            );
        }
        Ok(())
    }

    fn end_open(&mut self, instance: i64) -> Result<(), StoreError> {
        let mut ended = 0;
        loop {
            let open = self.open()?;
            let ids = lease::left_open(open.database.as_mut(), instance, BATCH)?;
            if ids.is_empty() {
                break;
            }
            let events: Vec<Event> = ids.iter().map(|id| self.aborted(*id)).collect();
            self.commit(&events, Durability::Strict)?;
            ended += ids.len();
        }
        tracing::warn!(
            interceptions = ended,
            "another process left interceptions open; they are now aborted"
        );
        Ok(())
    }

    fn aborted(&self, id: Uuid) -> Event {
        Event::End(Box::new(Ended {
            id,
            outcome: Outcome::Aborted,
            status: None,
            error_kind: Some(GATEWAY_STOPPED.to_owned()),
            error_message: Some("the gateway stopped before the reply had ended".to_owned()),
            first_token_at: None,
            ended_at: self.clock.micros(),
            overhead_us: 0,
            response_bytes: 0,
            retries: 0,
            answerer: None,
            facts: None,
            cost_micros: None,
        }))
    }

    /// Writes what the spool holds if that works at once, and ends the lease.
    fn finish(mut self) {
        while let Ok(true) = self.replay_once() {}
        if let Some(open) = &mut self.open {
            let instance = open.memory.instance;
            let ended = transaction(open.database.as_mut(), |database| lease::end(database, instance));
            if let Err(error) = ended {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "the lease could not be ended"
                );
            }
        }
    }
}
