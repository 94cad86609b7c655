//! Which of the users' own credentials are out of quota, for operators who want those refused here.
//!
//! A credential is known only by a hash made with a key of this process, together with the model: quotas are counted
//! model by model. One user's 429 never touches another's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::time::Instant;

/// Credentials remembered of one instance; past it the ones that are back soonest are forgotten.
const MOST: usize = 4_096;
/// The longest that a 429 is answered from memory.
const LONGEST: Duration = Duration::from_secs(3_600);

/// A credential and a model, unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark([u8; 32]);

/// The credentials of one instance that are out of quota.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// `None`: the system gave no randomness, and nothing is remembered.
    key: Option<hmac::Key>,
    spent: Mutex<HashMap<Mark, Instant>>,
}

impl Quotas {
    pub(crate) fn new() -> Quotas {
        Quotas {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new()).ok(),
            spent: Mutex::default(),
        }
    }

    /// Marks a user's own credential.
    pub(crate) fn mark(&self, credential: &str, model: Option<&str>) -> Option<Mark> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        context.update(credential.as_bytes());
        // No credential holds this byte.
        context.update(b"\0");
        context.update(model.unwrap_or_default().as_bytes());
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        Some(Mark(mark))
    }

    /// How long the credential is out of quota, if it is.
    pub(crate) fn spent(&self, mark: Mark) -> Option<Duration> {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let left = spent.get(&mark)?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// Remembers a 429; one that does not say for how long is not remembered.
    pub(crate) fn remember(&self, mark: Mark, wait: Option<Duration>) {
        let Some(wait) = wait else { return };
        let now = Instant::now();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= MOST {
            spent.retain(|_, until| *until > now);
        }
        if spent.len() >= MOST {
            let soonest = spent.iter().min_by_key(|(_, until)| **until);
            if let Some(mark) = soonest.map(|(mark, _)| *mark) {
                spent.remove(&mark);
            }
        }
        spent.insert(mark, now + wait.min(LONGEST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_spent_quota_is_one_credentials_and_one_models_own() {
        let quotas = Quotas::new();
        let mark = |text, model| quotas.mark(text, Some(model)).unwrap();
        let mine = mark("sk-mine", "m");
        quotas.remember(mine, Some(Duration::from_secs(5)));
        quotas.remember(mark("sk-mute", "m"), None);
        assert_eq!(quotas.spent(mine), Some(Duration::from_secs(5)));
        for other in [mark("sk-yours", "m"), mark("sk-mine", "n"), mark("sk-mute", "m")] {
            assert_eq!(quotas.spent(other), None);
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(quotas.spent(mine), None);
        assert_ne!(quotas.mark("sk-mine", None), Some(mine));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_what_is_remembered() {
        let quotas = Quotas::new();
        for number in 0..MOST + 10 {
            let mark = quotas.mark("sk", Some(&number.to_string())).unwrap();
            quotas.remember(mark, Some(Duration::from_secs(60 + number as u64)));
        }
        assert_eq!(quotas.spent.lock().unwrap().len(), MOST);
    }
}
