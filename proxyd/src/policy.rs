//! Who may go where: the same rules for CONNECT and for absolute-form requests.
//!
//! In comes a target with the request's credentials; out goes what may be done, or a refusal. A claimed host
//! is never tunnelled, and never reached without TLS.

use std::net::IpAddr;

use bridged::identity::{self, Identity};
use bridged::token;
use http::HeaderMap;

use crate::authority::{Authority, AuthorityError};
use crate::config::TunnelPolicy;
use crate::proxy::Proxy;
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::slots::Caller;

/// What may be done.
#[derive(Debug)]
pub(crate) enum Pass {
    /// The host is claimed: decrypt, for this user.
    Intercept(Identity),
    /// The host is someone else's: carry bytes, on this caller's account.
    Carry(Caller),
}

/// Judges a CONNECT.
pub(crate) async fn judge(
    (proxy, rules): (&Proxy, &Rules),
    target: &Authority,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Pass, Refusal> {
    check_lists(rules, target)?;
    let registry = &rules.snapshot.providers.registry;
    if registry.claiming(&target.host, target.port.get()).is_some() {
        return Ok(Pass::Intercept(
            identity::at_proxy(&proxy.app, headers, peer).await?,
        ));
    }
    caller((proxy, rules), target, headers, peer)
        .await
        .map(Pass::Carry)
}

/// Judges a request without TLS.
pub(crate) async fn judge_clear(
    (proxy, rules): (&Proxy, &Rules),
    target: &Authority,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Caller, Refusal> {
    check_lists(rules, target)?;
    let mut claims = rules.snapshot.providers.registry.claimed_hosts();
    // On any port: what is claimed gets keys, and keys never go in clear.
    if claims.any(|claim| *claim.host == *target.host) {
        return Err(Refusal::InClear);
    }
    caller((proxy, rules), target, headers, peer).await
}

fn check_lists(rules: &Rules, target: &Authority) -> Result<(), Refusal> {
    if !rules.config.allowed_ports.contains(&target.port.get()) {
        return Err(Refusal::Port);
    }
    // Written where the host should be; it must go neither to a name server nor to another proxy.
    if token::appears_in(target.host.as_bytes()) {
        return Err(AuthorityError::Host.into());
    }
    if rules.config.deny_hosts.contains(target) {
        return Err(Refusal::Denied);
    }
    Ok(())
}

async fn caller(
    (proxy, rules): (&Proxy, &Rules),
    target: &Authority,
    headers: &HeaderMap,
    peer: IpAddr,
) -> Result<Caller, Refusal> {
    match rules.config.tunnel {
        TunnelPolicy::Open => return Ok(Caller::Address(peer)),
        TunnelPolicy::Deny if !rules.config.allow_hosts.contains(target) => return Err(Refusal::Host),
        TunnelPolicy::Deny | TunnelPolicy::Authenticated => {}
    }
    Ok(Caller::User(
        identity::at_proxy(&proxy.app, headers, peer).await?.user,
    ))
}
