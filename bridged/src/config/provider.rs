//! `[[provider]]`: built-in instances with the operator's entries laid over them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use providers::{BaseUrl, HostClaim, Instance, ProviderName, Registry};
use serde::Deserialize;

use super::calls::{CallConfig, OnAbortFile};
use super::source::{Problems, Source};
use super::{ByteSize, Content, Span};
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
    /// Whether WebSockets are relayed: `true` all, `false` none; left out, all but those of AI calls, which would
    /// go unrecorded. A refusal has the status on which the clients fall back to plain requests.
    pub websockets: Option<bool>,
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

/// Where a key of the gateway's own comes from.
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

/// Which WebSockets an instance relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSockets {
    /// None.
    None,
    /// Those that carry no AI calls: what passes through a socket is not recorded.
    Unbridged,
    /// Every one, recorded or not.
    All,
}

/// A provider instance that runs.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Name, kind, base URL, claimed hosts.
    pub instance: Instance,
    /// The address dialled in place of the host's own.
    pub connect_to: Option<SocketAddr>,
    /// Whose credentials it takes.
    pub byok: Byok,
    /// The gateway's own keys.
    pub keys: Vec<Secret>,
    /// Which WebSockets are relayed.
    pub websockets: WebSockets,
    /// How its AI calls are read.
    pub calls: CallConfig,
}

/// Lays `entries` over the built-in instances and checks the whole.
pub(super) fn build(
    entries: &[ProviderFile],
    content: Content,
    source: &Source,
    problems: &mut Problems,
) -> Vec<ProviderConfig> {
    let mut built: Vec<(ProviderConfig, bool)> = providers::builtin()
        .into_iter()
        .map(|instance| (bare(instance, content), true))
        .collect();
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
                if let Some(config) = added(entry, &key, (content, source), problems) {
                    built.push((config, enabled));
                }
            }
        }
    }
    let running: Vec<ProviderConfig> = built
        .into_iter()
        .filter(|(_, on)| *on)
        .map(|(config, _)| config)
        .collect();
    if let Err(found) = Registry::new(running.iter().map(|config| config.instance.clone()).collect()) {
        for problem in found {
            problems.add("provider", problem);
        }
    }
    running
}

fn bare(instance: Instance, content: Content) -> ProviderConfig {
    ProviderConfig {
        calls: CallConfig::default_of(instance.kind, content),
        instance,
        connect_to: None,
        byok: Byok::Allow,
        keys: Vec::new(),
        websockets: WebSockets::Unbridged,
    }
}

fn added(
    entry: &ProviderFile,
    key: &str,
    (content, source): (Content, &Source),
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
    let mut config = bare(instance, content);
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
    config.websockets = match entry.websockets {
        Some(true) => WebSockets::All,
        Some(false) => WebSockets::None,
        None => config.websockets,
    };
    let content = config.calls.content;
    config.calls = CallConfig::overlaid(entry, config.instance.kind, content, (key, problems));
    config.keys.extend(
        entry
            .keys
            .iter()
            .filter_map(|from| load_key(from, key, source, problems)),
    );
    if config.byok == Byok::Deny && config.keys.is_empty() && entry.enabled != Some(false) {
        problems.add(&format!("{key}.byok"), "\"deny\" needs the gateway's own `keys`");
    }
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
fn load_key(from: &KeyFile, key: &str, source: &Source, problems: &mut Problems) -> Option<Secret> {
    let key = format!("{key}.keys");
    let found = match from {
        KeyFile::Literal(secret) => Ok(secret.clone()),
        KeyFile::Env(name) => std::env::var(name)
            .map(Secret::new)
            .map_err(|_| format!("the variable `{name}` is not set")),
        KeyFile::File(path) => {
            let path = source.beside(path);
            std::fs::read_to_string(&path)
                .map(|text| Secret::new(text.lines().next().unwrap_or_default().trim()))
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))
        }
    };
    let checked = found.and_then(|secret| {
        let sendable =
            !secret.expose().is_empty() && secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
        if sendable {
            Ok(secret)
        } else {
            Err("a key is empty or holds white space".to_owned())
        }
    });
    checked.map_err(|text| problems.add(&key, text)).ok()
}
