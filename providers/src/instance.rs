//! A provider instance: a kind with a name, a base URL and the hosts it claims in proxy mode.
//!
//! The types here are proof: a `ProviderName`, `BaseUrl` or `HostClaim` exists only if its text was valid.

mod url;

use std::fmt;

pub use url::{BaseUrl, BaseUrlError, HostClaim, HostClaimError, Scheme};
pub(crate) use url::{normal_host, write_host, write_origin};

use crate::kind::{Kind, kind};

/// An instance's name: `[a-z0-9]+(-[a-z0-9]+)*`, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderName(String);

/// Why a text is no provider name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderNameError {
    /// Empty or longer than [`ProviderName::MAX`].
    #[error("a provider name has 1 to 64 characters")]
    Length,
    /// Not words of lower-case letters and digits joined by single hyphens.
    #[error("a provider name is lower-case letters and digits, in words joined by single hyphens")]
    Form,
}

impl ProviderName {
    /// The longest name in bytes.
    pub const MAX: usize = 64;

    /// Checks a name.
    ///
    /// # Errors
    /// If the text has another form or is too long.
    pub fn parse(text: &str) -> Result<ProviderName, ProviderNameError> {
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if text.is_empty() || text.len() > Self::MAX {
            return Err(ProviderNameError::Length);
        }
        if !text.split('-').all(word) {
            return Err(ProviderNameError::Form);
        }
        Ok(ProviderName(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named upstream.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name in routes, labels and records.
    pub name: ProviderName,
    /// Its protocol.
    pub kind: &'static dyn Kind,
    /// Where base-URL requests go, and redirected ones.
    pub base_url: BaseUrl,
    /// The hosts it claims in proxy mode.
    pub hosts: Vec<HostClaim>,
}

impl PartialEq for Instance {
    fn eq(&self, other: &Instance) -> bool {
        let Instance {
            name,
            kind,
            base_url,
            hosts,
        } = self;
        *name == other.name
            && kind.name() == other.kind.name()
            && *base_url == other.base_url
            && *hosts == other.hosts
    }
}

impl Instance {
    /// Whether the operator redirects the claimed hosts: then bridged requests go to the base URL instead.
    #[must_use]
    pub fn redirects(&self) -> bool {
        !self.hosts.is_empty()
            && !self
                .hosts
                .iter()
                .any(|claim| claim.covers(&self.base_url.host, self.base_url.port))
    }
}

/// One line of the built-in table: name, kind, base URL, claimed hosts.
type BuiltIn = (&'static str, &'static str, &'static str, &'static [&'static str]);

const BUILT_IN: &[BuiltIn] = &[
    (
        "openai",
        "openai",
        "https://api.openai.com/v1",
        &["api.openai.com"],
    ),
    (
        "chatgpt",
        "openai",
        "https://chatgpt.com/backend-api/codex",
        &["chatgpt.com"],
    ),
    (
        "copilot",
        "copilot",
        "https://api.individual.githubcopilot.com",
        &[
            "api.individual.githubcopilot.com",
            "proxy.individual.githubcopilot.com",
            "api.githubcopilot.com",
            "copilot-proxy.githubusercontent.com",
        ],
    ),
    (
        "copilot-business",
        "copilot",
        "https://api.business.githubcopilot.com",
        &[
            "api.business.githubcopilot.com",
            "proxy.business.githubcopilot.com",
        ],
    ),
    (
        "copilot-enterprise",
        "copilot",
        "https://api.enterprise.githubcopilot.com",
        &[
            "api.enterprise.githubcopilot.com",
            "proxy.enterprise.githubcopilot.com",
        ],
    ),
    (
        "anthropic",
        "anthropic",
        "https://api.anthropic.com",
        &["api.anthropic.com"],
    ),
];

/// The instances that exist without any configuration.
#[must_use]
pub fn builtin() -> Vec<Instance> {
    let made: Vec<Instance> = BUILT_IN.iter().filter_map(build).collect();
    debug_assert_eq!(made.len(), BUILT_IN.len(), "every built-in instance is valid");
    made
}

fn build((name, of_kind, base_url, hosts): &BuiltIn) -> Option<Instance> {
    Some(Instance {
        name: ProviderName::parse(name).ok()?,
        kind: kind(of_kind)?,
        base_url: BaseUrl::parse(base_url).ok()?,
        hosts: hosts
            .iter()
            .map(|host| HostClaim::parse(host).ok())
            .collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hyphenated_words() {
        for name in ["openai", "a", "copilot-business", "x1-2-3", &"a".repeat(64)] {
            assert_eq!(ProviderName::parse(name).unwrap().as_str(), name);
        }
        for name in [
            "",
            "-",
            "a-",
            "-a",
            "a--b",
            "A",
            "a_b",
            "a.b",
            "ä",
            "a b",
            &"a".repeat(65),
        ] {
            assert!(ProviderName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn all_six_are_built_in_and_redirect_nothing() {
        let all = builtin();
        let names: Vec<_> = all.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "openai",
                "chatgpt",
                "copilot",
                "copilot-business",
                "copilot-enterprise",
                "anthropic"
            ]
        );
        for instance in &all {
            assert!(!instance.redirects(), "{}", instance.name);
        }
    }
}
