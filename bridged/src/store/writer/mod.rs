//! The one writer: a thread that takes events from the queue, and one that puts them into the store.
//!
//! The first takes whatever is queued (group commit, so that under load one fsync serves many requests) and hands it
//! to the second, the `Keeper`. If the store fails or takes too long, the batch goes to the spool instead and is
//! as good as stored for those who wait for it; from then on everything goes there until the keeper has replayed
//! the spool to its end, so events stay in order. A full spool closes the recorder's gate: starts are refused or
//! lost, as configured; ends are held in memory, for their starts are on record.

mod keeper;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self as threads, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::Store;
use super::lease::Names;
use super::search::Indexer;
use crate::clock::Clock;
use crate::config::{Config, Durability, RetentionConfig, WhenFull};
use crate::metrics::RecordMetrics;
use crate::record::{Event, Gate, Job, Ledger, Spool, SpoolError};
use keeper::{Keeper, Work, Written};

/// Events in one transaction.
const BATCH: usize = 2_048;
/// Longest wait for the store before a batch goes to the spool.
const SLOW: Duration = Duration::from_secs(2);
/// How often room for what is held is looked for.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes above its limit that the spool takes for ends, whose starts are on record.
const BEYOND: u64 = 16 << 20;

/// How long and how much is kept. May change while the writer runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// How long records are kept.
    pub retention: RetentionConfig,
    /// Most bytes of the spool.
    pub spool_max: u64,
}

impl Bounds {
    /// What the configuration says.
    pub fn of(config: &Config) -> Bounds {
        Bounds {
            retention: config.retention,
            spool_max: config.record.spool_max,
        }
    }
}

/// How records are written.
#[derive(Clone, Debug)]
pub struct WriterConfig {
    /// The spool's folder. Also holds the name of this process.
    pub spool: PathBuf,
    /// How long and how much is kept.
    pub bounds: watch::Receiver<Bounds>,
}

/// Why records cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriterError {
    /// The spool cannot be used.
    #[error("the spool in {} cannot be used", folder.display())]
    Spool {
        /// Its folder.
        folder: PathBuf,
        /// The reason.
        source: SpoolError,
    },
    /// The process cannot start a thread.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
    name: Uuid,
}

impl Writer {
    /// Starts the threads. They replay what an earlier process left in the spool, end what it left open, and end at
    /// `Job::Stop`, or when every sender of `queue` is gone, once the rest is kept.
    ///
    /// # Errors
    /// The spool cannot be used. That the store cannot be written now is no error.
    pub fn start(
        store: &Store,
        queue: mpsc::Receiver<Job>,
        config: &WriterConfig,
        (metrics, gate): (Arc<RecordMetrics>, Gate),
        clock: &Clock,
    ) -> Result<Writer, WriterError> {
        let failed = |source| WriterError::Spool {
            folder: config.spool.clone(),
            source,
        };
        let most = config.bounds.borrow().spool_max;
        let spool = Spool::open(&config.spool, most).map_err(failed)?;
        let names = Names::take(&config.spool).map_err(|error| failed(error.into()))?;
        let name = names.own;
        let ledger = Arc::new(Ledger::new(metrics.clone()));
        ledger.recovered(spool.events());
        let stopping = Arc::new(AtomicBool::new(false));
        let indexer = Indexer::new(store.clone(), name, metrics.unindexed.clone(), stopping.clone());
        let (alive, ends) = threads::channel();
        let indexer = spawn("record-indexer", move || indexer.run(&ends))?;
        let spool = Shared::new(spool, gate, metrics);
        let keeper = Keeper::new(
            store.clone(),
            config.bounds.clone(),
            (spool.clone(), ledger.clone()),
            names,
            clock.clone(),
        );
        let (work, orders) = threads::channel();
        let keeper = spawn("record-keeper", move || keeper.run(&orders))?;
        let intake = Intake {
            work,
            spool,
            ledger,
            held: Vec::new(),
        };
        spawn("record-writer", move || {
            intake.run(queue);
            stopping.store(true, Ordering::Relaxed);
            drop(alive);
            for (name, thread) in [("keeper", keeper), ("indexer", indexer)] {
                if thread.join().is_err() {
                    tracing::error!("the record {name} panicked");
                }
            }
        })
        .map(|thread| Writer { thread, name })
    }

    /// The name of this process among those that write to the store.
    pub fn name(&self) -> Uuid {
        self.name
    }

    /// Waits until the threads have ended.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the record writer panicked");
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, WriterError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(WriterError::Thread)
}

/// The spool, used by both threads.
#[derive(Clone, Debug)]
struct Shared {
    spool: Arc<Mutex<Spool>>,
    gate: Gate,
    metrics: Arc<RecordMetrics>,
}

impl Shared {
    fn new(spool: Spool, gate: Gate, metrics: Arc<RecordMetrics>) -> Shared {
        let shared = Shared {
            spool: Arc::new(Mutex::new(spool)),
            gate,
            metrics,
        };
        shared.publish(&shared.lock());
        shared
    }

    fn lock(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing more can be kept.
    fn is_full(&self) -> bool {
        self.gate.is_closed()
    }

    fn set_full(&self, full: bool) {
        self.gate.set_closed(full);
        self.metrics.full.set(if full { 1.0 } else { 0.0 });
    }

    fn publish(&self, spool: &Spool) {
        self.gate.set_in_spool(spool.events() > 0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a spool is far smaller than 2^52 bytes"
        )]
        self.metrics.spool_bytes.set(spool.bytes() as f64);
    }
}

/// Whether a batch is in the store.
enum Stored {
    /// It is, as far as it can be.
    Yes(Written),
    No,
    /// The keeper is still at it.
    Unknown(threads::Receiver<Option<Written>>),
}

impl Stored {
    /// Waits until it is known.
    fn settle(self) -> Stored {
        match self {
            Stored::Unknown(outcome) => match outcome.recv() {
                Ok(Some(written)) => Stored::Yes(written),
                _ => Stored::No,
            },
            known => known,
        }
    }
}

/// An event with how it is kept.
type Waiting = (Event, Care);

/// How an event is kept.
struct Care {
    /// Who waits until it is.
    committed: Option<oneshot::Sender<()>>,
    /// What happens when it cannot be.
    when_full: WhenFull,
}

/// The thread that takes events from the queue.
struct Intake {
    work: threads::Sender<Work>,
    spool: Shared,
    ledger: Arc<Ledger>,
    /// Ends for which there is no room anywhere.
    held: Vec<Waiting>,
}

impl Intake {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        // What an earlier process left is replayed before anything new.
        let _ = self.work.send(Work::Replay);
        while self.receive(&mut queue, &mut jobs) {
            let mut batch = std::mem::take(&mut self.held);
            let already = batch.len();
            for job in jobs.drain(..) {
                match job {
                    Job::Write {
                        event,
                        committed,
                        when_full,
                    } => batch.push((event, Care { committed, when_full })),
                    // What is queued behind it is still received.
                    Job::Stop => queue.close(),
                }
            }
            self.ledger.took(batch.len() - already);
            self.keep(batch);
        }
        if !self.held.is_empty() {
            tracing::error!(events = self.held.len(), "records are lost: the spool is full");
            self.ledger.wrote(0, self.held.len() as u64);
        }
        let _ = self.work.send(Work::Stop);
    }

    /// Waits for jobs, though not long while something is held; false when there will be no more.
    fn receive(&self, queue: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>) -> bool {
        if self.held.is_empty() {
            return queue.blocking_recv_many(jobs, BATCH) > 0;
        }
        std::thread::sleep(RETRY);
        while jobs.len() < BATCH {
            match queue.try_recv() {
                Ok(job) => jobs.push(job),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return !jobs.is_empty(),
            }
        }
        true
    }

    fn keep(&mut self, batch: Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        let (events, waiting): (Vec<Event>, Vec<_>) = batch.into_iter().unzip();
        let events = Arc::new(events);
        let mut stored = Stored::No;
        if self.spool.lock().events() == 0 {
            stored = self.store(&events, durability(&waiting));
        }
        let mut is_kept = matches!(stored, Stored::Yes(_));
        if !is_kept && self.spool(&events) {
            (is_kept, stored) = (true, Stored::No);
        }
        if !is_kept {
            // What is refused must not turn up in the store after all.
            stored = stored.settle();
        }
        if let Stored::Yes(written) = stored {
            self.ledger.wrote(written.written, written.lost);
        } else {
            let _ = self.work.send(Work::Replay);
            if !is_kept {
                return self.squeeze(&events, waiting);
            }
        }
        self.spool.set_full(false);
        waiting.into_iter().for_each(acknowledge);
    }

    /// Hands a batch to the keeper and waits, though not long.
    fn store(&self, events: &Arc<Vec<Event>>, durability: Durability) -> Stored {
        let (done, outcome) = threads::channel();
        let order = Work::Write(Arc::clone(events), durability, done);
        if self.work.send(order).is_err() {
            return Stored::No;
        }
        match outcome.recv_timeout(SLOW) {
            Ok(Some(written)) => Stored::Yes(written),
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the record store is slow; records go to the spool");
                Stored::Unknown(outcome)
            }
            Ok(None) | Err(RecvTimeoutError::Disconnected) => Stored::No,
        }
    }

    /// Puts a batch into the spool; false when it does not fit.
    fn spool(&mut self, events: &Arc<Vec<Event>>) -> bool {
        let mut spool = self.spool.lock();
        let appended = spool.append(events.iter(), 0);
        self.spool.publish(&spool);
        drop(spool);
        match appended {
            Ok(()) => self.ledger.spooled(events.len() as u64),
            Err(error) if !self.spool.is_full() => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "records can be kept neither in the store nor in the spool");
                return false;
            }
            Err(_) => return false,
        }
        true
    }

    /// Keeps what must be kept although the spool is full.
    fn squeeze(&mut self, events: &Arc<Vec<Event>>, waiting: Vec<Care>) {
        self.spool.set_full(true);
        // An event does not come apart from the batch that the keeper may still have: it is copied by its form.
        for (event, care) in events.iter().zip(waiting) {
            let is_start = matches!(event, Event::Start(_));
            if !is_start && self.spool.lock().append([event], BEYOND).is_ok() {
                self.ledger.spooled(1);
                acknowledge(care);
                continue;
            }
            match care.when_full {
                WhenFull::Refuse if is_start && care.committed.is_some() => self.ledger.refused(1),
                WhenFull::Refuse if !is_start => match copy(event) {
                    Some(event) => self.held.push((event, care)),
                    None => self.ledger.wrote(0, 1),
                },
                WhenFull::Refuse | WhenFull::Drop => self.ledger.wrote(0, 1),
            }
        }
    }
}

fn copy(event: &Event) -> Option<Event> {
    let form = serde_json::to_vec(event).ok()?;
    serde_json::from_slice(&form).ok()
}

fn acknowledge(care: Care) {
    if let Some(committed) = care.committed {
        // Nobody waits any more if the client has left.
        let _ = committed.send(());
    }
}

/// Who waits for a commit waits for the disk.
fn durability(waiting: &[Care]) -> Durability {
    match waiting.iter().any(|care| care.committed.is_some()) {
        true => Durability::Strict,
        false => Durability::Relaxed,
    }
}
