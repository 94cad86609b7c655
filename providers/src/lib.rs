//! What the gateway knows about AI providers, and nothing else.
//!
//! In come a host, a path, headers and bytes; out come values: which instance and endpoint a request is for,
//! what its body asks, what the reply said and what it cost in tokens. Refused here: sockets, tasks, files, the
//! clock, configuration files and policy. Everything read is hostile: nothing panics, nothing grows without a
//! bound, nothing takes quadratic time.
//!
//! A request passes through [`Registry`] (route), [`decode_body`] and [`inspect()`] (request), [`Tap`] (reply) and
//! [`Prices`] (cost). A new protocol is one file under `kinds/`, one line in [`kind`](mod@kind)'s table and its
//! golden cases under `tests/golden`.

pub mod api;
pub mod claims;
pub mod client;
pub mod edit;
pub mod encoding;
pub mod error;
pub mod estimate;
pub mod glob;
pub mod inspect;
pub mod instance;
mod json;
pub mod kind;
mod kinds;
mod path;
pub mod prices;
pub mod registry;
pub mod route;
pub mod simulated;
pub mod socket;
mod stored;
pub mod tap;
mod text;
pub mod throttle;
pub mod usage_chunk;

pub use api::{Api, Endpoint};
pub use claims::{Claims, claims};
pub use client::{Client, detect};
pub use edit::{BodyEdit, include_usage};
pub use encoding::{DecodeError, StreamDecoder, decode_body};
pub use error::{ErrorFacts, ErrorShape, error_body, error_frame};
pub use estimate::text_length;
pub use glob::Glob;
pub use inspect::{InspectProblem, Inspection, Limits, ToolResult, inspect};
pub use instance::{
    BaseUrl, BaseUrlError, HostClaim, HostClaimError, Instance, ProviderName, ProviderNameError, Scheme,
    builtin,
};
pub use kind::{KeyHeader, Kind, Transport, kind, kind_names};
pub use prices::{OwnPrice, Price, Priced, Prices, Rate};
pub use registry::{Registry, RegistryProblem};
pub use route::{NamedRouteError, Route, Target};
pub use simulated::{SimulatedReply, simulate};
pub use socket::{Asked, ClientEvent, ServerEvent, Told, client_event, error_event, server_event};
pub use tap::{
    ReplyError, ReplyFacts, ReplyHead, Tap, TapLimits, TapProblem, Thought, ThoughtSource, ToolCall,
    ToolKind, Usage, UsageSource,
};
pub use usage_chunk::UsageChunkFilter;
