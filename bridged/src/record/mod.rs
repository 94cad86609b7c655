//! What is recorded of a request, and the way it takes to the store.
//!
//! A bridged request makes two events: `Started` before the upstream is called and `Ended` when its reply has
//! ended. `Recorder` queues them for the store's one writer, which puts them into the `Spool` while the store is away;
//! a `Recording` is one request's open record and ends it as aborted when it is dropped unfinished. Invariant:
//! every `Started` is followed by exactly one `Ended`.

mod clean;
mod ledger;
mod pricing;
mod recorder;
mod recording;
mod spool;

use std::borrow::Cow;
use std::sync::Arc;

use providers::{Api, ReplyFacts, ToolResult, stored_enum};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Micros;

pub use ledger::Ledger;
pub use pricing::Pricing;
pub use recorder::{Gate, Job, QUEUE, RecordError, Recorder};
pub use recording::{Finish, Recording};
pub use spool::{Spool, SpoolError};

stored_enum! {
    /// How a request reached the gateway.
    pub enum Mode {
        /// Through the intercepting proxy.
        Proxy = 1, "proxy";
        /// At the bridge's own address.
        BaseUrl = 2, "base_url";
    }
}

stored_enum! {
    /// Whose credential went to the upstream.
    pub enum CredentialKind {
        /// None.
        None = 0, "none";
        /// The user's own.
        Byok = 1, "byok";
        /// The gateway's.
        Central = 2, "central";
    }
}

stored_enum! {
    /// How an interception ended.
    #[serde(rename_all = "snake_case")]
    pub enum Outcome {
        /// The client has the whole reply.
        Completed = 1, "completed";
        /// The upstream failed, or answered with an error.
        Failed = 2, "failed";
        /// The gateway answered in the upstream's place.
        Refused = 3, "refused";
        /// The client left, or the gateway ended, before the reply did.
        Aborted = 4, "aborted";
    }
}

/// The beginning of an interception.
#[derive(Debug, Serialize, Deserialize)]
pub struct Started {
    /// The interception's id (UUIDv7).
    pub id: Uuid,
    /// The id that the client sees.
    pub request_id: Uuid,
    /// The CONNECT that carried the request.
    pub connect_id: Option<Uuid>,
    /// Who asked.
    pub user: Arc<str>,
    /// The instance's name.
    pub provider: Arc<str>,
    /// The instance's kind.
    pub kind: Cow<'static, str>,
    /// The API that was called.
    pub api: Api,
    /// The model asked for.
    pub model: Option<String>,
    /// The client's name, version and own words.
    pub client: Cow<'static, str>,
    /// The client's version.
    pub client_version: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The client's own session id.
    pub session_id: Option<String>,
    /// The client's own id of the sub-agent that asks.
    pub agent_id: Option<String>,
    /// The client's own id of the agent that started that one.
    pub parent_agent_id: Option<String>,
    /// How the request came in.
    pub mode: Mode,
    /// Whose credential goes upstream.
    pub credential: CredentialKind,
    /// A masked hint of that credential.
    pub credential_hint: String,
    /// By which it is recognised, if it is the user's own.
    pub credential_fingerprint: Option<String>,
    /// The plan that it names, unverified.
    pub credential_plan: Option<String>,
    /// The account that it names, unverified.
    pub credential_account: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Length of the request's body.
    pub request_bytes: u64,
    /// When the request's head had arrived.
    pub started_at: Micros,
    /// The last user prompt, if it is recorded.
    pub prompt: Option<String>,
    /// Whether the prompt was cut.
    pub prompt_truncated: bool,
    /// The tool calls that this request answers.
    pub tool_results: Vec<ToolResult>,
}

/// The end of an interception.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The interception's id.
    pub id: Uuid,
    /// How it ended.
    pub outcome: Outcome,
    /// The HTTP status that the client got, if it got one.
    pub status: Option<u16>,
    /// What went wrong, in one word.
    pub error_kind: Option<String>,
    /// What went wrong, for a person.
    pub error_message: Option<String>,
    /// When the reply's first content passed.
    pub first_token_at: Option<Micros>,
    /// When the reply had passed.
    pub ended_at: Micros,
    /// Microseconds that the gateway itself took.
    pub overhead_us: u64,
    /// Length of the reply's body.
    pub response_bytes: u64,
    /// Upstream attempts beyond the first.
    pub retries: u32,
    /// Who answered, if that is not who was asked first.
    pub answerer: Option<Answerer>,
    /// What the tap learned.
    pub facts: Option<ReplyFacts>,
    /// What the tokens cost in millionths of the price's currency; `None` where nothing has a price.
    pub cost_micros: Option<i64>,
}

/// The instance that answered, and the gateway's key that it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answerer {
    /// The instance's name.
    pub provider: Arc<str>,
    /// A masked hint of the key.
    pub credential_hint: String,
}

/// One step of an interception on its way to the store.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// It began.
    Start(Box<Started>),
    /// It ended.
    End(Box<Ended>),
}

impl Event {
    /// The interception that it is about.
    pub fn id(&self) -> Uuid {
        match self {
            Event::Start(started) => started.id,
            Event::End(ended) => ended.id,
        }
    }
}
