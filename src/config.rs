//! The whole configuration of the program: one file, the environment over it, each daemon's part checked by
//! the daemon's own crate, all problems reported together.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bridged::config::{ConfigError, File, Problems, Source};
use proxyd::config::{CaFile, ProxyFile, TunnelPolicy};

use crate::cli::Globals;
use crate::data_dir;
use crate::failure::Failure;

/// What the program runs with.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) bridge: bridged::config::Config,
    pub(crate) proxy: proxyd::config::Config,
    pub(crate) data_dir: PathBuf,
    pub(crate) file: Option<PathBuf>,
}

const SECTIONS: [&str; 18] = [
    "proxy",
    "bridge",
    "metrics",
    "ca",
    "upstream",
    "store",
    "record",
    "retention",
    "identity",
    "policy",
    "limit",
    "budget",
    "shed",
    "breaker",
    "retry",
    "provider",
    "price",
    "sink",
];

/// Reads and checks the configuration that `globals` name.
pub(crate) fn load(globals: &Globals) -> Result<Config, Failure> {
    let data_dir = data_dir::locate(globals.data_dir.as_deref())?;
    let file = file(globals);
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(read(file, &data_dir, environment)?)
}

/// The file that the configuration stands in.
pub(crate) fn file(globals: &Globals) -> Option<PathBuf> {
    let default = Path::new("causeway.toml");
    let given = globals.config.clone();
    given.or_else(|| default.is_file().then(|| default.to_owned()))
}

/// Reads and checks a configuration.
pub(crate) fn read(
    file: Option<PathBuf>,
    data_dir: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut source = Source::read(file.as_deref(), data_dir, environment)?;
    let mut problems = Problems::default();
    let bridge = File {
        bridge: source.section("bridge", &mut problems),
        metrics: source.section("metrics", &mut problems),
        upstream: source.section("upstream", &mut problems),
        store: source.section("store", &mut problems),
        record: source.section("record", &mut problems),
        identity: source.section("identity", &mut problems),
        policy: source.section("policy", &mut problems),
        limits: source.entries("limit", &mut problems),
        budgets: source.entries("budget", &mut problems),
        shed: source.section("shed", &mut problems),
        retention: source.section("retention", &mut problems),
        breaker: source.section("breaker", &mut problems),
        retry: source.section("retry", &mut problems),
        providers: source.entries("provider", &mut problems),
        prices: source.entries("price", &mut problems),
        sinks: source.entries("sink", &mut problems),
    };
    let proxy: ProxyFile = source.section("proxy", &mut problems);
    let ca: CaFile = source.section("ca", &mut problems);
    let config = Config {
        bridge: bridged::config::Config::build(&bridge, &source, &mut problems),
        proxy: proxyd::config::Config::build(&proxy, &ca, &source, &mut problems),
        data_dir: data_dir.to_owned(),
        file,
    };
    check_exposure(&config.proxy, &mut problems);
    source.finish(problems, &SECTIONS)?;
    Ok(config)
}

const OPEN_RELAY: &str = "\"open\" lets everyone who reaches the port go anywhere: write \"authenticated\", or listen on 127.0.0.1";

/// Refuses an open relay: everything else that listens asks who is there, and gateway tokens always exist.
fn check_exposure(proxy: &proxyd::config::Config, problems: &mut Problems) {
    let reachable = std::iter::once(proxy.listen).chain(proxy.tls.as_ref().map(|tls| tls.listen));
    if is_exposed(proxy, reachable) {
        problems.add("proxy.tunnel", OPEN_RELAY);
    }
}

/// The same for the addresses that a running proxy listens on: passed sockets may have others.
pub(crate) fn refuse_exposure(
    proxy: &proxyd::config::Config,
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<(), Failure> {
    if is_exposed(proxy, addresses) {
        return Err(Failure::usage(format!("proxy.tunnel: {OPEN_RELAY}")));
    }
    Ok(())
}

fn is_exposed(proxy: &proxyd::config::Config, mut addresses: impl Iterator<Item = SocketAddr>) -> bool {
    proxy.tunnel == TunnelPolicy::Open && addresses.any(|address| !address.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridged::config::{Content, OnAbort, StoreLocation};
    use std::time::Duration;

    fn problems(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("causeway.toml");
        std::fs::write(&path, text).unwrap();
        read(Some(path), folder.path(), std::iter::empty())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn nothing_is_needed() {
        let config = read(None, Path::new("/data"), std::iter::empty()).unwrap();
        assert_eq!(config.proxy.listen.to_string(), "127.0.0.1:8888");
        assert_eq!(config.bridge.listen.to_string(), "127.0.0.1:4001");
        assert_eq!(config.bridge.metrics_listen.to_string(), "127.0.0.1:2112");
        assert_eq!(config.bridge.providers.len(), 6);
        assert!(
            matches!(&config.bridge.store.location, StoreLocation::Sqlite(path) if path == Path::new("/data/causeway.db"))
        );
        assert_eq!(config.proxy.ca_key, Path::new("/data/ca.key"));
    }

    #[test]
    fn a_providers_own_keys_come_before_the_general_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("causeway.toml");
        let text = r#"
            [record]
            content = "full"
            [[provider]]
            name = "openai"
            record-content = "metadata"
            on-abort = "drain"
            drain-max-bytes = "1MiB"
            [[provider]]
            name = "copilot"
            include-usage = true
            [[price]]
            model = "gpt-5*"
            provider = "copilot"
            input = 1
            output = 10.5
        "#;
        std::fs::write(&path, text).unwrap();
        let config = read(Some(path), folder.path(), std::iter::empty()).unwrap();
        let calls = |name: &str| {
            let mut providers = config.bridge.providers.iter();
            let found = providers.find(|provider| provider.instance.name.as_str() == name);
            found.unwrap().calls
        };
        let drain = OnAbort::Drain {
            timeout: Duration::from_secs(60),
            max_bytes: 1 << 20,
        };
        assert_eq!(
            (calls("openai").content, calls("openai").on_abort),
            (Content::Metadata, drain)
        );
        assert!(calls("openai").include_usage && calls("copilot").include_usage);
        let business = calls("copilot-business");
        assert_eq!(
            (business.content, business.on_abort),
            (Content::Full, OnAbort::Cancel)
        );
        assert!(!business.include_usage && !calls("anthropic").include_usage);
        assert_eq!(config.bridge.prices.len(), 1);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let text = problems(
            r#"
            [proxy]
            listen = "here"
            allow-private = ["all"]
            [record]
            content = "everything"
            [store]
            url = "mysql://user:hunter2@db"
            [[provider]]
            name = "openai"
            byok = "deny"
            [[provider]]
            name = "New One"
            kind = "opnai"
            [[provider]]
            name = "twin"
            kind = "openai"
            base-url = "https://api.anthropic.com"
            [[provider]]
            name = "anthropic"
            drain-timeout = "5s"
            [[price]]
            model = "gpt-5*"
            provider = "nobody"
            input = -1
            output = 10
            [extra]
            "#,
        );
        for part in [
            "proxy.listen: `here`",
            "proxy.allow-private: `all`",
            "record: unknown variant `everything`",
            "store.url: `mysql:…`",
            "provider.openai.byok",
            "provider.New One.name",
            "provider.New One.kind: `opnai`",
            "provider.New One.base-url: is missing",
            "anthropic",
            "twin",
            "provider.anthropic.drain-timeout: means nothing",
            "price.gpt-5*.provider: `nobody`",
            "price.gpt-5*.input: -1 is not a price",
            "extra: unknown section",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn the_examples_of_the_documents_are_good() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let text = std::fs::read_to_string(document).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("login-ca.pem"), "").unwrap();
        let examples = text
            .split("```toml\n")
            .skip(1)
            .filter_map(|text| text.split("```").next());
        // Keys of providers are wherever the reader keeps them.
        let readable: String = examples.filter(|text| !text.contains("OPENAI_API_KEY")).collect();
        let readable = ["WEBHOOK_SECRET", "OTLP_TOKEN"]
            .iter()
            .fold(readable, |text, name| {
                text.replace(&format!("env = \"{name}\""), "literal = \"0123456789abcdef\"")
            });
        assert!(readable.contains("[[budget]]") && readable.contains("[identity.oidc]"));
        let path = folder.path().join("causeway.toml");
        std::fs::write(&path, readable).unwrap();
        let config = read(Some(path), folder.path(), std::iter::empty());
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.bridge.admission.budgets.len(), 1);
        assert_eq!(config.bridge.sinks.len(), 3);
    }

    #[test]
    fn an_open_proxy_stays_on_this_machine() {
        let open = |address: &str| format!("[proxy]\ntunnel = \"open\"\nlisten = \"{address}:8888\"\n");
        assert!(problems(&open("0.0.0.0")).contains("proxy.tunnel"));
        assert!(problems(&open("192.0.2.1")).contains("proxy.tunnel"));
        let own = problems(&(open("127.0.0.1") + "[colour]\n"));
        assert!(!own.contains("proxy.tunnel"), "{own}");
    }

    #[test]
    fn every_problem_of_governance_is_named_by_its_key() {
        let text = problems(
            r#"
            [identity.oidc]
            issuer = "http://login.test"
            audience = []
            roles = { x = "king" }
            [identity.trusted-header]
            header = "not a name"
            from = ["everywhere"]
            [policy]
            refusal-status = 200
            [[policy.rule]]
            users = ["ann"]
            [[limit]]
            concurrent = 0
            [[limit]]
            burst = 3
            [[budget]]
            name = "twice"
            period = "day"
            [[budget]]
            name = "twice"
            period = "day"
            money = -1
            "#,
        );
        for part in [
            "identity.oidc.issuer",
            "identity.oidc.audience",
            "identity.oidc.roles.x",
            "identity.oidc.roles: needs `roles-claim`",
            "identity.trusted-header.header",
            "identity.trusted-header.from: `everywhere`",
            "policy.refusal-status",
            "policy.rule[0]",
            "limit[0]",
            "limit[1].burst",
            "budget.twice: needs a `name` of its own",
            "budget.twice: bounds nothing",
            "budget.twice.money",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn a_sink_that_cannot_be_is_named_with_its_key() {
        let text = problems(
            r#"
            [[sink]]
            name = "Lines"
            kind = "file"
            url = "https://host"
            [[sink]]
            name = "small"
            kind = "file"
            path = "a.jsonl"
            max-size = "1KiB"
            [[sink]]
            name = "same"
            kind = "file"
            path = "a.jsonl"
            [[sink]]
            name = "hook"
            kind = "webhook"
            url = "ftp://host"
            secret = { literal = "hunter2" }
            status = ["in_flight"]
            [[sink]]
            name = "hook"
            kind = "webhook"
            url = "https://host"
            token = { literal = "x" }
            [[sink]]
            name = "otel"
            kind = "otlp"
            url = "https://host"
            token = { env = "CAUSEWAY_TEST_NOT_SET" }
            [[sink]]
            name = "odd"
            kind = "kafka"
            "#,
        );
        for part in [
            "sink.Lines: needs a `name`",
            "sink.Lines.path: is missing",
            "sink.Lines.url: means nothing",
            "sink.small.max-size: must be at least 4KiB",
            "sink.same.path: is the file of another sink",
            "sink.hook.url",
            "sink.hook.secret: must have at least 16",
            "sink.hook.status: `in_flight`",
            "sink.hook: needs a `name` of its own",
            "sink.hook.secret: is missing",
            "sink.hook.token: means nothing",
            "sink.otel.token: the variable `CAUSEWAY_TEST_NOT_SET`",
            "sink.odd: unknown variant `kafka`",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn a_patience_that_cannot_be_and_a_fallback_that_cannot_answer_are_named() {
        let text = problems(
            r#"
            [breaker]
            ratio = 2.0
            open-for = "1h"
            [retry]
            attempts = 100
            [[provider]]
            name = "twin"
            kind = "openai"
            base-url = "https://llm.example.com"
            fallback = ["twin", "nobody", "copilot", "openai"]
            "#,
        );
        for part in [
            "provider.twin.fallback: `twin` is this instance itself",
            "provider.twin.fallback: `nobody` is no instance",
            "provider.twin.fallback: `copilot` is of another kind",
            "provider.twin.fallback: `openai` has no `keys`",
            "breaker.ratio: must be above 0",
            "breaker.max-open: must be at least `open-for`",
            "retry.attempts: must be at most 5",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }
}
