//! Logs go to the standard error stream.
//!
//! A bare level (`debug`) is for this project's own crates; others stay at `warn`, because at lower levels HTTP
//! libraries describe what passes. Full directives (`h2=debug,info`) are taken as they are.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const OWN: [&str; 5] = ["causeway", "bridged", "proxyd", "providers", "certs"];

/// Starts logging; `directives` is the value of `--log`.
pub(crate) fn start(directives: Option<&str>) {
    let ansi = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    tracing_subscriber::registry().with(lines).with(filter(directives.unwrap_or("info"))).init();
}

fn filter(directives: &str) -> Targets {
    if let Ok(level) = directives.parse::<LevelFilter>() {
        let others = level.min(LevelFilter::WARN);
        return Targets::new().with_default(others).with_targets(OWN.map(|target| (target, level)));
    }
    directives.parse().unwrap_or_else(|_| filter("info"))
}
