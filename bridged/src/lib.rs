//! The bridge daemon.
mod clock;
pub mod config;
mod headers;
mod identity;
mod metrics;
mod record;
mod secret;
mod store;
mod token;
