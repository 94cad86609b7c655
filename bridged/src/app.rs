//! Everything that a running bridge shares, built once and passed down.
//!
//! `App::start` opens the store, starts the writer and the housekeeping, and returns the `App` with a `Running`
//! that ends it in order: requests first, then the record queue, then the writer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Load;
use crate::api::Streams;
use crate::clock::Clock;
use crate::config::Config;
use crate::drain;
use crate::fingerprint::{FingerprintError, Fingerprints};
use crate::ledger;
use crate::metrics::Metrics;
use crate::news;
use crate::record::{Gate, Recorder};
use crate::reload::Reloads;
use crate::sink::{Sinks, Tools};
use crate::snapshot::{BuildError, Providers, Snapshot};
use crate::store::{Bounds, OpenError, Store, StoreError, Writer, WriterConfig, WriterError};
use crate::token::Tokens;
use crate::troubles::Troubles;
use crate::upstream::{Healths, Shared, Upstream};

/// How often histograms are folded together.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often the files of keys are looked at.
const KEYS: Duration = Duration::from_secs(3);

/// How often what is not needed any more is looked for.
const MINUTE: Duration = Duration::from_secs(60);

/// Why a bridge could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store cannot be opened.
    #[error("the record store cannot be opened")]
    Open(#[from] OpenError),
    /// The store cannot be used.
    #[error("the record store cannot be used")]
    Store(#[from] StoreError),
    /// The configuration cannot run.
    #[error("the configuration cannot be used")]
    Configuration(#[from] BuildError),
    /// Users' own credentials cannot be told apart.
    #[error("there is no key for the fingerprints of credentials")]
    Fingerprints(#[from] FingerprintError),
    /// Records cannot be written.
    #[error("records cannot be written")]
    Writer(#[from] WriterError),
    /// The metrics cannot be set up.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// A listener cannot be opened.
    #[error("{address} cannot be listened on")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
}

/// What a running bridge shares.
#[derive(Debug)]
pub struct App {
    /// Where the date comes from.
    pub clock: Clock,
    /// Who may come in.
    pub tokens: Tokens,
    /// Records and tokens.
    pub store: Store,
    /// The way into the store for requests.
    pub recorder: Recorder,
    /// By which users' own credentials are recognised in records.
    pub fingerprints: Fingerprints,
    /// A permit for each reply that may be read on without its client.
    pub drains: Arc<Semaphore>,
    /// All metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Why clients failed lately.
    pub troubles: Troubles,
    /// Every task.
    pub tracker: TaskTracker,
    /// Cancelled when the process is to end.
    pub stopping: CancellationToken,
    /// What provider instances share, and what of them outlives a configuration.
    pub shared: Shared,
    /// Whether the process keeps up.
    pub load: Load,
    /// The way to whoever reads the configuration again.
    pub reloads: Reloads,
    /// Answers of the API that go on and on.
    pub streams: Arc<Streams>,
    sinks: Sinks,
    snapshot: ArcSwap<Snapshot>,
    /// What the process was started with.
    began_with: Config,
    bounds: watch::Sender<Bounds>,
    ca: ArcSwapOption<PublicCa>,
}

/// The public part of the CA.
#[derive(Clone, Debug)]
pub struct PublicCa {
    /// The certificate.
    pub pem: String,
}

/// A running bridge's end.
#[derive(Debug)]
pub struct Running {
    writer: Writer,
}

impl App {
    /// Starts what a bridge needs besides its listeners.
    ///
    /// # Errors
    /// The store, the providers or the trust roots cannot be used.
    pub async fn start(
        config: Config,
        clock: Clock,
        ca: Option<PublicCa>,
    ) -> Result<(Arc<App>, Running), StartError> {
        let tracker = TaskTracker::new();
        let metrics = Arc::new(Metrics::new()?);
        let stopping = CancellationToken::new();
        let shared = Shared {
            tracker: tracker.clone(),
            stopping: stopping.clone(),
            metrics: metrics.clone(),
            healths: Arc::new(Healths::new(metrics.clone(), clock.clone())),
        };
        let snapshot = Snapshot::build(&config, &shared, None)?;
        snapshot.publish(&shared, true);
        let fingerprints = Fingerprints::open(&config.fingerprint_key)?;
        let store = Store::open_or_wait(&config.store).await?;
        for sink in &config.sinks {
            // Before anything is written that it is to get.
            match store.enter_sink(&sink.name).await {
                Err(error) if error.is_away() => {}
                entered => entered?,
            }
        }
        let (bounds, seen) = watch::channel(Bounds::of(&config));
        let (writer, recorder) = start_writing(&config, seen, &store, &shared, &clock)?;
        let sinks = Sinks::new(Tools {
            store: store.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            tracker: tracker.clone(),
            stopping: stopping.clone(),
            own: writer.name(),
        });
        sinks.begin(&config.sinks, snapshot.providers.trust());
        let app = Arc::new(App {
            sinks,
            fingerprints,
            drains: Arc::new(Semaphore::new(drain::MOST)),
            tokens: Tokens::load(store.clone()).await?,
            clock,
            store,
            recorder,
            metrics,
            troubles: Troubles::default(),
            tracker,
            stopping,
            shared,
            load: Load::default(),
            reloads: Reloads::default(),
            streams: Arc::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            began_with: config,
            bounds,
            ca: ArcSwapOption::from_pointee(ca),
        });
        app.metrics.config.reloaded(app.clock.now());
        ledger::load(&app).await;
        app.keep_house();
        Ok((app, Running { writer }))
    }

    /// What the configuration decides, as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The provider instances as they are now; a request keeps the set it began with.
    pub fn providers(&self) -> Arc<Providers> {
        self.snapshot.load().providers.clone()
    }

    /// Runs with `config` from now on; requests in flight end as they began. Returns the keys whose new values
    /// count only after a restart.
    ///
    /// # Errors
    /// The configuration cannot run; nothing has changed.
    pub fn reload(&self, config: &Config) -> Result<Vec<&'static str>, BuildError> {
        let old = self.snapshot();
        let new = Arc::new(Snapshot::build(config, &self.shared, Some(&old))?);
        self.snapshot.store(new.clone());
        old.give_way_to(&new, &self.shared);
        self.sinks.apply(&config.sinks, new.providers.trust());
        self.bounds.send_replace(Bounds::of(config));
        Ok(self.began_with.fixed_keys(config))
    }

    /// The CA's certificate, which anyone may fetch.
    pub fn ca(&self) -> Option<Arc<PublicCa>> {
        self.ca.load_full()
    }

    /// Replaces the CA's certificate.
    pub fn publish_ca(&self, ca: PublicCa) {
        self.ca.store(Some(Arc::new(ca)));
    }

    /// Reads changed keys again, away from the requests, and tells how all of them are.
    fn look_after_keys(&self) {
        let providers = self.providers();
        self.tracker.spawn_blocking(move || {
            for upstream in providers.upstreams() {
                upstream.keys.reread();
                upstream.publish_keys();
            }
        });
    }

    fn keep_house(self: &Arc<Self>) {
        let app = self.clone();
        self.tracker.spawn(async move {
            let mut upkeep = tokio::time::interval(UPKEEP);
            let mut keys = tokio::time::interval(KEYS);
            let mut minute = tokio::time::interval(MINUTE);
            loop {
                tokio::select! {
                    _ = upkeep.tick() => {
                        app.metrics.run_upkeep();
                        app.metrics.config.lag(app.load.lag());
                    }
                    _ = keys.tick() => app.look_after_keys(),
                    _ = minute.tick() => {
                        app.snapshot().admission.forget_idle(Instant::now());
                        app.tokens.save_uses().await;
                    }
                    () = app.stopping.cancelled() => return,
                }
            }
        });
        let app = self.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = app.load.watch() => {}
                () = app.keep_issuer_fresh() => {}
                () = ledger::keep(&app) => {}
                () = news::keep(&app) => {}
                () = app.stopping.cancelled() => {}
            }
        });
    }

    async fn keep_issuer_fresh(&self) {
        let mut minute = tokio::time::interval(MINUTE);
        loop {
            minute.tick().await;
            self.snapshot().identity.keep_fresh().await;
        }
    }
}

/// Starts the store's writer, and what leads to it.
fn start_writing(
    config: &Config,
    bounds: watch::Receiver<Bounds>,
    store: &Store,
    shared: &Shared,
    clock: &Clock,
) -> Result<(Writer, Recorder), WriterError> {
    let (queue, jobs) = mpsc::channel(crate::record::QUEUE);
    let gate = Gate::default();
    let metrics = shared.metrics.record.clone();
    let writing = WriterConfig {
        spool: config.spool.clone(),
        bounds,
    };
    let writer = Writer::start(store, jobs, &writing, (metrics.clone(), gate.clone()), clock)?;
    let recorder = Recorder::new(queue, config.record, metrics, shared.tracker.clone(), gate);
    Ok((writer, recorder))
}

impl Running {
    /// Ends a bridge whose listeners have stopped: waits until `deadline` for what is in flight, then writes what
    /// is queued. What is still in flight then is left open and becomes aborted at the next start.
    pub async fn stop(self, app: &App, grace: Duration) {
        app.stopping.cancel();
        app.providers().upstreams().for_each(Upstream::close);
        app.tracker.close();
        if tokio::time::timeout(grace, app.tracker.wait()).await.is_err() {
            tracing::warn!(
                tasks = app.tracker.len(),
                "not everything in flight has ended in time"
            );
        }
        ledger::close(app).await;
        app.tokens.save_uses().await;
        app.recorder.stop().await;
        let writer = tokio::task::spawn_blocking(move || self.writer.join());
        if tokio::time::timeout(grace, writer).await.is_err() {
            tracing::error!("the record queue could not be written in time");
        }
    }
}
