//! The intercepting proxy: takes `CONNECT` from AI clients, decrypts the connections to hosts that a provider
//! claims and hands their requests to the bridge; every other host gets a blind tunnel, if policy allows.
//!
//! A connection goes through `front` (what is asked for) and `policy` (who may), then [`intercept`] (TLS, HTTP),
//! `dial` and `tunnel` (blind bytes), `forward` (plain HTTP) or `page` (the proxy itself). Invariants: a claimed
//! host is never tunnelled, nor reached in clear; nothing reaches an address
//! that [`guard`] denies; a decrypted request never goes to another host than the one of its CONNECT. Refused
//! here: records, credentials of upstreams, knowledge of any provider.

pub mod authority;
pub mod config;
mod dial;
mod forward;
mod front;
pub mod guard;
pub mod hosts;
pub mod intercept;
mod listeners;
mod metrics;
mod page;
mod policy;
mod proxy;
mod refusal;
mod reply;
mod rules;
mod slots;
mod tls;
mod troubles;
mod tunnel;
pub mod upstream_proxy;
mod watched;
mod wire;

pub use listeners::Listeners;
pub use proxy::{Proxy, ProxyError};
pub use rules::Prepared;
