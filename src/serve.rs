//! `causeway serve`: a gateway until a signal ends it.

use std::path::Path;

use serde_json::json;

use crate::cli::{Globals, ServeOptions};
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::{config, data_dir, env, reload};

pub(crate) async fn run(globals: &Globals, options: &ServeOptions) -> Result<(), Failure> {
    let config = config::load(globals)?;
    data_dir::make(&config.data_dir)?;
    let _lock = data_dir::lock(&config.data_dir)?;
    let data_dir = config.data_dir.clone();
    let mut signals = Signals::listen()?;
    let gateway = Gateway::start(config).await?;
    greet(&gateway);
    if let Some(path) = &options.ready_file {
        announce(path, &gateway, &data_dir)?;
    }
    reload::until_end(&gateway, globals, &mut signals).await;
    signals.end_on_next();
    tracing::info!("stopping: requests in flight may end; a second signal ends at once");
    gateway.stop().await;
    Ok(())
}

fn greet(gateway: &Gateway) {
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
        for line in env::exports(None, addresses.proxy, &gateway.ca, &gateway.token_file) {
            println!("  {line}");
        }
        println!(
            "\nThen `causeway sessions` shows what was recorded. For other clients: `causeway env --help`."
        );
    }
}

/// Tells other programs that everything listens: the file appears whole.
fn announce(path: &Path, gateway: &Gateway, data_dir: &Path) -> Result<(), Failure> {
    let addresses = &gateway.addresses;
    let text = json!({
        "pid": std::process::id(),
        "proxy": addresses.proxy,
        "proxy_tls": addresses.proxy_tls,
        "bridge": addresses.bridge,
        "metrics": addresses.metrics,
        "data_dir": data_dir,
    });
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text.to_string())
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|error| Failure::because(&format!("{} cannot be written", path.display()), error))
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
