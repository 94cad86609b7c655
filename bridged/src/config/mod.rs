//! The configuration of the bridge: what the text may say (`*File` types) and what runs (`Config`).
//!
//! Text comes in as TOML sections with the environment laid over them (`Source`); out comes a `Config`, or
//! `Problems`: every problem found, each with its file, key path and cure. Holding a `Config` is proof that
//! it was checked. Defaults sit beside their reasons in the conversions here.

mod admission;
mod calls;
mod identity;
mod patience;
mod price;
mod provider;
mod scalar;
mod sink;
mod source;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use providers::OwnPrice;
use serde::Deserialize;

use crate::admission::AdmissionConfig;
use crate::fingerprint::{self, FingerprintKey};
use crate::secret::Secret;

pub use admission::{BudgetFile, LimitFile, PolicyFile, RuleFile, ShedFile, Unpriced};
pub use calls::{CallConfig, OnAbort, OnAbortFile};
pub use identity::{
    IdentityConfig, IdentityFile, KeySource, OidcConfig, OidcFile, OneOrMore, TrustedHeader,
    TrustedHeaderFile,
};
pub use patience::{BreakerFile, RetryConfig, RetryFile};
pub use price::PriceFile;
pub(crate) use provider::read_key;
pub use provider::{Byok, KeyConfig, KeyFile, ProviderConfig, ProviderFile};
pub use scalar::{ByteSize, Span};
pub use sink::{Destination, FileConfig, HttpConfig, HttpForm, SinkConfig, SinkFile, SinkKind};
pub use source::{ConfigError, Problems, Source};
pub use store::{PostgresUrl, StoreConfig, StoreLocation};

/// `[bridge]`: the data plane, the API and the console.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BridgeFile {
    /// Address of the bridge's listener.
    pub listen: Option<String>,
    /// Largest request body that is buffered.
    pub max_body: Option<ByteSize>,
}

/// `[metrics]`: `/metrics`, `/healthz` and `/readyz`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MetricsFile {
    /// Address of the metrics listener.
    pub listen: Option<String>,
}

/// `[upstream]`: how providers are reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpstreamFile {
    /// PEM files trusted beside the system's roots.
    pub extra_ca: Vec<PathBuf>,
    /// Longest wait for name look-up, TCP and TLS together.
    pub connect_timeout: Option<Span>,
    /// Longest wait for the head of a reply.
    pub response_timeout: Option<Span>,
    /// Longest silence inside a reply.
    pub idle_timeout: Option<Span>,
}

/// `[store]`: where records are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreFile {
    /// `sqlite:PATH`, where a relative path lies in the data folder, or `postgres://…`.
    pub url: Option<Secret>,
}

/// `[record]`: what is kept of an interception, and how surely.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RecordFile {
    /// `metadata`, `prompts` or `full`.
    pub content: Option<Content>,
    /// `strict` or `relaxed`.
    pub durability: Option<Durability>,
    /// `refuse` or `drop`.
    pub when_full: Option<WhenFull>,
    /// Most bytes of records that wait on disk while the store is away.
    pub spool_max: Option<ByteSize>,
    /// The key of credentials' fingerprints, where several processes are to make the same.
    pub fingerprint_key: Option<KeyFile>,
}

/// `[retention]`: how long records are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RetentionFile {
    /// How long texts are kept.
    pub content: Option<Span>,
    /// How long everything else is kept.
    pub metadata: Option<Span>,
}

/// How much of the exchanged text is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Neither prompts nor tool arguments nor thoughts.
    Metadata,
    /// The user's prompt, tool calls and thoughts.
    Prompts,
    /// The reply's text too.
    Full,
}

/// When a record is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// The start before the upstream is called, the end before the client sees the end of the reply.
    Strict,
    /// Soon.
    Relaxed,
}

/// What happens to a request whose record cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// It is answered 503.
    Refuse,
    /// It is served; the lost record is counted.
    Drop,
}

/// The bridge's sections as they stand in the text.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// `[bridge]`
    pub bridge: BridgeFile,
    /// `[metrics]`
    pub metrics: MetricsFile,
    /// `[upstream]`
    pub upstream: UpstreamFile,
    /// `[store]`
    pub store: StoreFile,
    /// `[record]`
    pub record: RecordFile,
    /// `[identity]`
    pub identity: IdentityFile,
    /// `[policy]`
    pub policy: PolicyFile,
    /// `[[limit]]`
    pub limits: Vec<LimitFile>,
    /// `[[budget]]`
    pub budgets: Vec<BudgetFile>,
    /// `[shed]`
    pub shed: ShedFile,
    /// `[retention]`
    pub retention: RetentionFile,
    /// `[breaker]`
    pub breaker: BreakerFile,
    /// `[retry]`
    pub retry: RetryFile,
    /// `[[provider]]`
    pub providers: Vec<ProviderFile>,
    /// `[[price]]`
    pub prices: Vec<PriceFile>,
    /// `[[sink]]`
    pub sinks: Vec<SinkFile>,
}

/// How providers are reached.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// PEM files trusted beside the system's roots.
    pub extra_ca: Vec<PathBuf>,
    /// Longest wait for name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Longest wait for the head of a reply.
    pub response_timeout: Duration,
    /// Longest silence inside a reply.
    pub idle_timeout: Duration,
}

/// What is kept of an interception, and how surely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordConfig {
    /// How much text is kept.
    pub content: Content,
    /// When it is on disk.
    pub durability: Durability,
    /// What happens when it cannot be kept.
    pub when_full: WhenFull,
    /// Most bytes of records that wait on disk while the store is away.
    pub spool_max: u64,
}

/// How long records are kept; for ever where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetentionConfig {
    /// Prompts, tool arguments, thoughts and outputs.
    pub content: Option<Duration>,
    /// Everything else.
    pub metadata: Option<Duration>,
}

/// What the bridge runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the bridge's listener.
    pub listen: SocketAddr,
    /// Address of the metrics listener.
    pub metrics_listen: SocketAddr,
    /// Largest request body that is buffered, in bytes.
    pub max_body: usize,
    /// How providers are reached.
    pub upstream: UpstreamConfig,
    /// Where records are kept.
    pub store: StoreConfig,
    /// How long records are kept.
    pub retention: RetentionConfig,
    /// Folder of records that wait for the store.
    pub spool: PathBuf,
    /// What is recorded.
    pub record: RecordConfig,
    /// The key of credentials' fingerprints.
    pub fingerprint_key: FingerprintKey,
    /// What proves an identity beside gateway tokens.
    pub identity: IdentityConfig,
    /// Who may use what, and how much.
    pub admission: AdmissionConfig,
    /// The provider instances, built-in ones first.
    pub providers: Vec<ProviderConfig>,
    /// The instances that are switched off.
    pub disabled: Vec<ProviderConfig>,
    /// The operator's own prices.
    pub prices: Vec<OwnPrice>,
    /// Where interceptions are delivered.
    pub sinks: Vec<SinkConfig>,
}

impl Config {
    /// Turns the text into what runs. Problems are added to `problems`; the result is meant to be used only
    /// when there are none.
    pub fn build(file: &File, source: &Source, problems: &mut Problems) -> Config {
        let upstream = upstream(&file.upstream, source, problems);
        let content = file.record.content.unwrap_or(Content::Prompts);
        let (providers, disabled) = provider::build(file, content, source, problems);
        let policy = admission::policy(&file.policy, problems);
        Config {
            listen: address(
                file.bridge.listen.as_deref(),
                "bridge.listen",
                ([127, 0, 0, 1], 4001),
                problems,
            ),
            metrics_listen: address(
                file.metrics.listen.as_deref(),
                "metrics.listen",
                ([127, 0, 0, 1], 2112),
                problems,
            ),
            // Agents send whole conversations with images; 64 MiB is above what any provider accepts.
            max_body: file.bridge.max_body.map_or(64 << 20, ByteSize::bytes),
            store: store::build(&file.store, &upstream.extra_ca, source, problems),
            retention: retention(&file.retention, problems),
            spool: source.in_data_dir("spool"),
            fingerprint_key: fingerprint_key(&file.record, source, problems),
            upstream,
            record: RecordConfig {
                content,
                durability: file.record.durability.unwrap_or(Durability::Strict),
                when_full: file.record.when_full.unwrap_or(WhenFull::Refuse),
                // Some hundred thousand requests; enough for the outage of a night.
                spool_max: file.record.spool_max.map_or(1 << 30, |size| size.bytes() as u64),
            },
            identity: identity::build(&file.identity, source, problems),
            admission: AdmissionConfig {
                budgets: admission::budgets(&file.budgets, policy.refusal_status, problems),
                policy,
                limits: admission::limits(&file.limits, problems),
                groups: identity::groups(&file.identity),
                shed: admission::shed(&file.shed),
            },
            sinks: sink::build(&file.sinks, source, problems),
            prices: price::build(&file.prices, &providers, problems),
            providers,
            disabled,
        }
    }
}

impl Config {
    /// The keys whose values differ in `other` and cannot change while the process runs.
    pub fn fixed_keys(&self, other: &Config) -> Vec<&'static str> {
        let keys = [
            ("bridge.listen", self.listen != other.listen),
            ("metrics.listen", self.metrics_listen != other.metrics_listen),
            ("store.url", self.store.location != other.store.location),
            (
                "upstream.extra-ca (for the store)",
                self.store.has_other_ca(&other.store),
            ),
            (
                "record.fingerprint-key",
                self.fingerprint_key != other.fingerprint_key,
            ),
        ];
        let changed = keys.into_iter().filter(|(_, differs)| *differs);
        changed.map(|(key, _)| key).collect()
    }
}

/// Reads a listen address, or adds a problem at `key`.
pub fn address(
    text: Option<&str>,
    key: &str,
    default: impl Into<SocketAddr>,
    problems: &mut Problems,
) -> SocketAddr {
    let default = default.into();
    let Some(text) = text else { return default };
    text.parse().unwrap_or_else(|_| {
        problems.add(
            key,
            format!("`{text}` is not an address: write IP:PORT, e.g. `{default}`"),
        );
        default
    })
}

fn upstream(file: &UpstreamFile, source: &Source, problems: &mut Problems) -> UpstreamConfig {
    let extra_ca: Vec<PathBuf> = file.extra_ca.iter().map(|path| source.beside(path)).collect();
    for path in extra_ca.iter().filter(|path| !path.is_file()) {
        problems.add(
            "upstream.extra-ca",
            format!("{} is not a file that can be read", path.display()),
        );
    }
    UpstreamConfig {
        extra_ca,
        connect_timeout: file
            .connect_timeout
            .map_or(Duration::from_secs(10), Span::duration),
        // A blocking reply of a reasoning model may take many minutes to begin.
        response_timeout: file
            .response_timeout
            .map_or(Duration::from_secs(900), Span::duration),
        idle_timeout: file.idle_timeout.map_or(Duration::from_secs(600), Span::duration),
    }
}

fn fingerprint_key(file: &RecordFile, source: &Source, problems: &mut Problems) -> FingerprintKey {
    let key = "record.fingerprint-key";
    let given = file.fingerprint_key.as_ref();
    let given = given.and_then(|from| provider::load_key(from, key, source, problems));
    let Some(KeyConfig { secret, .. }) = given else {
        return FingerprintKey::File(source.in_data_dir("fingerprint.key"));
    };
    if secret.expose().len() < fingerprint::SHORTEST {
        problems.add(
            key,
            format!(
                "is too short: the shortest has {} characters",
                fingerprint::SHORTEST
            ),
        );
    }
    FingerprintKey::Given(secret)
}

fn retention(file: &RetentionFile, problems: &mut Problems) -> RetentionConfig {
    let config = RetentionConfig {
        content: file.content.map(Span::duration),
        metadata: file.metadata.map(Span::duration),
    };
    for (key, span) in [
        ("retention.content", config.content),
        ("retention.metadata", config.metadata),
    ] {
        // Requests in flight must not be deleted under their own end.
        if span.is_some_and(|span| span < SHORTEST_RETENTION) {
            problems.add(key, "is too short: the shortest is 1h");
        }
    }
    config
}

const SHORTEST_RETENTION: Duration = Duration::from_secs(3_600);
