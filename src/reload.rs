//! Reading the configuration again while the gateway runs: on SIGHUP, when its file has changed, and when the API
//! asks for it.
//!
//! One after another, each the same way: read, check whole, swap. What cannot run changes nothing, and says why
//! in the log, in the answer and in a metric.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bridged::reload::{NotReloaded, Reloaded, Wish};
use tokio::sync::mpsc;

use crate::cli::Globals;
use crate::config::{self, Config};
use crate::gateway::Gateway;
use crate::serve::{Signal, Signals};
use crate::systemd::{self, Moment};

/// How often the file's date is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Heeds every reason to read the configuration again, until a signal asks for the end.
pub(crate) async fn until_end(gateway: &Gateway, globals: &Globals, signals: &mut Signals) {
    let mut file = Watched::new(config::file(globals));
    // Nobody else takes them; without them the API says that it cannot.
    let (_keep, none) = mpsc::channel(1);
    let mut wishes: mpsc::Receiver<Wish> = gateway.app.reloads.take().unwrap_or(none);
    loop {
        let wish = tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload => None,
                Signal::End => return,
            },
            () = file.changed() => None,
            Some(wish) = wishes.recv() => Some(wish),
        };
        systemd::notify(Moment::Reloading);
        let outcome = reload(gateway, globals);
        systemd::notify(Moment::Ready);
        file.note();
        if let Some(wish) = wish {
            // Whoever asked may have left.
            let _ = wish.send(outcome);
        }
    }
}

fn reload(gateway: &Gateway, globals: &Globals) -> Result<Reloaded, NotReloaded> {
    let outcome = config::load(globals).and_then(|config: Config| gateway.reload(&config));
    match outcome {
        Ok(fixed) => {
            gateway.app.metrics.config.reloaded(gateway.app.clock.now());
            if fixed.is_empty() {
                tracing::info!("the configuration was read again");
            } else {
                tracing::warn!(
                    ?fixed,
                    "the configuration was read again; these keys need a restart"
                );
            }
            let needs_restart = fixed.into_iter().map(str::to_owned).collect();
            Ok(Reloaded { needs_restart })
        }
        Err(failure) => {
            gateway.app.metrics.config.failed();
            tracing::error!(%failure, "the configuration cannot be used; the old one stays");
            Err(NotReloaded(failure.lines().to_vec()))
        }
    }
}

/// The configuration's file. Its date and length are polled: that works on every file system, also where a
/// directory of links is swapped below it, as orchestrators do.
struct Watched {
    path: Option<PathBuf>,
    seen: Option<Stamp>,
}

type Stamp = (SystemTime, u64);

impl Watched {
    fn new(path: Option<PathBuf>) -> Watched {
        let mut watched = Watched { path, seen: None };
        watched.note();
        watched
    }

    fn note(&mut self) {
        self.seen = self.stamp();
    }

    fn stamp(&self) -> Option<Stamp> {
        let found = std::fs::metadata(self.path.as_ref()?).ok()?;
        Some((found.modified().ok()?, found.len()))
    }

    /// Waits until the file is another than was noted, and has not changed since the look before: an editor may
    /// still be writing it.
    async fn changed(&mut self) {
        if self.path.is_none() {
            std::future::pending::<()>().await;
        }
        let mut last = self.seen;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.stamp();
            if now.is_some() && now != self.seen && now == last {
                return;
            }
            last = now;
        }
    }
}
