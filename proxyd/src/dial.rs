//! The way to a host that is not intercepted: directly, under the guard, or through the organisation's own proxy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::guard::Guard;
use crate::listeners::Listeners;
use crate::proxy::Proxy;
use crate::refusal::Refusal;
use crate::rules::Rules;
use crate::wire::Wire;

/// Deadline for look-up and connection together.
const DIAL: Duration = Duration::from_secs(10);
/// Time for an address that has another behind it: where IPv6 leads nowhere, IPv4 still gets its turn.
const ATTEMPT: Duration = Duration::from_secs(3);

/// A connection to the target for bytes of any kind.
pub(crate) async fn reach(proxy: &Proxy, rules: &Rules, target: &Authority) -> Result<Wire, Refusal> {
    match rules.chain_for(target, &proxy.listeners)? {
        Some(chain) => Box::pin(chain.tunnel(proxy, target)).await,
        None => direct(proxy, rules, target).await.map(Wire::from),
    }
}

/// Connects to the target itself; the guard judges each address before it is dialled.
pub(crate) async fn direct(proxy: &Proxy, rules: &Rules, target: &Authority) -> Result<TcpStream, Refusal> {
    let guarded = connect(Some(&rules.config.guard), &proxy.listeners, target);
    tokio::time::timeout(DIAL, guarded)
        .await
        .unwrap_or(Err(Refusal::Slow))
}

/// Connects to a target that the operator has configured: only a loop is refused.
pub(crate) async fn configured(proxy: &Proxy, target: &Authority) -> Result<TcpStream, Refusal> {
    connect(None, &proxy.listeners, target).await
}

async fn connect(guard: Option<&Guard>, own: &Listeners, target: &Authority) -> Result<TcpStream, Refusal> {
    let port = target.port.get();
    let addresses: Vec<SocketAddr> = match target.address {
        Some(address) => vec![SocketAddr::new(address, port)],
        None => tokio::net::lookup_host((&*target.host, port))
            .await
            .map_err(Refusal::Resolve)?
            .collect(),
    };
    if addresses.iter().any(|address| own.contain(*address)) {
        return Err(Refusal::Loop);
    }
    let allowed = |address: &SocketAddr| guard.is_none_or(|guard| guard.allows(address.ip()));
    let mut allowed = addresses.into_iter().filter(allowed).peekable();
    let mut last = Refusal::Address;
    while let Some(address) = allowed.next() {
        let limit = if allowed.peek().is_some() { ATTEMPT } else { DIAL };
        let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
        match connected.map(|tcp| tcp.and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))) {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = Refusal::Dial(error),
            Err(_) => last = Refusal::Slow,
        }
    }
    Err(last)
}
