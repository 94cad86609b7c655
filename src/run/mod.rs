//! `causeway run -- CMD …`: a client with everything it needs in its environment, through a gateway.
//!
//! The client takes this process's place (`exec`), so that exit code, signals, terminal and standard streams are its
//! own and nothing stands between it and its caller. Where no gateway runs on the data folder, a private one is
//! started beside it (`private`), which ends with its last client. Prints nothing unless something fails.

mod attach;
mod environment;
pub(crate) mod private;
mod registry;

use std::ffi::OsStr;
use std::io;
use std::process::Command;

use crate::cli::{Globals, RunOptions};
use crate::clients::place::Place;
use crate::failure::Failure;
use crate::{config, data_dir};

/// What shells answer for a command that is not there, and for one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;

pub(crate) async fn run(globals: &Globals, options: &RunOptions) -> Result<(), Failure> {
    let Some((program, arguments)) = options.command.split_first() else {
        return Err(Failure::usage("nothing to run: causeway run -- COMMAND …"));
    };
    let config = config::load(globals)?;
    data_dir::make(&config.data_dir)?;
    let running = attach::attach(globals, &config.data_dir).await?;
    let place = Place::new(&config, running.proxy, running.bridge);
    let variables = environment::of(&place, |name| std::env::var_os(name))?;
    if options.verbose {
        let kind = if running.private {
            "a private gateway"
        } else {
            "the gateway"
        };
        eprintln!("causeway: {kind} at {} (process {})", running.proxy, running.pid);
        eprintln!("causeway: data in {}", running.data_dir.display());
        for (name, value) in &variables {
            eprintln!("causeway: {name}={}", environment::shown(value));
        }
    }
    let mut command = Command::new(program);
    command.args(arguments).envs(variables);
    Err(failure(program, &replace(command)))
}

/// Becomes `command`; comes back only if that cannot be.
#[cfg(unix)]
fn replace(mut command: Command) -> io::Error {
    std::os::unix::process::CommandExt::exec(&mut command)
}

/// Runs `command` and ends with its exit code; comes back only if it cannot be started.
#[cfg(not(unix))]
fn replace(mut command: Command) -> io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

fn failure(program: &OsStr, error: &io::Error) -> Failure {
    let name = program.display();
    match error.kind() {
        io::ErrorKind::NotFound => Failure::new(format!("{name}: command not found")).with_code(NOT_FOUND),
        _ => Failure::because(&format!("{name} cannot be run"), error).with_code(NOT_RUNNABLE),
    }
}
