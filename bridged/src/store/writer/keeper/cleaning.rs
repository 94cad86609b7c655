//! What the keeper does when there is nothing to write: it deletes what is too old, by the bounds that hold now.

use std::time::{Duration, Instant};

use super::Keeper;
use crate::store::StoreError;
use crate::store::retention::CleanUp;

/// How often old records are looked for.
const CLEANING: Duration = Duration::from_secs(600);

impl Keeper {
    /// Goes by other bounds, where they have changed.
    pub(super) fn note_bounds(&mut self) {
        // Whoever sets them may be gone already at the end.
        if !self.bounds.has_changed().unwrap_or(false) {
            return;
        }
        let most = self.bounds.borrow_and_update().spool_max;
        self.clean_at = Instant::now();
        self.spool.lock().limit(most);
        if self.spool.is_full() {
            // The next batch finds out whether it still is.
            self.spool.set_full(false);
        }
    }

    /// Deletes a little of what is too old, when there is nothing else to do.
    pub(super) fn clean(&mut self) {
        if self.cleaning.is_none() && !self.is_cleaning_due() {
            return;
        }
        if let Err(error) = self.clean_a_little() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "old records could not be deleted; they will be later");
            self.cleaning = None;
            self.clean_at = Instant::now() + CLEANING;
        }
    }

    /// Whether it is time to look for old records.
    pub(super) fn is_cleaning_due(&self) -> bool {
        let config = self.bounds.borrow().retention;
        self.clean_at <= Instant::now() && (config.content.is_some() || config.metadata.is_some())
    }

    fn clean_a_little(&mut self) -> Result<(), StoreError> {
        let (config, now) = (self.bounds.borrow().retention, self.clock.micros());
        let Some(mut work) = self.cleaning.take() else {
            self.clean_at = Instant::now() + CLEANING;
            let open = self.open()?;
            self.cleaning = CleanUp::begin(open.database.as_mut(), &mut open.memory, &config, now)?;
            return Ok(());
        };
        if work.step(self.open()?.database.as_mut())? {
            self.cleaning = Some(work);
        } else {
            tracing::info!(
                texts = work.deleted.texts,
                interceptions = work.deleted.interceptions,
                "old records were deleted"
            );
        }
        Ok(())
    }
}
