//! Whether the process keeps up: how late its timers fire, and how many records wait for the writer.
//!
//! Both are measured beside the requests; a request only reads two numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How often the lag is measured.
const EVERY: Duration = Duration::from_millis(100);

/// When requests are turned away because the process does not keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedConfig {
    /// Lateness of timers. `None`: not looked at.
    pub lag: Option<Duration>,
    /// Record events that wait. `None`: not looked at.
    pub queued: Option<usize>,
}

/// How late the process is.
#[derive(Debug, Default)]
pub struct Load {
    lag_micros: AtomicU64,
}

impl Load {
    /// Measures until dropped.
    pub async fn watch(&self) {
        loop {
            let due = Instant::now() + EVERY;
            tokio::time::sleep_until(due).await;
            self.note(due.elapsed());
        }
    }

    fn note(&self, lag: Duration) {
        let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.lag_micros.store(micros, Ordering::Relaxed);
    }

    /// The lateness that was measured last.
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_micros.load(Ordering::Relaxed))
    }

    /// What is too much, if anything is, with `queued` record events waiting.
    pub fn strain(&self, config: &ShedConfig, queued: usize) -> Option<&'static str> {
        if config.lag.is_some_and(|most| self.lag() > most) {
            return Some("the process has too little CPU");
        }
        let lags = config.queued.is_some_and(|most| queued > most);
        lags.then_some("the record writer does not keep up")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_sign_of_strain_is_enough() {
        let load = Load::default();
        load.note(Duration::from_millis(300));
        let config = |lag, queued| ShedConfig {
            lag: Some(Duration::from_millis(lag)),
            queued: Some(queued),
        };
        assert_eq!(load.strain(&config(300, 10), 10), None);
        assert!(load.strain(&config(299, 10), 0).is_some());
        assert!(load.strain(&config(300, 10), 11).is_some());
        let off = ShedConfig {
            lag: None,
            queued: None,
        };
        assert_eq!(load.strain(&off, usize::MAX), None);
    }

    #[test]
    fn a_blocked_runtime_is_noticed() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let load = Load::default();
        runtime.block_on(async {
            let blocked = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                std::thread::sleep(Duration::from_millis(400));
                tokio::task::yield_now().await;
            };
            let watch = tokio::time::timeout(Duration::from_millis(450), load.watch());
            let _ = tokio::join!(watch, blocked);
        });
        assert!(load.lag() >= Duration::from_millis(200), "{:?}", load.lag());
    }
}
