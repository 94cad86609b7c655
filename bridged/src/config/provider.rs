//! `[[provider]]`: built-in instances with the operator's entries laid over them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::header::HeaderName;
use providers::{BaseUrl, HostClaim, Instance, KeyHeader, ProviderName, Registry};
use serde::Deserialize;

use super::calls::{CallConfig, OnAbortFile};
use super::patience::{self, BreakerFile, RetryConfig, RetryFile};
use super::source::{Problems, Source};
use super::{ByteSize, Content, File, Span};
use crate::breaker::Rules;
use crate::headers;
use crate::secret::Secret;

/// One `[[provider]]` entry as it stands in the text. What an override leaves out stays as built in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProviderFile {
    /// The instance's name.
    pub name: String,
    /// A provider kind.
    pub kind: Option<String>,
    /// Where its API begins.
    pub base_url: Option<String>,
    /// The hosts claimed in proxy mode: `name` or `name:port`.
    pub hosts: Option<Vec<String>>,
    /// The address dialled in place of the host's own.
    pub connect_to: Option<String>,
    /// Whether users bring their own credentials.
    pub byok: Option<Byok>,
    /// The gateway's own keys.
    #[serde(default)]
    pub keys: Vec<KeyFile>,
    /// The header that carries them, where it is not that of the kind.
    pub key_header: Option<String>,
    /// Whether WebSockets are relayed, which they are unless this is `false`. A refusal has the status on which the
    /// clients fall back to plain requests.
    pub websockets: Option<bool>,
    /// When the instance is left alone; what it leaves out is as in `[breaker]`.
    #[serde(default)]
    pub breaker: BreakerFile,
    /// What is sent again; what it leaves out is as in `[retry]`.
    #[serde(default)]
    pub retry: RetryFile,
    /// Instances of the same kind that answer, with their own keys, where this one cannot.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// Whether a user's own credential that is out of quota is refused here until its quota is back.
    pub answer_429_locally: Option<bool>,
    /// Whether streams are asked for usage that their clients did not ask for.
    pub include_usage: Option<bool>,
    /// What becomes of a reply when its client leaves: `cancel` or `drain`.
    pub on_abort: Option<OnAbortFile>,
    /// Longest time of a drain.
    pub drain_timeout: Option<Span>,
    /// Most bytes of a drain.
    pub drain_max_bytes: Option<ByteSize>,
    /// How much text is recorded, where that differs from `record.content`.
    pub record_content: Option<Content>,
    /// `false` switches the instance off.
    pub enabled: Option<bool>,
}

/// Where a key comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum KeyFile {
    /// An environment variable.
    Env(String),
    /// The first line of a file.
    File(PathBuf),
    /// The key itself.
    Literal(Secret),
}

/// Whose credentials an instance takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Byok {
    /// The user's if there is one, else the gateway's.
    Allow,
    /// The user's only.
    Require,
    /// The gateway's only; the user's never leaves the gateway.
    Deny,
}

/// A provider instance that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderConfig {
    /// Name, kind, base URL, claimed hosts.
    pub instance: Instance,
    /// The address dialled in place of the host's own.
    pub connect_to: Option<SocketAddr>,
    /// Whose credentials it takes.
    pub byok: Byok,
    /// The gateway's own keys.
    pub keys: Vec<KeyConfig>,
    /// The header that carries keys, where it is not that of the kind.
    pub key_header: Option<HeaderName>,
    /// Whether WebSockets are relayed.
    pub websockets: bool,
    /// When it is left alone.
    pub breaker: Rules,
    /// What is sent again.
    pub retry: RetryConfig,
    /// The names of the instances that answer where this one cannot.
    pub fallback: Vec<String>,
    /// Whether a credential that is out of quota is refused here until its quota is back.
    pub answer_429_locally: bool,
    /// How its AI calls are read.
    pub calls: CallConfig,
}

/// A key of the gateway's own.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyConfig {
    /// The key.
    pub secret: Secret,
    /// The file that it comes from, to be read again when it changes.
    pub file: Option<PathBuf>,
}

/// Lays the entries over the built-in instances and checks the whole: those that run, and those switched off.
pub(super) fn build(
    file: &File,
    content: Content,
    source: &Source,
    problems: &mut Problems,
) -> (Vec<ProviderConfig>, Vec<ProviderConfig>) {
    let base = Base {
        content,
        breaker: patience::rules(&file.breaker, Rules::default(), "breaker", problems),
        retry: patience::retry(&file.retry, RetryConfig::default(), "retry", problems),
    };
    let mut built: Vec<(ProviderConfig, bool)> = providers::builtin()
        .into_iter()
        .map(|instance| (base.bare(instance), true))
        .collect();
    let entries = &file.providers;
    let mut seen = HashSet::new();
    for entry in entries {
        let key = format!("provider.{}", entry.name);
        if !seen.insert(entry.name.as_str()) {
            problems.add(&key, "is defined twice: keep one [[provider]] of this name");
            continue;
        }
        let enabled = entry.enabled.unwrap_or(true);
        match built
            .iter_mut()
            .find(|(config, _)| config.instance.name.as_str() == entry.name)
        {
            Some((config, on)) => {
                overlay(config, entry, &key, source, problems);
                *on = enabled;
            }
            None => {
                if let Some(config) = added(&base, entry, &key, source, problems) {
                    built.push((config, enabled));
                }
            }
        }
    }
    let (running, off): (Vec<_>, Vec<_>) = built.into_iter().partition(|(_, on)| *on);
    let configs = |list: Vec<(ProviderConfig, bool)>| list.into_iter().map(|(config, _)| config).collect();
    let (running, off): (Vec<ProviderConfig>, Vec<ProviderConfig>) = (configs(running), configs(off));
    if let Err(found) = Registry::new(running.iter().map(|config| config.instance.clone()).collect()) {
        for problem in found {
            problems.add("provider", problem);
        }
    }
    for config in &running {
        check_fallback(config, &running, problems);
    }
    (running, off)
}

/// What every instance begins with.
struct Base {
    content: Content,
    breaker: Rules,
    retry: RetryConfig,
}

impl Base {
    fn bare(&self, instance: Instance) -> ProviderConfig {
        ProviderConfig {
            calls: CallConfig::default_of(instance.kind, self.content),
            instance,
            connect_to: None,
            byok: Byok::Allow,
            keys: Vec::new(),
            key_header: None,
            websockets: true,
            breaker: self.breaker,
            retry: self.retry,
            fallback: Vec::new(),
            answer_429_locally: false,
        }
    }
}

fn check_fallback(config: &ProviderConfig, running: &[ProviderConfig], problems: &mut Problems) {
    let key = format!("provider.{}.fallback", config.instance.name);
    for name in &config.fallback {
        let found = running.iter().find(|other| other.instance.name.as_str() == name);
        let problem = match found {
            _ if name == config.instance.name.as_str() => "is this instance itself",
            None => "is no instance that runs",
            Some(other) if other.instance.kind.name() != config.instance.kind.name() => {
                "is of another kind, which does not understand the same requests"
            }
            Some(other) if other.keys.is_empty() => "has no `keys`, and nobody else's may be sent to it",
            Some(_) => continue,
        };
        problems.add(&key, format!("`{name}` {problem}"));
    }
}

fn added(
    base: &Base,
    entry: &ProviderFile,
    key: &str,
    source: &Source,
    problems: &mut Problems,
) -> Option<ProviderConfig> {
    let name = ProviderName::parse(&entry.name)
        .map_err(|_| {
            problems.add(
                &format!("{key}.name"),
                "must be lower-case words joined by `-`, e.g. `my-llm`",
            )
        })
        .ok();
    let kind = match entry.kind.as_deref() {
        Some(kind) => providers::kind(kind),
        None => {
            problems.add(&format!("{key}.kind"), format!("is missing: one of {}", kinds()));
            None
        }
    };
    let simulated = kind.is_some_and(|kind| kind.transport() == providers::Transport::Simulated);
    let base_url = match entry.base_url.as_deref() {
        Some(text) => base_url(text, key, problems),
        // A simulated instance is never dialled; it needs a base URL only for its shape.
        None if simulated => BaseUrl::parse("http://simulated.invalid/v1").ok(),
        None => {
            problems.add(
                &format!("{key}.base-url"),
                "is missing: write e.g. \"https://llm.example.com/v1\"",
            );
            None
        }
    };
    if entry.kind.is_some() && kind.is_none() {
        unknown_kind(entry, key, problems);
    }
    let (name, kind, base_url) = (name?, kind?, base_url?);
    let hosts = if simulated && entry.base_url.is_none() {
        Vec::new()
    } else {
        HostClaim::parse(&base_url.host).into_iter().collect()
    };
    let instance = Instance {
        name,
        kind,
        base_url,
        hosts,
    };
    let mut config = base.bare(instance);
    overlay(&mut config, entry, key, source, problems);
    Some(config)
}

fn overlay(
    config: &mut ProviderConfig,
    entry: &ProviderFile,
    key: &str,
    source: &Source,
    problems: &mut Problems,
) {
    if let Some(name) = entry.kind.as_deref() {
        match providers::kind(name) {
            Some(kind) => config.instance.kind = kind,
            None => unknown_kind(entry, key, problems),
        }
    }
    if let Some(url) = entry
        .base_url
        .as_deref()
        .and_then(|text| base_url(text, key, problems))
    {
        config.instance.base_url = url;
    }
    if let Some(hosts) = &entry.hosts {
        config.instance.hosts = hosts
            .iter()
            .filter_map(|text| claim(text, key, problems))
            .collect();
    }
    if let Some(text) = &entry.connect_to {
        config.connect_to = text
            .parse()
            .map_err(|_| problems.add(&format!("{key}.connect-to"), format!("`{text}` is not IP:PORT")))
            .ok();
    }
    config.byok = entry.byok.unwrap_or(config.byok);
    overlay_key_header(config, entry, key, problems);
    config.websockets = entry.websockets.unwrap_or(config.websockets);
    let content = config.calls.content;
    config.calls = CallConfig::overlaid(entry, config.instance.kind, content, (key, problems));
    let keys_key = format!("{key}.keys");
    config.keys.extend(
        entry
            .keys
            .iter()
            .filter_map(|from| load_key(from, &keys_key, source, problems)),
    );
    overlay_patience(config, entry, key, problems);
    if config.byok == Byok::Deny && config.keys.is_empty() && entry.enabled != Some(false) {
        problems.add(&format!("{key}.byok"), "\"deny\" needs the gateway's own `keys`");
    }
}

fn overlay_key_header(config: &mut ProviderConfig, entry: &ProviderFile, key: &str, problems: &mut Problems) {
    let Some(text) = &entry.key_header else { return };
    let key = format!("{key}.key-header");
    if config.instance.kind.key_header() == KeyHeader::None {
        problems.add(&key, "this kind takes no keys of the gateway's");
    }
    match HeaderName::try_from(text.as_str()) {
        Ok(name) if headers::may_carry_a_key(&name) => config.key_header = Some(name),
        _ => problems.add(
            &key,
            format!("`{text}` is not a header that can carry a key, e.g. `api-key`"),
        ),
    }
}

fn overlay_patience(config: &mut ProviderConfig, entry: &ProviderFile, key: &str, problems: &mut Problems) {
    config.breaker = patience::rules(
        &entry.breaker,
        config.breaker,
        &format!("{key}.breaker"),
        problems,
    );
    config.retry = patience::retry(&entry.retry, config.retry, &format!("{key}.retry"), problems);
    config.fallback.clone_from(&entry.fallback);
    config.answer_429_locally = entry.answer_429_locally.unwrap_or(config.answer_429_locally);
}

fn unknown_kind(entry: &ProviderFile, key: &str, problems: &mut Problems) {
    let kind = entry.kind.as_deref().unwrap_or_default();
    let text = format!("`{kind}` is unknown: one of {}", kinds());
    let key = format!("{key}.kind");
    problems.add(&key, text);
}

fn kinds() -> String {
    providers::kind_names().collect::<Vec<_>>().join(", ")
}

fn base_url(text: &str, key: &str, problems: &mut Problems) -> Option<BaseUrl> {
    BaseUrl::parse(text)
        .map_err(|error| {
            problems.add(
                &format!("{key}.base-url"),
                format!("{error}: write e.g. \"https://host/v1\""),
            )
        })
        .ok()
}

fn claim(text: &str, key: &str, problems: &mut Problems) -> Option<HostClaim> {
    HostClaim::parse(text)
        .map_err(|error| {
            problems.add(
                &format!("{key}.hosts"),
                format!("{error}: write NAME or NAME:PORT"),
            )
        })
        .ok()
}

/// Reads one key. A problem names the variable or file, never what it holds.
pub(super) fn load_key(
    from: &KeyFile,
    key: &str,
    source: &Source,
    problems: &mut Problems,
) -> Option<KeyConfig> {
    from.load(source).map_err(|text| problems.add(key, text)).ok()
}

impl KeyFile {
    /// Reads the key.
    ///
    /// # Errors
    /// What is wrong with the variable or file, never what it holds.
    pub(super) fn load(&self, source: &Source) -> Result<KeyConfig, String> {
        let (secret, file) = match self {
            KeyFile::Literal(secret) => (checked(secret.clone())?, None),
            KeyFile::Env(name) => {
                let text = std::env::var(name).map_err(|_| format!("the variable `{name}` is not set"))?;
                (checked(Secret::new(text))?, None)
            }
            KeyFile::File(path) => {
                let path = source.beside(path);
                (read_key(&path)?, Some(path))
            }
        };
        Ok(KeyConfig { secret, file })
    }
}

/// Reads the key in the first line of a file.
///
/// # Errors
/// What is wrong with the file, never what it holds.
pub(crate) fn read_key(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    checked(Secret::new(text.lines().next().unwrap_or_default().trim()))
}

fn checked(secret: Secret) -> Result<Secret, String> {
    let sendable = !secret.expose().is_empty() && secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if sendable {
        Ok(secret)
    } else {
        Err("a key is empty or holds white space".to_owned())
    }
}
