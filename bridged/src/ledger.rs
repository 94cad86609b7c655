//! Keeps budgets and the store in step, beside the requests.
//!
//! Twice a second, what this process has spent is added to the store's sums, and what all have spent is learnt from
//! them. While the store is away the sums wait here, and the budgets go on with what is known. With several
//! processes on one store, what the others have spent in the last half second, and what their running calls have
//! reserved, is not known yet. What budgets warn of is told here too, once the store says that nobody has told it before.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::outage::Outage;
use crate::snapshot::Snapshot;
use crate::store::{Mark, StoreError};

/// How often.
const EVERY: Duration = Duration::from_millis(500);
/// Longest time that the end of the process waits for the last sums.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What the log says when it cannot be done, and when it can again.
const LOGGED: (&str, &str) = (
    "what budgets have left cannot be shared; trying again",
    "what budgets have left is shared again",
);

/// What is known of the store's sums.
#[derive(Debug, Default)]
struct Ledger {
    /// The configuration for which sums were read up to `mark`.
    snapshot: Option<Arc<Snapshot>>,
    mark: Mark,
}

/// Goes on until dropped.
pub(crate) async fn keep(app: &App) {
    let (mut ledger, mut outage) = (Ledger::default(), Outage::default());
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        outage.note(&ledger.step(app).await, LOGGED);
    }
}

/// Learns what was spent before this process began.
pub(crate) async fn load(app: &App) {
    // Where it fails, `keep` says so and tries again.
    let _ = Ledger::default().step(app).await;
}

/// Writes the last sums.
pub(crate) async fn close(app: &App) {
    let snapshot = app.snapshot();
    match tokio::time::timeout(LAST_WAIT, save(app, &snapshot)).await {
        Ok(Ok(())) => {}
        _ => tracing::error!("the last sums of budgets could not be written"),
    }
}

impl Ledger {
    async fn step(&mut self, app: &App) -> Result<(), StoreError> {
        let snapshot = app.snapshot();
        if !self
            .snapshot
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &snapshot))
        {
            // A budget that has just been configured may have been there before.
            self.mark = Mark::default();
            if let Some(old) = self.snapshot.replace(snapshot.clone()) {
                save(app, &old).await?;
            }
        }
        save(app, &snapshot).await?;
        if snapshot.admission.has_budgets() {
            let (totals, mark) = app.store.spent(self.mark).await?;
            snapshot.admission.learn(&totals, app.clock.micros());
            self.mark = mark;
            warn(app, &snapshot).await?;
        }
        Ok(())
    }
}

/// Tells of accounts that are nearly or wholly used up.
async fn warn(app: &App, snapshot: &Snapshot) -> Result<(), StoreError> {
    let warnings = snapshot.admission.take_warnings(app.clock.micros());
    if warnings.is_empty() {
        return Ok(());
    }
    let fresh = app.store.warn(warnings.clone()).await;
    if fresh.is_err() {
        snapshot.admission.put_back_warnings(&warnings);
    }
    for warning in fresh? {
        let (budget, account) = (&*warning.budget, &*warning.account);
        let resets_at = warning.resets_at.rfc3339();
        if warning.level == 100 {
            app.metrics.budget.full.increment(1);
            tracing::warn!(budget, account, resets_at, "a budget is used up");
        } else {
            app.metrics.budget.near.increment(1);
            tracing::warn!(budget, account, resets_at, "a budget is used to 85 %");
        }
    }
    Ok(())
}

async fn save(app: &App, snapshot: &Snapshot) -> Result<(), StoreError> {
    let entries = snapshot.admission.take_unsaved();
    if entries.is_empty() {
        return Ok(());
    }
    let saved = app.store.spend(entries.clone()).await;
    if saved.is_err() {
        snapshot.admission.put_back(&entries);
    }
    saved
}
