//! The way to whoever reads the configuration again: the process has one such place, which works off what
//! signals, changed files and the API ask for, one after another.

use std::sync::OnceLock;

use serde::Serialize;
use tokio::sync::{Mutex, mpsc, oneshot};
use utoipa::ToSchema;

/// What came of reading the configuration again.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Reloaded {
    /// The keys that differ and count only after a restart.
    pub needs_restart: Vec<String>,
}

/// Why the old configuration stays: every problem, one line each.
#[derive(Clone, Debug)]
pub struct NotReloaded(pub Vec<String>);

/// A wish for the configuration to be read again.
pub type Wish = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// Wishes that may wait.
const WAITING: usize = 16;

/// Takes wishes, once somebody works them off.
#[derive(Debug, Default)]
pub struct Reloads {
    wishes: OnceLock<mpsc::Sender<Wish>>,
    /// The number of the last wish, in the store, that concerned all processes.
    /// None is known at first: what was wished before the process began is in the configuration that it began with.
    heard: Mutex<Option<i64>>,
}

impl Reloads {
    /// The wishes to work off. `None` when somebody does so already.
    pub fn take(&self) -> Option<mpsc::Receiver<Wish>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.wishes.set(sender).ok().map(|()| receiver)
    }

    /// Asks for the configuration to be read again. `None` when nobody does that, or too many ask.
    pub async fn ask(&self) -> Option<Result<Reloaded, NotReloaded>> {
        let (wish, outcome) = oneshot::channel();
        self.wishes.get()?.try_send(wish).ok()?;
        outcome.await.ok()
    }

    /// Wishes the same of all processes by `tell`, which gives the wish's number; here it is worked off already.
    ///
    /// # Errors
    /// Those of `tell`.
    pub async fn tell<E>(&self, tell: impl Future<Output = Result<i64, E>>) -> Result<(), E> {
        // Held until the number is noted, so that this process does not take its own word for news.
        let mut heard = self.heard.lock().await;
        *heard = (*heard).max(Some(tell.await?));
        Ok(())
    }

    /// Whether a wish of this number is still to be worked off here; from now on it is not.
    pub async fn is_news(&self, number: i64) -> bool {
        let mut heard = self.heard.lock().await;
        let before = *heard;
        *heard = before.max(Some(number));
        before.is_some_and(|before| before < number)
    }
}
