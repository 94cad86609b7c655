//! The gateway's certificate authority: makes and loads it, signs a certificate for each intercepted host,
//! and keeps what a daemon built from those certificates until they are due for renewal.
//!
//! A host from `CONNECT` becomes a [`LeafName`]; [`LeafCache::get_or_issue`] answers from memory or asks
//! [`Authority::issue`] for a [`Leaf`], which the caller turns into its own TLS configuration.
//!
//! What this crate refuses to do: it opens no socket, runs no task and reads no clock (the time is an
//! argument). Only [`files`] touches the disk. It never mints a wildcard, never signs past its own validity,
//! never overwrites a key and never loads one that other users of the machine can read.

mod authority;
mod cache;
mod constraints;
mod der;
mod error;
pub mod files;
mod leaf;
mod moment;
mod name;
mod pem;
mod validate;

pub use authority::{Authority, CaProfile, NewAuthority};
pub use cache::{LeafCache, Lookup};
pub use error::{AuthorityError, IssueError};
pub use files::{FilesError, Origin};
pub use leaf::Leaf;
pub use name::{LeafName, NameError};
