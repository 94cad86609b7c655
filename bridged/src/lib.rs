//! The bridge daemon: takes AI requests, records them, sends them to their providers and relays the replies.
//!
//! In come requests with a known sender (from `proxyd`, or on the bridge's own listener); out go the same
//! bytes to the provider and the provider's own bytes to the client, with a record beside them. Nothing here
//! knows one provider from another: that is in the crate `providers`. Refused here: certificates and CONNECT.
//!
//! The path of a request is [`exchange::exchange`], top to bottom.

pub mod activity;
pub mod admission;
pub mod api;
pub mod app;
pub mod body;
pub mod breaker;
pub mod bridge;
pub mod cidr;
pub mod clock;
pub mod config;
pub mod copy;
mod credential;
mod drain;
pub mod exchange;
pub mod export;
pub mod fingerprint;
pub mod headers;
mod hex;
pub mod identity;
mod ledger;
pub mod metrics;
pub mod monitor;
mod news;
mod outage;
pub mod prefixed;
pub mod record;
pub mod refusal;
pub mod relay;
pub mod reload;
pub mod secret;
pub mod serve;
pub mod sink;
pub mod snapshot;
mod splice;
pub mod store;
pub mod token;
pub mod troubles;
pub mod upstream;
pub mod websocket;
pub mod wire;
