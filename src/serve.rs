//! `causeway serve`: a gateway until a signal ends it.

use crate::cli::{Globals, ServeOptions};
use crate::clients::place::Place;
use crate::config::Config;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::running::Running;
use crate::systemd::{Moment, Sockets};
use crate::{config, data_dir, env, reload, systemd};

pub(crate) async fn run(globals: &Globals, options: &ServeOptions) -> Result<(), Failure> {
    let sockets = Sockets::inherited()?;
    let config = config::load(globals)?;
    data_dir::make(&config.data_dir)?;
    let _lock = data_dir::lock(&config.data_dir)?;
    let data_dir = config.data_dir.clone();
    let mut signals = Signals::listen()?;
    let gateway = Gateway::start_on(config.clone(), sockets).await?;
    greet(&gateway, &config);
    let running = Running::of(&gateway, &data_dir, false);
    let _announced = running.announce()?;
    if let Some(path) = &options.ready_file {
        running.write(path)?;
    }
    systemd::notify(Moment::Ready);
    reload::until_end(&gateway, globals, &mut signals).await;
    signals.end_on_next();
    systemd::notify(Moment::Stopping);
    tracing::info!("stopping: requests in flight may end; a second signal ends at once");
    gateway.stop().await;
    Ok(())
}

fn greet(gateway: &Gateway, config: &Config) {
    let addresses = &gateway.addresses;
    println!("Causeway is ready.\n");
    println!("  proxy    http://{}", addresses.proxy);
    if let Some(address) = addresses.proxy_tls {
        println!("           https://{address}");
    }
    println!("  bridge   http://{}", addresses.bridge);
    println!("  metrics  http://{}/metrics", addresses.metrics);
    println!("  CA       {}", gateway.ca.certificate.display());
    println!("           SHA-256 {}", gateway.ca.fingerprint);
    println!("  token    {}\n", gateway.token_file.display());
    if gateway.is_first {
        println!("Paste this into a shell and start your AI client there:\n");
        for line in env::exports(&Place::new(config, addresses.proxy, addresses.bridge)) {
            println!("  {line}");
        }
        println!(
            "\nThen `causeway sessions` shows what was recorded. For other clients: `causeway env --help`."
        );
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Read the files again (SIGHUP).
    Reload,
    /// End (SIGINT, SIGTERM).
    End,
}

/// The signals that a gateway heeds.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn listen() -> Result<Signals, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error| Failure::because("signals cannot be received", error);
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            hang_up: signal(SignalKind::hangup()).map_err(failed)?,
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn listen() -> Result<Signals, Failure> {
        Ok(Signals {})
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => Signal::End,
            _ = self.terminate.recv() => Signal::End,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }

    /// Waits for the next one.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> Signal {
        let _ = tokio::signal::ctrl_c().await;
        Signal::End
    }

    /// Lets the next signal to end do so at once.
    pub(crate) fn end_on_next(mut self) {
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the process and must not delay the end"
        )]
        tokio::spawn(async move {
            while self.next().await == Signal::Reload {}
            std::process::exit(1);
        });
    }
}
