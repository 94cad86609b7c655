//! A private gateway: on free ports, for as long as a client that `causeway run` started lives.
//!
//! It uses the data folder of its user, so that CA, token and records are the same as under `causeway serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::registry::Registry;
use crate::cli::Globals;
use crate::config::{self, Config};
use crate::data_dir;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::running::Running;
use crate::serve::{Signal, Signals};

/// How often it looks whether anyone is left.
const LOOK: Duration = Duration::from_millis(200);
/// How long the first client may take to come.
const FIRST: Duration = Duration::from_secs(15);

pub(crate) async fn serve(globals: &Globals) -> Result<(), Failure> {
    let config = on_free_ports(config::load(globals)?);
    let data_dir = config.data_dir.clone();
    let _lock = data_dir::lock(&data_dir)?;
    let registry = Registry::open(&data_dir).map_err(uncounted)?;
    let mut signals = Signals::listen()?;
    let gateway = Gateway::start(config).await?;
    let announced = Running::of(&gateway, &data_dir, true).announce()?;
    let begun = Instant::now();
    let mut expected = true;
    loop {
        let locked = registry.lock().map_err(uncounted)?;
        let is_used = locked.is_used().map_err(uncounted)?;
        expected &= !is_used && begun.elapsed() < FIRST;
        if !is_used && !expected {
            // Before anyone can join again.
            drop(announced);
            break;
        }
        drop(locked);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            signal = signals.next() => if signal == Signal::End { break },
        }
    }
    gateway.stop().await;
    Ok(())
}

fn on_free_ports(mut config: Config) -> Config {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.proxy.listen = free;
    config.proxy.tls = None;
    config.bridge.listen = free;
    config.bridge.metrics_listen = free;
    config
}

fn uncounted(error: std::io::Error) -> Failure {
    Failure::because("the clients of the gateway cannot be counted", error)
}
