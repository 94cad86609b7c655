//! Tells the log when something that is done again and again begins to fail, and when it works again.

use std::error::Error;

/// Whether it fails at present.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_on: bool,
}

impl Outage {
    /// Takes note of how it went; what is logged is `begins` or `ends`, each once an outage.
    pub(crate) fn note<E: Error + 'static>(
        &mut self,
        outcome: &Result<(), E>,
        (begins, ends): (&'static str, &'static str),
    ) {
        match (outcome, self.is_on) {
            (Err(error), false) => tracing::warn!(error = error as &dyn Error, "{begins}"),
            (Ok(()), true) => tracing::info!("{ends}"),
            _ => {}
        }
        self.is_on = outcome.is_err();
    }
}
