//! Everything that a running bridge shares, built once and passed down.
//!
//! `App::start` opens the store, starts the writer and the housekeeping, and returns the `App` with a `Running`
//! that ends it in order: requests first, then the record queue, then the writer.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use providers::{Endpoint, ErrorShape, Prices, Registry, RegistryProblem};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Load};
use crate::clock::Clock;
use crate::config::{Config, ProviderConfig, UpstreamConfig};
use crate::identity::Sources;
use crate::metrics::{BudgetMetrics, Metrics};
use crate::record::Recorder;
use crate::reload::Reloads;
use crate::store::{OpenError, Store, StoreError, Writer};
use crate::token::{self, Tokens};
use crate::upstream::{Trust, TrustError, Upstream};

/// How often histograms are folded together.
const UPKEEP: Duration = Duration::from_secs(5);

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
    /// Where the date comes from.
    pub clock: Clock,
    /// Who may come in.
    pub tokens: Tokens,
    /// Records and tokens.
    pub store: Store,
    /// The way into the store for requests.
    pub recorder: Recorder,
    /// All metrics of the process.
    pub metrics: Metrics,
    /// Every task.
    pub tracker: TaskTracker,
    /// Cancelled when the process is to end.
    pub stopping: CancellationToken,
    /// Whether the process keeps up.
    pub load: Load,
    /// The way to whoever reads the configuration again.
    pub reloads: Reloads,
    snapshot: ArcSwap<Snapshot>,
    ca: ArcSwapOption<PublicCa>,
}

/// What the configuration decides, as it is now. A request keeps the one it began with.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// The provider instances with their connections.
    pub providers: Arc<Providers>,
    /// What proves an identity beside gateway tokens.
    pub identity: Sources,
    /// Who may use what, and how much.
    pub admission: Admission,
    /// What tokens cost.
    pub prices: Arc<Prices>,
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
    upstreams: Vec<Arc<Upstream>>,
    trust: Trust,
    settings: (UpstreamConfig, Vec<ProviderConfig>),
}

impl Providers {
    /// Makes the instances; those that stay as they are in `previous` keep their connections and their state.
    fn build(
        config: &Config,
        tracker: &TaskTracker,
        stopping: &CancellationToken,
        previous: Option<&Providers>,
    ) -> Result<Providers, StartError> {
        let instances = config
            .providers
            .iter()
            .map(|provider| provider.instance.clone())
            .collect();
        let registry = Registry::new(instances).map_err(StartError::Providers)?;
        let trust = Trust::load(&config.upstream.extra_ca)?;
        let make = |(instance, provider): (&Arc<_>, &ProviderConfig)| {
            if let Some(same) = previous.and_then(|old| old.same(config, provider, &trust)) {
                return same;
            }
            Arc::new(Upstream::new(
                Arc::clone(instance),
                provider,
                config.upstream.clone(),
                trust.clone(),
                (tracker.clone(), stopping.clone()),
            ))
        };
        let upstreams = registry
            .instances()
            .iter()
            .zip(&config.providers)
            .map(make)
            .collect();
        Ok(Providers {
            registry,
            upstreams,
            trust,
            settings: (config.upstream.clone(), config.providers.clone()),
        })
    }

    /// The instance of this configuration, if it is here already.
    fn same(&self, config: &Config, provider: &ProviderConfig, trust: &Trust) -> Option<Arc<Upstream>> {
        if self.settings.0 != config.upstream || !self.trust.is_same(trust) {
            return None;
        }
        let index = self.settings.1.iter().position(|known| known == provider)?;
        self.upstreams.get(index).cloned()
    }

    /// The instance at `index` of the registry.
    pub fn upstream(&self, index: usize) -> Option<&Upstream> {
        self.upstreams.get(index).map(Arc::as_ref)
    }

    fn holds(&self, upstream: &Upstream) -> bool {
        self.upstreams().any(|own| std::ptr::eq(own, upstream))
    }

    /// Every instance.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.upstreams.iter().map(Arc::as_ref)
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

impl Snapshot {
    fn build(
        config: &Config,
        (tracker, stopping): (&TaskTracker, &CancellationToken),
        metrics: &Arc<BudgetMetrics>,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, StartError> {
        let old = previous.map(|old| &*old.providers);
        let providers = Providers::build(config, tracker, stopping, old)?;
        let old = previous.map(|old| &old.identity);
        let identity = Sources::new(&config.identity, &config.upstream.extra_ca, tracker, old)?;
        let old = previous.map(|old| &old.admission);
        Ok(Snapshot {
            prices: Arc::new(Prices::new(config.prices.clone())),
            admission: Admission::new(config.admission.clone(), old, metrics),
            config: config.clone(),
            providers: Arc::new(providers),
            identity,
        })
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
        let metrics = Metrics::new()?;
        let stopping = CancellationToken::new();
        let snapshot = Snapshot::build(&config, (&tracker, &stopping), &metrics.budget, None)?;
        for upstream in snapshot.providers.upstreams() {
            metrics.provider_info(&upstream.name, upstream.instance.kind.name(), true);
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
            tokens: Tokens::load(store.clone()).await?,
            clock,
            store,
            recorder,
            metrics,
            tracker,
            stopping,
            load: Load::default(),
            reloads: Reloads::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            ca: ArcSwapOption::from_pointee(ca),
        });
        app.metrics.config.reloaded(app.clock.now());
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
    pub fn reload(&self, config: &Config) -> Result<Vec<&'static str>, StartError> {
        let old = self.snapshot();
        let new = Snapshot::build(
            config,
            (&self.tracker, &self.stopping),
            &self.metrics.budget,
            Some(&old),
        )?;
        let fixed = old.config.fixed_keys(config);
        let new = Arc::new(new);
        self.snapshot.store(new.clone());
        for gone in old
            .providers
            .upstreams()
            .filter(|gone| !new.providers.holds(gone))
        {
            gone.close();
            self.metrics
                .provider_info(&gone.name, gone.instance.kind.name(), false);
        }
        for upstream in new.providers.upstreams() {
            self.metrics
                .provider_info(&upstream.name, upstream.instance.kind.name(), true);
        }
        Ok(fixed)
    }

    /// The CA's certificate, which anyone may fetch.
    pub fn ca(&self) -> Option<Arc<PublicCa>> {
        self.ca.load_full()
    }

    /// Replaces the CA's certificate.
    pub fn publish_ca(&self, ca: PublicCa) {
        self.ca.store(Some(Arc::new(ca)));
    }

    fn keep_house(self: &Arc<Self>) {
        let app = self.clone();
        self.tracker.spawn(async move {
            let mut upkeep = tokio::time::interval(UPKEEP);
            let mut refresh = tokio::time::interval(token::REFRESH);
            let mut minute = tokio::time::interval(MINUTE);
            loop {
                tokio::select! {
                    _ = upkeep.tick() => {
                        app.metrics.run_upkeep();
                        app.metrics.config.lag(app.load.lag());
                    }
                    _ = refresh.tick() => app.tokens.refresh().await,
                    _ = minute.tick() => app.snapshot().admission.forget_idle(Instant::now()),
                    () = app.stopping.cancelled() => return,
                }
            }
        });
        let app = self.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = app.load.watch() => {}
                () = app.keep_keys_fresh() => {}
                () = app.stopping.cancelled() => {}
            }
        });
    }

    async fn keep_keys_fresh(&self) {
        let mut minute = tokio::time::interval(MINUTE);
        loop {
            minute.tick().await;
            self.snapshot().identity.keep_fresh().await;
        }
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
