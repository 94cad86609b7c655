//! The `causeway` program: parses the command line, runs one command, exits.
//!
//! Exit codes: 0 fine, 1 failed, 2 usage or configuration. Each command is one file; what daemons do is in the
//! crates `bridged` and `proxyd`.

mod audit;
mod authority;
mod bundle;
mod ca;
mod check;
mod cli;
mod clients;
mod config;
mod data_dir;
mod demo;
mod doctor;
mod env;
mod export;
mod failure;
mod gateway;
mod logging;
mod ports;
mod probe;
mod records;
mod reload;
mod retention;
mod run;
mod running;
mod serve;
mod systemd;
mod table;
mod token;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Usage errors end the process here, with code 2.
    let cli = Cli::parse();
    logging::start(cli.log.as_deref());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because("the runtime cannot be started", error))?;
    let globals = cli.globals;
    let outcome = runtime.block_on(async move {
        match cli.command.unwrap_or_default() {
            Command::Serve(options) => serve::run(&globals, &options).await,
            Command::Demo(options) => demo::run(&options).await,
            Command::Ca(command) => ca::run(&globals, &command),
            Command::Token(command) => token::run(&globals, command).await,
            Command::Run(options) => run::run(&globals, &options).await,
            Command::PrivateGateway => run::private::serve(&globals).await,
            Command::Env(options) => env::run(&globals, &options),
            Command::Doctor(options) => doctor::run(&globals, &options).await,
            Command::Check => check::run(&globals),
            Command::Sessions(options) => records::sessions(&globals, options).await,
            Command::Show(options) => records::show(&globals, &options).await,
            Command::Export(options) => export::run(&globals, options).await,
            Command::Audit(command) => audit::run(&globals, command).await,
            Command::Vacuum => retention::vacuum(&globals).await,
            Command::Erase { user } => retention::erase(&globals, user).await,
        }
    });
    // What has not ended by now was given its time; a thread that waits for it must not hold up the exit.
    runtime.shutdown_background();
    outcome
}
