//! Where every record event is: the books that must balance.
//!
//! Taken from the queue or found in the spool at the start = written + lost + refused + held + in the spool. The
//! difference is a metric; it is zero unless events get lost unseen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::RecordMetrics;

/// The books of one process.
#[derive(Debug)]
pub struct Ledger {
    counts: Mutex<Counts>,
    metrics: Arc<RecordMetrics>,
}

#[derive(Debug, Default)]
struct Counts {
    taken: u64,
    written: u64,
    lost: u64,
    refused: u64,
    in_spool: u64,
    held: u64,
}

impl Ledger {
    /// Empty books, published through `metrics`.
    pub fn new(metrics: Arc<RecordMetrics>) -> Ledger {
        Ledger {
            counts: Mutex::default(),
            metrics,
        }
    }

    /// Events left the queue.
    pub fn took(&self, events: usize) {
        self.metrics.queued.decrement(float(events as u64));
        self.change(|counts| {
            counts.taken += events as u64;
            counts.held += events as u64;
        });
    }

    /// Events of an earlier process were found in the spool.
    pub fn recovered(&self, events: u64) {
        self.metrics.recovered.increment(events);
        self.change(|counts| {
            counts.taken += events;
            counts.in_spool += events;
        });
    }

    /// Events that were held are in the store; those that can never be stored are lost.
    pub fn wrote(&self, written: u64, lost: u64) {
        self.metrics.written.increment(written);
        self.metrics.lost.increment(lost);
        self.change(|counts| {
            counts.written += written;
            counts.lost += lost;
            counts.held = counts.held.saturating_sub(written + lost);
        });
    }

    /// Events that were held are in the spool.
    pub fn spooled(&self, events: u64) {
        self.metrics.spooled.increment(events);
        self.change(|counts| {
            counts.in_spool += events;
            counts.held = counts.held.saturating_sub(events);
        });
    }

    /// Events of the spool are in the store; those that can never be stored are lost.
    pub fn replayed(&self, written: u64, lost: u64) {
        self.metrics.written.increment(written);
        self.metrics.lost.increment(lost);
        self.change(|counts| {
            counts.written += written;
            counts.lost += lost;
            counts.in_spool = counts.in_spool.saturating_sub(written + lost);
        });
    }

    /// Starts were refused: their requests are not served.
    pub fn refused(&self, events: u64) {
        self.metrics.refused.increment(events);
        self.change(|counts| {
            counts.refused += events;
            counts.held = counts.held.saturating_sub(events);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.lock();
        change(&mut counts);
        let placed = counts.written + counts.lost + counts.refused + counts.in_spool + counts.held;
        self.metrics.in_spool.set(float(counts.in_spool));
        self.metrics.unaccounted.set(float(counts.taken) - float(placed));
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
