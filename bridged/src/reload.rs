//! The way to whoever reads the configuration again: the process has one such place, which works off what
//! signals, changed files and the API ask for, one after another.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

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
    heard: AtomicI64,
    /// Held while the others are told, so that this process does not take its own word for news.
    pub(crate) telling: Mutex<()>,
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

    /// Whether a wish of this number is still to be worked off here; from now on it is not.
    pub fn is_news(&self, number: i64) -> bool {
        self.heard.fetch_max(number, Ordering::Relaxed) < number
    }

    /// What was wished up to this number is done here.
    pub fn heard(&self, number: i64) {
        self.heard.fetch_max(number, Ordering::Relaxed);
    }
}
