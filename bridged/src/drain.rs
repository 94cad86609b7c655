//! Reads a reply on after its client has left, for its usage.
//!
//! A relay that is dropped in the middle hands over the upstream's body, the tap and the open record; a task of its
//! own reads to the end, within bounds of time, bytes and number, and then ends the record as aborted. Past a bound,
//! and when the process is to end, the record ends with what is known by then. A call whose client leaves before the
//! reply's head waits for it within the same bounds; its reply is then dropped, and so comes here.

use std::fmt;
use std::future::{Future, pending};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use metrics::Gauge;
use providers::Tap;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::record::Recording;
use crate::relay;
use crate::upstream::UpstreamBody;

/// Replies that are read on at the same time; of more, the record ends at once.
pub(crate) const MOST: usize = 256;

/// What a relay needs to have its reply read on.
#[derive(Clone)]
pub struct Drain {
    /// Longest time: until a reply's head, and again until its end.
    pub timeout: Duration,
    /// Most bytes.
    pub max_bytes: u64,
    /// A permit for each drain that runs.
    pub slots: Arc<Semaphore>,
    /// How many run.
    pub running: Gauge,
    /// Where its task belongs to.
    pub tracker: TaskTracker,
    /// Ends it early.
    pub stopping: CancellationToken,
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drain")
    }
}

impl Drain {
    /// Reads `body` on in the background, and ends the record.
    pub(crate) fn start(self, body: UpstreamBody, tap: Tap, recording: Recording) {
        let (Ok(slot), Ok(runtime)) = (self.slots.clone().try_acquire_owned(), Handle::try_current()) else {
            return relay::end_aborted(tap, false, recording);
        };
        let tracker = self.tracker.clone();
        let task = async move {
            let running = self.running.clone();
            running.increment(1.0);
            self.run(body, tap, recording).await;
            running.decrement(1.0);
            drop(slot);
        };
        tracker.spawn_on(task, &runtime);
    }

    /// Runs `answering` on a task of its own, so that it goes on within the bounds if whoever waits here is dropped.
    pub(crate) async fn outlive<T, F>(self, answering: F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + Unpin + 'static,
    {
        let left = CancellationToken::new();
        let _here = left.clone().drop_guard();
        let tracker = self.tracker.clone();
        let task = tracker.spawn(async move {
            let mut answering = answering;
            tokio::select! {
                answer = &mut answering => return Some(answer),
                () = left.cancelled() => {}
            }
            self.wait(answering).await;
            None
        });
        match task.await {
            Ok(Some(answer)) => answer,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // Nobody has left, so this is the end of the runtime.
            Ok(None) | Err(_) => pending().await,
        }
    }

    /// Waits for an answer that nobody else waits for.
    async fn wait<T>(self, answering: impl Future<Output = T>) {
        let Ok(slot) = self.slots.try_acquire() else {
            return;
        };
        self.running.increment(1.0);
        let answering = self.stopping.run_until_cancelled(answering);
        let answer = tokio::time::timeout(self.timeout, answering).await;
        self.running.decrement(1.0);
        drop(slot);
        drop(answer);
    }

    async fn run(self, mut body: UpstreamBody, mut tap: Tap, recording: Recording) {
        let reading = self
            .stopping
            .run_until_cancelled(read(&mut body, &mut tap, self.max_bytes));
        let ended = match tokio::time::timeout(self.timeout, reading).await {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(_) => false,
        };
        drop(body);
        relay::end_aborted(tap, ended, recording);
    }
}

/// Reads to the end; false if there is none within `max_bytes`.
async fn read(body: &mut UpstreamBody, tap: &mut Tap, max_bytes: u64) -> bool {
    let mut left = max_bytes;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let Some(data) = frame.data_ref() else { continue };
        tap.push(data);
        match left.checked_sub(data.len() as u64) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}
