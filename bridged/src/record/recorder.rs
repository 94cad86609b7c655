//! The bounded queue between requests and the store's writer.
//!
//! `Recorder::start` and `Recorder::end` put events in; the writer takes `Job`s out in order and acknowledges
//! them when they are kept, in the store or in the spool. Nothing is lost silently: an event that cannot be queued
//! is either a refusal (`when-full = "refuse"`) or counted. The end of a request whose start was not kept is not
//! recorded either.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Ended, Event, Started, clean};
use crate::admission::{Caps, Meter, Rate};
use crate::config::{Content, Durability, RecordConfig, WhenFull};
use crate::metrics::RecordMetrics;

/// Events that may wait for the writer; two for each of 8,000 requests in flight.
pub const QUEUE: usize = 16_384;
/// Refused calls that are recorded: 20 a second, 200 at once. What is above is counted only.
const REFUSALS: Caps = Caps {
    concurrent: None,
    rate: Some(Rate {
        interval: Duration::from_millis(50),
        burst: 200,
    }),
    tokens: None,
};
/// Longest wait for a commit before the request goes on (or is refused) without it.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// How often a request looks whether the writer has caught up.
const PACE: Duration = Duration::from_millis(1);

/// What the writer is asked to do.
#[derive(Debug)]
pub enum Job {
    /// Write an event.
    Write {
        /// What happened.
        event: Event,
        /// Told when the event is kept; dropped when it is refused or lost. Who waits is told of nothing less than
        /// a commit on disk.
        committed: Option<oneshot::Sender<()>>,
        /// What happens when it cannot be kept.
        when_full: WhenFull,
    },
    /// End, once all that is queued is written.
    Stop,
}

/// Why a request's record could not be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There is no room: in the queue, or in the spool while the store is away.
    #[error("there is no room for records")]
    Full,
    /// Neither store nor spool take it in time; they may yet.
    #[error("the record store does not answer")]
    Stalled,
}

/// Says whether anything more can be kept, and where. The writer closes it while the spool is full.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Kept>);

#[derive(Debug, Default)]
struct Kept {
    closed: AtomicBool,
    in_spool: AtomicBool,
}

impl Gate {
    /// Closes or opens the gate.
    pub fn set_closed(&self, closed: bool) {
        self.0.closed.store(closed, Ordering::Relaxed);
    }

    /// Whether nothing more can be kept.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Says whether records wait in the spool.
    pub fn set_in_spool(&self, waiting: bool) {
        self.0.in_spool.store(waiting, Ordering::Relaxed);
    }

    /// Whether records wait in the spool for the store.
    pub fn has_in_spool(&self) -> bool {
        self.0.in_spool.load(Ordering::Relaxed)
    }
}

/// Puts events into the queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Job>,
    config: RecordConfig,
    metrics: Arc<RecordMetrics>,
    tracker: TaskTracker,
    refusals: Arc<Meter>,
    gate: Gate,
    /// Requests whose start was not kept and whose end has not come.
    unkept: Arc<Mutex<HashSet<Uuid>>>,
}

impl Recorder {
    /// A recorder that feeds `queue` while `gate` is open.
    pub fn new(
        queue: mpsc::Sender<Job>,
        config: RecordConfig,
        metrics: Arc<RecordMetrics>,
        tracker: TaskTracker,
        gate: Gate,
    ) -> Recorder {
        Recorder {
            queue,
            config,
            metrics,
            tracker,
            refusals: Arc::new(Meter::new(Instant::now())),
            gate,
            unkept: Arc::default(),
        }
    }

    /// Events that wait for the writer.
    pub fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Whether one more refused call may be recorded now: a client that asks in a loop must not fill the store.
    pub fn may_note_refusal(&self) -> bool {
        self.refusals.enter(&REFUSALS, 0, Instant::now()).is_ok()
    }

    /// What is recorded.
    pub fn config(&self) -> &RecordConfig {
        &self.config
    }

    /// Whether anything more can be kept, and where.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The same recorder for a call that is kept as `config` says from its start to its end, with so much of its text.
    #[must_use]
    pub fn keeping(&self, config: RecordConfig, content: Content) -> Recorder {
        let mut recorder = self.clone();
        recorder.config = RecordConfig { content, ..config };
        recorder
    }

    /// Records the beginning of an interception; in strict mode waits until it is kept.
    ///
    /// # Errors
    /// It cannot be recorded and the policy is to refuse.
    pub async fn start(&self, mut started: Started) -> Result<(), RecordError> {
        if self.config.content == Content::Metadata {
            started.prompt = None;
        }
        clean::started(&mut started);
        let id = started.id;
        self.keep_pace().await;
        let outcome = match self.queue_start(started) {
            Ok(wait) => committed_in_time(wait).await,
            Err(full) => Err(full),
        };
        let Err(error) = outcome else { return Ok(()) };
        if error == RecordError::Full {
            self.unkept().insert(id);
        }
        match self.config.when_full {
            WhenFull::Drop => Ok(()),
            WhenFull::Refuse => Err(error),
        }
    }

    /// Waits while the queue is half full, so that requests that do not wait for commits come no faster than records
    /// are written. Not for long: a store that stands still is not theirs to wait for.
    async fn keep_pace(&self) {
        if self.config.durability == Durability::Strict || self.gate.is_closed() {
            return;
        }
        let deadline = Instant::now() + COMMIT_WAIT;
        while self.queued() > self.queue.max_capacity() / 2 && Instant::now() < deadline {
            tokio::time::sleep(PACE).await;
        }
    }

    fn queue_start(&self, started: Started) -> Result<Option<oneshot::Receiver<()>>, RecordError> {
        self.metrics.started.increment(1);
        let (committed, wait) = self.acknowledgement();
        let event = Event::Start(Box::new(started));
        let when_full = self.config.when_full;
        let refuses = when_full == WhenFull::Refuse;
        if refuses && self.gate.is_closed() {
            self.metrics.refused.increment(1);
            return Err(RecordError::Full);
        }
        // Counted first: the writer may take it out at once.
        self.metrics.queued.increment(1.0);
        self.queue
            .try_send(Job::Write {
                event,
                committed,
                when_full,
            })
            .map_err(|_| {
                self.metrics.queued.decrement(1.0);
                let not_kept = if refuses {
                    &self.metrics.refused
                } else {
                    &self.metrics.lost
                };
                not_kept.increment(1);
                RecordError::Full
            })?;
        Ok(wait)
    }

    /// Records the end of an interception. The result resolves when it is kept; only strict mode has one.
    pub fn end(&self, mut ended: Ended) -> Option<oneshot::Receiver<()>> {
        self.metrics.ended.increment(1);
        if self.unkept().remove(&ended.id) {
            let not_kept = match self.config.when_full {
                WhenFull::Refuse => &self.metrics.refused,
                WhenFull::Drop => &self.metrics.lost,
            };
            not_kept.increment(1);
            return None;
        }
        if self.config.content == Content::Metadata
            && let Some(facts) = &mut ended.facts
        {
            facts.thoughts.clear();
            facts
                .tool_calls
                .iter_mut()
                .for_each(|call| call.arguments.clear());
        }
        clean::ended(&mut ended);
        let (committed, wait) = self.acknowledgement();
        let event = Event::End(Box::new(ended));
        self.metrics.queued.increment(1.0);
        let job = Job::Write {
            event,
            committed,
            when_full: self.config.when_full,
        };
        match self.queue.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => self.lose_queued(),
            Err(mpsc::error::TrySendError::Full(job)) => self.queue_later(job),
        }
        wait
    }

    fn unkept(&self) -> std::sync::MutexGuard<'_, HashSet<Uuid>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose_queued(&self) {
        self.metrics.queued.decrement(1.0);
        self.metrics.lost.increment(1);
    }

    /// Lets the writer end once all that is queued is written; what comes later is counted as lost.
    pub async fn stop(&self) {
        // The writer has ended already where this fails.
        let _ = self.queue.send(Job::Stop).await;
    }

    /// Waits for room in the background: an end is never refused, its start is in the store.
    fn queue_later(&self, job: Job) {
        let recorder = self.clone();
        self.tracker.spawn(async move {
            if recorder.queue.send(job).await.is_err() {
                recorder.lose_queued();
            }
        });
    }

    fn acknowledgement(&self) -> (Option<oneshot::Sender<()>>, Option<oneshot::Receiver<()>>) {
        match self.config.durability {
            Durability::Relaxed => (None, None),
            Durability::Strict => {
                let (sender, receiver) = oneshot::channel();
                (Some(sender), Some(receiver))
            }
        }
    }
}

async fn committed_in_time(wait: Option<oneshot::Receiver<()>>) -> Result<(), RecordError> {
    let Some(wait) = wait else { return Ok(()) };
    match tokio::time::timeout(COMMIT_WAIT, wait).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(RecordError::Full),
        Err(_) => Err(RecordError::Stalled),
    }
}
