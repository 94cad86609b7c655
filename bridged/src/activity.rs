//! When something last moved on a connection, shared by its two directions and the one who watches for silence.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When something last moved.
#[derive(Debug)]
pub struct Activity {
    since: Instant,
    /// In milliseconds after `since`.
    last: AtomicU64,
}

impl Default for Activity {
    /// Something moves now.
    fn default() -> Activity {
        Activity {
            since: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Activity {
    /// Something moves now.
    pub fn note(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// Whether nothing has moved for `span`.
    pub fn is_silent(&self, span: Duration) -> bool {
        self.last().elapsed() >= span
    }

    /// Waits until nothing has moved for `span`.
    pub async fn silent_for(&self, span: Duration) {
        while !self.is_silent(span) {
            tokio::time::sleep_until(self.last() + span).await;
        }
    }
}
