//! What the configuration decides: provider instances, proofs of identity, admission, prices.
//!
//! A configuration comes in and becomes a `Snapshot`, whole or not at all; the process swaps it for the one before,
//! and a request keeps the one that it began with. What stays as it was goes on: instances are the same objects with
//! their connections, counters count on, an issuer keeps its keys.

use std::sync::Arc;

use metrics::Gauge;
use providers::{Endpoint, ErrorShape, Prices, Registry, RegistryProblem};

use crate::admission::Admission;
use crate::config::{Config, ProviderConfig, UpstreamConfig};
use crate::identity::Sources;
use crate::upstream::{Shared, Trust, TrustError, Upstream};

/// Why a configuration cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Certificates of others cannot be checked.
    #[error("upstream certificates cannot be checked")]
    Trust(#[from] TrustError),
    /// The providers contradict each other.
    #[error("the providers contradict each other")]
    Providers(Vec<RegistryProblem>),
}

/// What the configuration decides, as it is now.
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
    _counted: Counted,
}

/// Shows in a gauge as long as it lives.
#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn by(gauge: &Gauge) -> Counted {
        gauge.increment(1.0);
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Snapshot {
    /// Makes what `config` asks for, going on from `previous`.
    ///
    /// # Errors
    /// It cannot run; `previous` is as it was.
    pub fn build(
        config: &Config,
        shared: &Shared,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, BuildError> {
        // Everything that can fail comes before what touches that which is shared with `previous`.
        let trust = Trust::load(&config.upstream.extra_ca)?;
        let registry = Providers::registry(config)?;
        let old = previous.map(|old| &old.identity);
        let identity = Sources::new(&config.identity, &config.upstream.extra_ca, &shared.tracker, old)?;
        let old = previous.map(|old| &*old.providers);
        let providers = Providers::new(config, shared, (registry, trust), old);
        let old = previous.map(|old| &old.admission);
        Ok(Snapshot {
            admission: Admission::new(config.admission.clone(), old),
            config: config.clone(),
            providers: Arc::new(providers),
            identity,
            prices: Arc::new(Prices::new(config.prices.clone())),
            _counted: Counted::by(&shared.metrics.config.live),
        })
    }

    /// Lets go of what `next` does not go on with, and tells which instances there are.
    pub fn give_way_to(&self, next: &Snapshot, shared: &Shared) {
        let gone = self.providers.upstreams();
        gone.filter(|gone| !next.providers.holds(gone))
            .for_each(Upstream::close);
        self.publish(shared, false);
        next.publish(shared, true);
    }

    /// Publishes which instances there are, or are no longer.
    pub fn publish(&self, shared: &Shared, is_so: bool) {
        let running = self.config.providers.iter().map(|provider| (provider, "enabled"));
        let disabled = self.config.disabled.iter().map(|provider| (provider, "disabled"));
        for (ProviderConfig { instance, .. }, status) in running.chain(disabled) {
            let (name, kind) = (instance.name.as_str(), instance.kind.name());
            shared.metrics.provider_info(name, kind, status, is_so);
        }
        self.providers.upstreams().for_each(Upstream::publish_keys);
    }
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
    fn registry(config: &Config) -> Result<Registry, BuildError> {
        let instances = config.providers.iter().map(|provider| provider.instance.clone());
        Registry::new(instances.collect()).map_err(BuildError::Providers)
    }

    /// Makes the instances; what is known of those of the same names goes on.
    fn new(
        config: &Config,
        shared: &Shared,
        (registry, trust): (Registry, Trust),
        previous: Option<&Providers>,
    ) -> Providers {
        let make = |(instance, provider): (&Arc<_>, &ProviderConfig)| {
            if let Some(same) = previous.and_then(|old| old.same(config, provider, &trust)) {
                return same;
            }
            let (config, trust) = (config.upstream.clone(), trust.clone());
            Arc::new(Upstream::new(
                Arc::clone(instance),
                provider,
                config,
                trust,
                shared,
            ))
        };
        let upstreams = registry
            .instances()
            .iter()
            .zip(&config.providers)
            .map(make)
            .collect();
        Providers {
            registry,
            upstreams,
            trust,
            settings: (config.upstream.clone(), config.providers.clone()),
        }
    }

    /// The instance of this configuration, if it is here already and there is nothing to forgive.
    fn same(&self, config: &Config, provider: &ProviderConfig, trust: &Trust) -> Option<Arc<Upstream>> {
        if self.settings.0 != config.upstream || !self.trust.is_same(trust) {
            return None;
        }
        let index = self.settings.1.iter().position(|known| known == provider)?;
        // A key that was rejected gets another chance when the configuration is read again.
        self.upstreams
            .get(index)
            .filter(|upstream| !upstream.has_rejected_keys())
            .cloned()
    }

    fn holds(&self, upstream: &Upstream) -> bool {
        self.upstreams().any(|own| std::ptr::eq(own, upstream))
    }

    /// Whose certificates are trusted.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The instance at `index` of the registry.
    pub fn upstream(&self, index: usize) -> Option<&Upstream> {
        self.upstreams.get(index).map(Arc::as_ref)
    }

    /// The instance that claims `host`, on whatever port.
    pub fn of_host(&self, host: &str) -> Option<&Upstream> {
        self.upstreams().find(|upstream| upstream.claims(host))
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
