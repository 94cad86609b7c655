//! The intercepting proxy: takes `CONNECT` from AI clients, decrypts the connections to hosts that a provider
//! claims and hands their requests to the bridge; every other host gets a blind tunnel, if policy allows.
//!
//! A connection goes through [`front`] (CONNECT, identity, policy), then [`intercept`] (TLS, HTTP) or
//! [`tunnel`] (dial, splice). Invariants: a claimed host is never tunnelled; a tunnel never reaches an address
//! that [`guard`] denies; a decrypted request never goes to another host than the one of its CONNECT. Refused
//! here: records, credentials of upstreams, knowledge of any provider.

pub mod authority;
pub mod config;
pub mod front;
pub mod guard;
pub mod intercept;
mod metrics;
mod prefixed;
mod proxy;
mod refusal;
pub mod tunnel;

pub use proxy::{Proxy, ProxyError};
