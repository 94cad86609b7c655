//! Sinks: files, webhooks and OpenTelemetry collectors that get every interception when it has ended.
//!
//! Each sink is a task of its own beside the requests (`worker`), which reads the chains from the store and hands
//! batches to its destination (`file`, `webhook` and `otlp` over `post`). Every interception arrives at least once:
//! what cannot be delivered now waits in the store and is tried again. Invariant: a sink never keeps a request
//! waiting, and texts leave only where the operator asked for them.

mod file;
mod otlp;
mod post;
mod webhook;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::clock::{Clock, Micros};
use crate::config::{Destination, HttpForm, SinkConfig};
use crate::metrics::Metrics;
use crate::store::{InterceptionRow, Store};
use crate::upstream::Trust;
use file::FileSink;
use post::{Post, PutError};
use worker::Worker;

/// What sinks work with.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Where interceptions are.
    pub store: Store,
    /// Where the date comes from.
    pub clock: Clock,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Where tasks run.
    pub tracker: TaskTracker,
    /// Cancelled when the process is to end.
    pub stopping: CancellationToken,
    /// The name of this process among the writers.
    pub own: Uuid,
}

/// The sinks that run.
#[derive(Debug)]
pub struct Sinks {
    tools: Tools,
    running: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    config: SinkConfig,
    trust: Trust,
    /// From when on there has been a sink of this name; none where the process began with it.
    since: Option<Micros>,
    ending: CancellationToken,
    task: JoinHandle<()>,
}

impl Sinks {
    /// None yet.
    pub fn new(tools: Tools) -> Sinks {
        Sinks {
            tools,
            running: Mutex::default(),
        }
    }

    /// Runs the sinks that the process begins with.
    pub fn begin(&self, configs: &[SinkConfig], trust: &Trust) {
        self.run(configs, trust, None);
    }

    /// Runs the sinks of `configs` from now on. Those that stay the same go on; one that changes begins again where
    /// it was, once its last attempt has ended.
    pub fn apply(&self, configs: &[SinkConfig], trust: &Trust) {
        self.run(configs, trust, Some(self.tools.clock.micros()));
    }

    fn run(&self, configs: &[SinkConfig], trust: &Trust, now: Option<Micros>) {
        let mut running = self.lock();
        let (kept, mut gone): (Vec<Running>, Vec<Running>) = running
            .drain(..)
            .partition(|old| configs.contains(&old.config) && old.trust.is_same(trust));
        *running = kept;
        gone.iter().for_each(|old| old.ending.cancel());
        for config in configs {
            if running.iter().any(|old| old.config == *config) {
                continue;
            }
            let before = gone.iter().position(|old| old.config.name == config.name);
            let before = before.map(|place| gone.swap_remove(place));
            let since = before.as_ref().map_or(now, |old| old.since);
            running.push(self.start(config, trust, since, before.map(|old| old.task)));
        }
    }

    fn start(
        &self,
        config: &SinkConfig,
        trust: &Trust,
        since: Option<Micros>,
        before: Option<JoinHandle<()>>,
    ) -> Running {
        let ending = self.tools.stopping.child_token();
        let worker = Worker::new(&self.tools, config, trust, ending.clone(), since);
        let task = self.tools.tracker.spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            worker.run().await;
        });
        Running {
            config: config.clone(),
            trust: trust.clone(),
            since,
            ending,
            task,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Interceptions that are delivered together.
#[derive(Debug)]
struct Batch {
    /// The same whenever the same interceptions are delivered again.
    id: String,
    rows: Vec<InterceptionRow>,
}

/// Where batches go.
enum Outlet {
    File(FileSink),
    Http(Box<Post>, HttpForm),
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outlet")
    }
}

impl Outlet {
    fn new(config: &SinkConfig, tools: &Tools, trust: &Trust) -> Outlet {
        match &config.to {
            Destination::File(file) => Outlet::File(FileSink::new(file.clone())),
            Destination::Http(http) => {
                let post = Post::new(http, trust.clone(), tools.tracker.clone(), tools.clock.clone());
                Outlet::Http(Box::new(post), http.form.clone())
            }
        }
    }

    /// Delivers a batch.
    ///
    /// # Errors
    /// It may not have arrived.
    async fn put(&mut self, batch: &Arc<Batch>, sink: &str, now: Micros) -> Result<(), PutError> {
        match self {
            Outlet::File(file) => file.put(batch.clone()).await,
            Outlet::Http(post, HttpForm::Webhook(secret)) => {
                let body = webhook::body(sink, batch);
                let headers = webhook::headers(secret, batch, &body, now);
                post.put(headers, body).await.map(drop)
            }
            Outlet::Http(post, HttpForm::Otlp(token)) => {
                let answer = post.put(otlp::headers(token.as_ref()), otlp::body(batch)).await?;
                if let Some(words) = otlp::complaint(&answer) {
                    tracing::warn!(sink, complaint = words, "the collector did not take everything");
                }
                Ok(())
            }
        }
    }
}
