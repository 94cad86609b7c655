//! The set of provider instances, found by host or by name in constant time.
//!
//! A registry is consistent: names are unique and no two instances claim the same host and port. Routing itself is
//! in [`crate::route`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::instance::normal_host;
use crate::instance::{HostClaim, Instance, ProviderName};

/// The provider instances of one configuration.
#[derive(Debug)]
pub struct Registry {
    instances: Vec<Arc<Instance>>,
    by_name: HashMap<String, usize>,
    by_host: HashMap<String, Vec<Owner>>,
}

/// Who claims a host, on which port.
#[derive(Clone, Copy, Debug)]
struct Owner {
    port: Option<u16>,
    index: usize,
}

/// Why instances do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryProblem {
    /// Two instances have the same name.
    #[error("two providers are named `{name}`")]
    DuplicateName {
        /// The name.
        name: ProviderName,
    },
    /// Two instances claim the same host and port.
    #[error("providers `{first}` and `{second}` both claim the host `{claim}`")]
    HostClaimedTwice {
        /// The later of the two claims.
        claim: HostClaim,
        /// The instance that claimed it first.
        first: ProviderName,
        /// The instance that claimed it again.
        second: ProviderName,
    },
}

impl Registry {
    /// Puts instances together.
    ///
    /// # Errors
    /// Every duplicate name and every host claimed twice, all at once.
    pub fn new(instances: Vec<Instance>) -> Result<Registry, Vec<RegistryProblem>> {
        let mut registry = Registry {
            instances: Vec::new(),
            by_name: HashMap::new(),
            by_host: HashMap::new(),
        };
        let mut problems = Vec::new();
        for instance in instances {
            registry.add(instance, &mut problems);
        }
        if problems.is_empty() {
            Ok(registry)
        } else {
            Err(problems)
        }
    }

    fn add(&mut self, instance: Instance, problems: &mut Vec<RegistryProblem>) {
        let index = self.instances.len();
        let instance = Arc::new(instance);
        if self.by_name.contains_key(instance.name.as_str()) {
            problems.push(RegistryProblem::DuplicateName {
                name: instance.name.clone(),
            });
        } else {
            self.by_name.insert(instance.name.as_str().to_owned(), index);
        }
        for claim in &instance.hosts {
            problems.extend(self.conflict(claim, &instance));
            self.by_host.entry(claim.host.clone()).or_default().push(Owner {
                port: claim.port,
                index,
            });
        }
        self.instances.push(instance);
    }

    /// Another instance's claim that meets this one.
    fn conflict(&self, claim: &HostClaim, claimant: &Instance) -> Option<RegistryProblem> {
        let owners = self.by_host.get(&claim.host)?;
        let other = owners.iter().find_map(|owner| {
            let meets = owner.port.is_none() || claim.port.is_none() || owner.port == claim.port;
            // A claimant's own index is not in the list yet, so what is found belongs to another instance.
            self.instances.get(owner.index).filter(|_| meets)
        })?;
        Some(RegistryProblem::HostClaimedTwice {
            claim: claim.clone(),
            first: other.name.clone(),
            second: claimant.name.clone(),
        })
    }

    /// All instances; routes refer to them by index.
    #[must_use]
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    /// The instance that claims this host, in any spelling, on this port.
    #[must_use]
    pub fn claiming(&self, host: &str, port: u16) -> Option<usize> {
        let owners = self.by_host.get(lower(normal_host(host)).as_ref())?;
        owners
            .iter()
            .find(|owner| owner.port.is_none_or(|own| own == port))
            .map(|owner| owner.index)
    }

    /// The instance of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Every host claimed by any instance.
    pub fn claimed_hosts(&self) -> impl Iterator<Item = &HostClaim> {
        self.instances.iter().flat_map(|instance| &instance.hosts)
    }
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{BaseUrl, builtin};
    use crate::kind::kind;

    fn instance(name: &str, hosts: &[&str]) -> Instance {
        Instance {
            name: ProviderName::parse(name).unwrap(),
            kind: kind("openai-compatible").unwrap(),
            base_url: BaseUrl::parse("https://llm.corp/v1").unwrap(),
            hosts: hosts.iter().map(|host| HostClaim::parse(host).unwrap()).collect(),
        }
    }

    #[test]
    fn claimed_hosts_are_found_in_any_spelling() {
        let registry = Registry::new(builtin()).unwrap();
        let name = |host, port| {
            registry
                .claiming(host, port)
                .map(|i| registry.instances()[i].name.as_str())
        };
        assert_eq!(name("api.openai.com", 443), Some("openai"));
        assert_eq!(name("API.OpenAI.com.", 8443), Some("openai"));
        assert_eq!(
            name("proxy.business.githubcopilot.com", 443),
            Some("copilot-business")
        );
        assert_eq!(name("copilot-proxy.githubusercontent.com", 443), Some("copilot"));
        assert_eq!(name("openai.com", 443), None);
        assert_eq!(name("", 443), None);
        assert_eq!(registry.claimed_hosts().count(), 11);
        assert_eq!(registry.named("anthropic"), Some(5));
        assert_eq!(registry.named("Anthropic"), None);
    }

    #[test]
    fn ports_divide_a_host() {
        let registry = Registry::new(vec![
            instance("a", &["llm.corp:8001"]),
            instance("b", &["llm.corp:8002"]),
        ])
        .unwrap();
        assert_eq!(registry.claiming("llm.corp", 8001), Some(0));
        assert_eq!(registry.claiming("llm.corp", 8002), Some(1));
        assert_eq!(registry.claiming("llm.corp", 443), None);
    }

    #[test]
    fn every_conflict_is_reported_at_once() {
        let problems = Registry::new(vec![
            instance("a", &["x.corp", "x.corp:443", "y.corp:1"]),
            instance("a", &[]),
            instance("b", &["x.corp:8443", "y.corp:2"]),
            instance("c", &["y.corp"]),
        ])
        .unwrap_err();
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "two providers are named `a`",
                "providers `a` and `b` both claim the host `x.corp:8443`",
                "providers `a` and `c` both claim the host `y.corp`",
            ]
        );
    }
}
