//! Everything that a running bridge shares, built once and passed down.
//!
//! `App::start` opens the store, starts the writer and the housekeeping, and returns the `App` with a `Running`
//! that ends it in order: requests first, then the record queue, then the writer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use providers::{Endpoint, ErrorShape, Prices, Registry, RegistryProblem};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Config, ProviderConfig};
use crate::metrics::Metrics;
use crate::record::Recorder;
use crate::store::{OpenError, Store, StoreError, Writer};
use crate::token::{self, Tokens};
use crate::troubles::Troubles;
use crate::upstream::{Healths, Shared, Trust, TrustError, Upstream};

/// How often histograms are folded together.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often the files of keys are looked at.
const KEYS: Duration = Duration::from_secs(3);

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
    /// Upstream certificates cannot be checked.
    #[error("upstream certificates cannot be checked")]
    Trust(#[from] TrustError),
    /// The providers contradict each other.
    #[error("the providers contradict each other")]
    Providers(Vec<RegistryProblem>),
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
    /// The configuration.
    pub config: Config,
    /// Where the date comes from.
    pub clock: Clock,
    /// Who may come in.
    pub tokens: Tokens,
    /// Records and tokens.
    pub store: Store,
    /// The way into the store for requests.
    pub recorder: Recorder,
    /// What tokens cost.
    pub prices: Arc<Prices>,
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
    providers: ArcSwap<Providers>,
    ca: ArcSwapOption<PublicCa>,
}

/// The public part of the CA.
#[derive(Clone, Debug)]
pub struct PublicCa {
    /// The certificate.
    pub pem: String,
}

/// The provider instances with their connections.
#[derive(Debug)]
pub struct Providers {
    /// Which request goes where.
    pub registry: Registry,
    upstreams: Vec<Upstream>,
}

impl Providers {
    /// Makes the instances of a configuration; what is known of those of the same names goes on.
    fn build(config: &Config, shared: &Shared) -> Result<Providers, StartError> {
        let instances = config
            .providers
            .iter()
            .map(|provider| provider.instance.clone())
            .collect();
        let registry = Registry::new(instances).map_err(StartError::Providers)?;
        let trust = Trust::load(&config.upstream.extra_ca)?;
        let make = |(instance, provider): (&Arc<_>, _)| {
            Upstream::new(
                Arc::clone(instance),
                provider,
                config.upstream.clone(),
                trust.clone(),
                shared,
            )
        };
        let upstreams = registry
            .instances()
            .iter()
            .zip(&config.providers)
            .map(make)
            .collect();
        Ok(Providers { registry, upstreams })
    }

    /// The instance at `index` of the registry.
    pub fn upstream(&self, index: usize) -> Option<&Upstream> {
        self.upstreams.get(index)
    }

    /// Every instance.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter()
    }

    /// The shape of errors that no endpoint is known for: that of the instance, else OpenAI's.
    pub fn error_shape(&self, index: Option<usize>) -> ErrorShape {
        let upstream = index.and_then(|index| self.upstream(index));
        upstream.map_or(ErrorShape::OpenAi, |upstream| {
            upstream.instance.kind.error_shape(Endpoint::Passthrough)
        })
    }

    /// The name of the instance at `index`.
    pub fn name(&self, index: usize) -> String {
        self.upstream(index)
            .map(|upstream| upstream.name.to_string())
            .unwrap_or_default()
    }
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
        let providers = Providers::build(&config, &shared)?;
        for upstream in providers.upstreams() {
            metrics.provider_info(&upstream.name, upstream.instance.kind.name(), "enabled");
            upstream.publish_keys();
        }
        for ProviderConfig { instance, .. } in &config.disabled {
            metrics.provider_info(instance.name.as_str(), instance.kind.name(), "disabled");
        }
        let store = Store::open(&config.database)?;
        let (queue, jobs) = mpsc::channel(crate::record::QUEUE);
        let writer = Writer::start(
            &store,
            jobs,
            config.record.durability,
            metrics.record.clone(),
            &clock,
        )?;
        let recorder = Recorder::new(queue, config.record, metrics.record.clone(), tracker.clone());
        let app = Arc::new(App {
            prices: Arc::new(Prices::new(config.prices.clone())),
            tokens: Tokens::load(store.clone()).await?,
            config,
            clock,
            store,
            recorder,
            metrics,
            troubles: Troubles::default(),
            tracker,
            stopping,
            shared,
            providers: ArcSwap::from_pointee(providers),
            ca: ArcSwapOption::from_pointee(ca),
        });
        app.keep_house();
        Ok((app, Running { writer }))
    }

    /// The provider instances as they are now; a request keeps the set it began with.
    pub fn providers(&self) -> Arc<Providers> {
        self.providers.load_full()
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
            let mut refresh = tokio::time::interval(token::REFRESH);
            let mut keys = tokio::time::interval(KEYS);
            loop {
                tokio::select! {
                    _ = upkeep.tick() => app.metrics.run_upkeep(),
                    _ = refresh.tick() => app.tokens.refresh().await,
                    _ = keys.tick() => app.look_after_keys(),
                    () = app.stopping.cancelled() => return,
                }
            }
        });
    }
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
        app.recorder.stop().await;
        let writer = tokio::task::spawn_blocking(move || self.writer.join());
        if tokio::time::timeout(grace, writer).await.is_err() {
            tracing::error!("the record queue could not be written in time");
        }
    }
}
