//! The CA of this installation: made on the first start, loaded after that, checked against the claimed hosts.

use std::time::{Duration, SystemTime};

use certs::{Authority, CaProfile, LeafName, Origin};

use crate::config::Config;
use crate::failure::Failure;

/// From when on a start warns that the CA is about to expire.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Loads the CA, or makes one where neither file exists.
pub(crate) fn load_or_create(config: &Config, now: SystemTime) -> Result<(Authority, Origin), Failure> {
    let hosts = claimed(config);
    let name = common_name();
    let profile = profile(config, &name, &hosts);
    let (cert, key) = (&config.proxy.ca_cert, &config.proxy.ca_key);
    let (authority, origin) = certs::files::load_or_create(cert, key, &profile, now)
        .map_err(|error| Failure::because("the CA cannot be used", error))?;
    check(&authority, &hosts, now)?;
    Ok((authority, origin))
}

/// Makes a CA; existing files are not overwritten.
pub(crate) fn create(config: &Config, now: SystemTime) -> Result<Authority, Failure> {
    let hosts = claimed(config);
    let name = common_name();
    let (cert, key) = (&config.proxy.ca_cert, &config.proxy.ca_key);
    certs::files::create(cert, key, &profile(config, &name, &hosts), now)
        .map_err(|error| Failure::because("no CA was made", error))
}

/// Loads the CA that must exist.
pub(crate) fn load(config: &Config, now: SystemTime) -> Result<Authority, Failure> {
    let (cert, key) = (&config.proxy.ca_cert, &config.proxy.ca_key);
    if !cert.exists() && !key.exists() {
        return Err(Failure::new(format!(
            "there is no CA at {}: run `causeway ca init`",
            cert.display()
        )));
    }
    let authority = certs::files::load(cert, key, now)
        .map_err(|error| Failure::because("the CA cannot be used", error))?;
    check(&authority, &claimed(config), now)?;
    Ok(authority)
}

fn profile<'a>(config: &Config, common_name: &'a str, hosts: &'a [LeafName]) -> CaProfile<'a> {
    CaProfile {
        common_name,
        only: config.proxy.name_constraints.then_some(hosts),
    }
}

/// A CA that cannot sign for a claimed host would break that host's clients one by one; better not to start.
fn check(authority: &Authority, hosts: &[LeafName], now: SystemTime) -> Result<(), Failure> {
    let excluded: Vec<String> = hosts
        .iter()
        .filter(|host| !authority.permits(host))
        .map(ToString::to_string)
        .collect();
    if !excluded.is_empty() {
        return Err(Failure::usage(format!(
            "the CA's name constraints exclude {}: move its two files away, run `causeway ca init` and have clients \
             trust the new one, or stop claiming these hosts",
            excluded.join(", ")
        )));
    }
    let left = authority.not_after().duration_since(now).unwrap_or_default();
    if left < WARN_BEFORE {
        tracing::warn!(
            days = left.as_secs() / 86_400,
            "the CA expires soon: make a new one and distribute it"
        );
    }
    Ok(())
}

fn claimed(config: &Config) -> Vec<LeafName> {
    let hosts = config
        .bridge
        .providers
        .iter()
        .flat_map(|provider| &provider.instance.hosts);
    let mut names: Vec<LeafName> = hosts
        .filter_map(|claim| LeafName::parse(&claim.host).ok())
        .collect();
    names.sort_by_key(ToString::to_string);
    names.dedup();
    names
}

/// The CA's name tells the machine, so that two installations do not look alike in a trust store.
fn common_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("Causeway CA {}", host.trim()).trim_end().to_owned()
}
