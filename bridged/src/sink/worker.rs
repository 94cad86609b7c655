//! One sink at work: looks which chains it has to deliver, hands batches to the destination, and notes how far it got.
//!
//! What fails is tried again, after a wait that doubles up to a cap, with jitter, or for as long as the other side asks.
//! Nothing is passed over: a sink that refuses an interception waits with it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::post::PutError;
use super::{Batch, Outlet, Tools};
use crate::clock::Micros;
use crate::config::SinkConfig;
use crate::metrics::SinkMetrics;
use crate::store::{Due, InterceptionRow, Share, StoreError};
use crate::upstream::Trust;

/// Most interceptions of a batch.
const MOST: u32 = 100;
/// Bytes of texts from which on a batch is full.
const FULL: usize = 1 << 20;
/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest wait that the other side may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);
/// Failures in a row after which the log is told again.
const REMINDER: u32 = 20;
/// How often is looked although nothing was heard.
const LOOK: Duration = Duration::from_secs(1);
/// Shortest time between two looks.
const BREATH: Duration = Duration::from_millis(200);
/// How often chains of dead processes are looked for.
const TAKE_OVER: Duration = Duration::from_secs(5);
/// How often it is counted how far the sink is behind.
const COUNT: Duration = Duration::from_secs(5);

/// A sink at work.
pub(super) struct Worker {
    tools: Tools,
    config: SinkConfig,
    outlet: Outlet,
    metrics: SinkMetrics,
    ending: CancellationToken,
    /// From when on this process has had the sink; none where it began with it.
    since: Option<Micros>,
    /// The number of this process among the writers.
    own: Option<i64>,
    taken_over: Option<Instant>,
    counted: Option<Instant>,
    /// Interceptions that the destination takes at once.
    most: u32,
    failures: u32,
}

/// Why a round ends early.
enum Break {
    /// The sink ends.
    Ending,
    /// The store cannot be used now.
    Store(StoreError),
}

impl From<StoreError> for Break {
    fn from(error: StoreError) -> Break {
        Break::Store(error)
    }
}

impl Worker {
    pub(super) fn new(
        tools: &Tools,
        config: &SinkConfig,
        trust: &Trust,
        ending: CancellationToken,
        since: Option<Micros>,
    ) -> Worker {
        Worker {
            outlet: Outlet::new(config, tools, trust),
            metrics: tools.metrics.sink(&config.name),
            tools: tools.clone(),
            config: config.clone(),
            ending,
            since,
            own: None,
            taken_over: None,
            counted: None,
            most: MOST,
            failures: 0,
        }
    }

    /// Goes on until the sink ends.
    pub(super) async fn run(mut self) {
        self.work().await;
        // What does not run is not behind.
        self.metrics.lag.set(0.0);
    }

    async fn work(&mut self) {
        let mut news = self.tools.store.news();
        loop {
            news.mark_unchanged();
            match self.round().await {
                Ok(()) => {}
                Err(Break::Ending) => return,
                Err(Break::Store(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(sink = &*self.config.name, error, "a sink waits for the store");
                }
            }
            tokio::time::sleep(BREATH).await;
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = self.ending.cancelled() => return,
            }
        }
    }

    /// Delivers what there is.
    async fn round(&mut self) -> Result<(), Break> {
        let Some(own) = self.number().await? else {
            return Ok(());
        };
        let sink = self.config.name.clone();
        if self.taken_over.is_none_or(|at| at.elapsed() >= TAKE_OVER) {
            self.tools.store.take_over(&sink, own).await?;
            self.taken_over = Some(Instant::now());
        }
        for share in self.tools.store.shares(&sink, own).await? {
            self.deliver(own, share).await?;
        }
        self.metrics.lag.set(0.0);
        Ok(())
    }

    /// The number of this process, once it has one.
    async fn number(&mut self) -> Result<Option<i64>, StoreError> {
        if self.own.is_none() {
            let (store, sink) = (&self.tools.store, &self.config.name);
            store.enter_sink(sink).await?;
            let own = store.number_of(self.tools.own).await?;
            if let Some(own) = own {
                store.begin_own(sink, own, self.since).await?;
            }
            self.own = own;
        }
        Ok(self.own)
    }

    /// Delivers a share to its end.
    async fn deliver(&mut self, own: i64, mut share: Share) -> Result<(), Break> {
        while share.n < share.end {
            if self.ending.is_cancelled() {
                return Err(Break::Ending);
            }
            if self.counted.is_none_or(|at| at.elapsed() >= COUNT) {
                self.count(own).await?;
            }
            let store = &self.tools.store;
            let due = store.due(share, self.config.filter.clone(), self.most).await?;
            let (batch, next) = self.batch(share, due);
            if !batch.rows.is_empty() && !self.put(own, batch).await? {
                continue;
            }
            if !self.tools.store.delivered(&self.config.name, own, next).await? {
                // Another process thought this one dead and goes on with the chain.
                return Ok(());
            }
            share = next;
        }
        Ok(())
    }

    /// Cuts what is due where it becomes too long.
    fn batch(&self, share: Share, due: Due) -> (Batch, Share) {
        let Due { rows, mut next } = due;
        let mut batch = Batch {
            id: String::new(),
            rows: Vec::with_capacity(rows.len()),
        };
        let (mut bytes, mut reached) = (0, share.n);
        for (n, mut row) in rows {
            if !self.config.content {
                row.leave_texts_out();
            }
            bytes += weight(&row);
            if bytes > FULL && !batch.rows.is_empty() {
                next = share.behind(reached);
                break;
            }
            reached = n;
            batch.rows.push(row);
        }
        batch.id = format!("{}-{}-{}", share.writer, share.n, reached);
        (batch, next)
    }

    /// Delivers a batch, however often that takes. False when it is to be cut into smaller ones.
    async fn put(&mut self, own: i64, batch: Batch) -> Result<bool, Break> {
        let count = batch.rows.len();
        let batch = Arc::new(batch);
        loop {
            let now = self.tools.clock.micros();
            match self.outlet.put(&batch, &self.config.name, now).await {
                Ok(()) => {
                    self.succeeded(count);
                    return Ok(true);
                }
                Err(error) => {
                    let is_cut = error.is_too_large() && count > 1;
                    if is_cut {
                        self.most = u32::try_from(count / 2).unwrap_or(1);
                    }
                    let wait = self.failed(&error);
                    self.count(own).await?;
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.ending.cancelled() => return Err(Break::Ending),
                    }
                    if is_cut {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn succeeded(&mut self, count: usize) {
        self.metrics.delivered.increment(count as u64);
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(sink = &*self.config.name, "a sink can be delivered to again");
        }
        self.most = MOST.min(self.most.saturating_mul(2));
    }

    /// Notes a failure; returns how long to wait.
    fn failed(&mut self, error: &PutError) -> Duration {
        self.metrics.failed.increment(1);
        if self.failures.is_multiple_of(REMINDER) {
            tracing::warn!(
                sink = &*self.config.name,
                failures = self.failures + 1,
                error = error as &dyn std::error::Error,
                "a sink cannot be delivered to; trying again"
            );
        }
        let wait = pause(self.failures, error.wait());
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Counts how many interceptions are not delivered.
    async fn count(&mut self, own: i64) -> Result<(), StoreError> {
        self.counted = Some(Instant::now());
        let store = &self.tools.store;
        let shares = store.shares(&self.config.name, own).await?;
        let behind = store.count_due(shares).await?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        self.metrics.lag.set(behind as f64);
        Ok(())
    }
}

/// About the bytes that an interception takes.
fn weight(row: &InterceptionRow) -> usize {
    let texts = [
        row.prompt.as_deref(),
        row.output.as_deref(),
        row.error_message.as_deref(),
    ];
    let texts = texts.into_iter().flatten().map(str::len).sum::<usize>();
    let calls = row
        .tool_calls
        .iter()
        .map(|call| call.arguments.len() + 200)
        .sum::<usize>();
    let thoughts = row
        .thoughts
        .iter()
        .map(|thought| thought.text.len())
        .sum::<usize>();
    2_000 + texts + calls + thoughts
}

/// The wait after a failure that was preceded by `failures` others, where the other side may have asked for one.
fn pause(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.min(16));
    let own = jittered(doubled.min(LONGEST_WAIT));
    asked.map_or(own, |asked| asked.clamp(FIRST_WAIT, LONGEST_ASKED))
}

/// Between half of `wait` and all of it, so that many do not come back at once.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0];
    // Without randomness it is the shorter wait.
    let _ = rand::fill(&mut random);
    let half = wait / 2;
    half + half.mul_f64(f64::from(random[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_the_other_side_is_heard() {
        let second = Duration::from_secs(1);
        for (failures, longest) in [(0, second / 2), (1, second), (3, 4 * second), (40, 60 * second)] {
            for _ in 0..50 {
                let wait = pause(failures, None);
                assert!(wait >= longest / 2 && wait <= longest, "{failures}: {wait:?}");
            }
        }
        assert_eq!(pause(0, Some(90 * second)), 90 * second);
        assert_eq!(pause(0, Some(second * 100_000)), LONGEST_ASKED);
        assert_eq!(pause(9, Some(Duration::ZERO)), FIRST_WAIT);
    }
}
