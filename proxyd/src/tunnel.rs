//! Blind tunnels: bytes both ways until both sides have ended.
//!
//! Nothing is read into: a server may speak first, and one direction may end before the other (half-close).

use std::time::Duration;

use bridged::copy;

use crate::front::Client;
use crate::proxy::Proxy;
use crate::watched::Watched;
use crate::wire::Wire;

/// Carries bytes both ways until both sides have ended, or nothing has moved for `idle`.
pub(crate) async fn carry(proxy: &Proxy, mut client: Client, upstream: Wire, idle: Duration) {
    let metrics = &proxy.metrics;
    let mut upstream = Watched::new(upstream, metrics);
    let activity = upstream.activity();
    metrics.tunnels_open.increment(1.0);
    tokio::select! {
        ended = copy::both_ways(&mut client, &mut upstream) => {
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "a tunnel broke");
            }
        }
        () = activity.silent_for(idle) => tracing::debug!("a tunnel fell silent"),
        () = proxy.app.stopping.cancelled() => {}
    }
    metrics.tunnels_open.decrement(1.0);
}
