//! The whole configuration of the program: one file, the environment over it, each daemon's part checked by
//! the daemon's own crate, all problems reported together.

use std::path::{Path, PathBuf};

use bridged::config::{ConfigError, File, Problems, Source};
use proxyd::config::{CaFile, ProxyFile};

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

const SECTIONS: [&str; 11] = [
    "proxy", "bridge", "metrics", "ca", "upstream", "store", "record", "breaker", "retry", "provider",
    "price",
];

/// Reads and checks the configuration that `globals` name.
pub(crate) fn load(globals: &Globals) -> Result<Config, Failure> {
    let data_dir = data_dir::locate(globals.data_dir.as_deref())?;
    let default = Path::new("causeway.toml");
    let file = globals
        .config
        .clone()
        .or_else(|| default.is_file().then(|| default.to_owned()));
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Ok(read(file, &data_dir, environment)?)
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
        breaker: source.section("breaker", &mut problems),
        retry: source.section("retry", &mut problems),
        providers: source.entries("provider", &mut problems),
        prices: source.entries("price", &mut problems),
    };
    let proxy: ProxyFile = source.section("proxy", &mut problems);
    let ca: CaFile = source.section("ca", &mut problems);
    let config = Config {
        bridge: bridged::config::Config::build(&bridge, &source, &mut problems),
        proxy: proxyd::config::Config::build(&proxy, &ca, &source, &mut problems),
        data_dir: data_dir.to_owned(),
        file,
    };
    source.finish(problems, &SECTIONS)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bridged::config::{Content, OnAbort};
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
        assert_eq!(config.bridge.database, Path::new("/data/causeway.db"));
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
            "store.url: `mysql`",
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
