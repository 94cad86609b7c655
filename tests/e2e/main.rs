//! End-to-end tests: the real program, started on free ports, between real clients and a fake provider that
//! speaks real TLS. Nothing leaves 127.0.0.1.
//!
//! `harness` starts the program and reads what it recorded, `fake` is the provider, `client` speaks as
//! clients do, `cases` is one realistic exchange per API. Every other module is one promise of the gateway;
//! `selfcheck` shows that the harness itself would notice a broken one.
//!
//! `cargo test --test e2e` needs nothing else. The checks with curl and with the official Python SDKs (made
//! ready by `tests/e2e/python/setup.sh`) say aloud when they are skipped, and fail instead where `CI=true`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails; these lints' exemption for tests does not reach its helpers"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "there is no App here: the harness has its own tasks and makes certificates for the present"
)]

mod api;
mod beside;
mod breaker;
mod bytes;
mod ca;
mod cases;
mod chain;
mod client;
mod clients;
mod corporate;
mod crash;
mod doctor;
mod env;
mod errors;
mod events;
mod export;
mod fake;
mod flood;
mod forward;
mod framing;
mod govern;
mod handshake;
mod harness;
mod indexing;
#[path = "../interop/mod.rs"]
mod interop;
mod keys;
mod live;
mod load;
mod metrics;
mod oidc;
mod organisation;
mod otlp;
mod outage;
mod pace;
mod page;
mod parked;
mod policy;
#[path = "../support/postgres.rs"]
mod postgres;
mod proxy;
mod raw;
mod refusals;
mod reload;
mod replicas;
mod retry;
mod run;
mod search;
mod secrets;
mod secure;
mod selfcheck;
mod semantics;
mod shutdown;
mod sinks;
mod sockets;
mod stalled;
#[cfg(target_os = "linux")]
mod systemd;
mod tcp;
mod troubles;
mod trust;
mod tunnels;
mod unchanged;
mod usage;
mod websocket;
mod workspace;
