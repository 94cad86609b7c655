//! The bounded queue between requests and the store's writer.
//!
//! `Recorder::start` and `Recorder::end` put events in; the writer takes `Job`s out in order and acknowledges
//! them when they are committed. Nothing is lost silently: an event that cannot be queued is either a refusal
//! (`when-full = "refuse"`) or counted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::{Ended, Event, Started};
use crate::config::{Content, Durability, RecordConfig, WhenFull};
use crate::metrics::RecordMetrics;

/// Events that may wait for the writer; two for each of 8,000 requests in flight.
pub const QUEUE: usize = 16_384;
/// Longest wait for a commit before the request goes on (or is refused) without it.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

/// What the writer is asked to do.
#[derive(Debug)]
pub enum Job {
    /// Write an event.
    Write {
        /// What happened.
        event: Event,
        /// Told when the event is committed; dropped when it is lost.
        committed: Option<oneshot::Sender<()>>,
    },
    /// End, once all that is queued is written.
    Stop,
}

/// Why a request's record could not be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The queue is full.
    #[error("the record queue is full")]
    Full,
    /// The store does not commit.
    #[error("the record store does not answer")]
    Stalled,
}

/// Puts events into the queue.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Job>,
    config: RecordConfig,
    metrics: Arc<RecordMetrics>,
    tracker: TaskTracker,
}

impl Recorder {
    /// A recorder that feeds `queue`.
    pub fn new(
        queue: mpsc::Sender<Job>,
        config: RecordConfig,
        metrics: Arc<RecordMetrics>,
        tracker: TaskTracker,
    ) -> Recorder {
        Recorder {
            queue,
            config,
            metrics,
            tracker,
        }
    }

    /// What is recorded.
    pub fn config(&self) -> &RecordConfig {
        &self.config
    }

    /// The same recorder for calls of which so much text is kept.
    #[must_use]
    pub fn keeping(&self, content: Content) -> Recorder {
        let mut recorder = self.clone();
        recorder.config.content = content;
        recorder
    }

    /// Records the beginning of an interception; in strict mode waits until it is committed.
    ///
    /// # Errors
    /// It cannot be recorded and the policy is to refuse.
    pub async fn start(&self, mut started: Started) -> Result<(), RecordError> {
        if self.config.content == Content::Metadata {
            started.prompt = None;
        }
        let (committed, wait) = self.acknowledgement();
        let event = Event::Start(Box::new(started));
        let job = Job::Write { event, committed };
        let outcome = match self.queue.try_send(job) {
            Err(_) => Err(RecordError::Full),
            Ok(()) => {
                self.metrics.queued.increment(1.0);
                committed_in_time(wait).await
            }
        };
        match (outcome, self.config.when_full) {
            (Err(RecordError::Full), WhenFull::Drop) => {
                self.metrics.lost.increment(1);
                Ok(())
            }
            (Err(RecordError::Stalled), WhenFull::Drop) => Ok(()),
            (outcome, _) => outcome,
        }
    }

    /// Records the end of an interception. The result resolves when it is committed; only strict mode has one.
    pub fn end(&self, mut ended: Ended) -> Option<oneshot::Receiver<()>> {
        if self.config.content == Content::Metadata
            && let Some(facts) = &mut ended.facts
        {
            facts.thoughts.clear();
            facts
                .tool_calls
                .iter_mut()
                .for_each(|call| call.arguments.clear());
        }
        let (committed, wait) = self.acknowledgement();
        let event = Event::End(Box::new(ended));
        let job = Job::Write { event, committed };
        match self.queue.try_send(job) {
            Ok(()) => self.metrics.queued.increment(1.0),
            Err(mpsc::error::TrySendError::Closed(_)) => self.metrics.lost.increment(1),
            Err(mpsc::error::TrySendError::Full(job)) => self.queue_later(job),
        }
        wait
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
            match recorder.queue.send(job).await {
                Ok(()) => recorder.metrics.queued.increment(1.0),
                Err(_) => recorder.metrics.lost.increment(1),
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
        _ => Err(RecordError::Stalled),
    }
}
