//! Finding the gateway for a client, or starting a private one.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::registry::Registry;
use crate::cli::Globals;
use crate::data_dir;
use crate::failure::Failure;
use crate::running::{self, Running};

/// How long a gateway may take to start, or the one before it to end.
const PATIENCE: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(20);
/// What a private gateway has to say, in the data folder.
pub(super) const LOG: &str = "private-gateway.log";

/// The gateway on `data_dir` that this process may use until it ends.
pub(super) async fn attach(globals: &Globals, data_dir: &Path) -> Result<Running, Failure> {
    let found = tokio::time::timeout(PATIENCE, search(globals, data_dir)).await;
    found.unwrap_or_else(|_| {
        Err(Failure::new(format!(
            "the gateway on {} does not get ready: see {LOG} there, or `causeway doctor`",
            data_dir.display()
        )))
    })
}

async fn search(globals: &Globals, data_dir: &Path) -> Result<Running, Failure> {
    let mut started: Option<Child> = None;
    loop {
        if let Some(running) = join(data_dir).await? {
            return Ok(running);
        }
        let is_taken = data_dir::is_taken(data_dir);
        match started.as_mut().map(Child::try_wait) {
            None if !is_taken => started = Some(start(globals, data_dir)?),
            // Another one may have been quicker.
            Some(Ok(Some(_))) if !is_taken => return Err(failed(data_dir)),
            _ => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Joins the gateway that is there and ready.
async fn join(data_dir: &Path) -> Result<Option<Running>, Failure> {
    let failed = |error| Failure::because("the clients of the gateway cannot be counted", error);
    let Some(running) = running::addresses(data_dir) else {
        return Ok(None);
    };
    if !running.private {
        return Ok(running.is_ready().await.then_some(running));
    }
    let registry = Registry::open(data_dir).map_err(failed)?;
    let locked = registry.lock().map_err(failed)?;
    // What was announced before the lock was taken may have ended since.
    let Some(running) = running::addresses(data_dir) else {
        return Ok(None);
    };
    if !running.is_ready().await {
        return Ok(None);
    }
    locked.join().map_err(failed)?;
    Ok(Some(running))
}

#[cfg(unix)]
fn start(globals: &Globals, data_dir: &Path) -> Result<Child, Failure> {
    use std::os::unix::process::CommandExt as _;
    let failed = |error: io::Error| Failure::because("a private gateway cannot be started", error);
    let log = File::create(data_dir.join(LOG)).map_err(failed)?;
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("--data-dir").arg(data_dir);
    if let Some(config) = &globals.config {
        command.arg("--config").arg(config);
    }
    command.arg("private-gateway");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // In a group of its own: what the terminal sends to the client is not for the gateway.
    command.process_group(0);
    command.spawn().map_err(failed)
}

#[cfg(not(unix))]
fn start(_globals: &Globals, _data_dir: &Path) -> Result<Child, Failure> {
    Err(Failure::new(
        "no gateway runs: start `causeway serve` first (a private gateway needs a Unix system)",
    ))
}

fn failed(data_dir: &Path) -> Failure {
    let log = std::fs::read_to_string(data_dir.join(LOG)).unwrap_or_default();
    let lines: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
    let last = lines.last().map_or("it left no message", |line| *line);
    let last = last.strip_prefix("causeway: ").unwrap_or(last);
    Failure::new(format!("a private gateway cannot be started: {last}"))
}
