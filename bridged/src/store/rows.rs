//! Interceptions as the API shows them.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::content::Digest;

/// One interception (design: an answered request with all that is known of it).
#[derive(Debug, Serialize, ToSchema)]
pub struct InterceptionRow {
    /// UUIDv7.
    pub id: Uuid,
    /// The id that the client saw.
    pub request_id: Uuid,
    /// The CONNECT that carried it.
    pub connect_id: Option<Uuid>,
    /// Who asked.
    pub user: String,
    /// Instance name.
    pub provider: String,
    /// Instance kind.
    pub kind: String,
    /// The API.
    pub api: &'static str,
    /// The model asked for.
    pub model: Option<String>,
    /// The model that answered.
    pub model_answered: Option<String>,
    /// The client.
    pub client: String,
    /// Its version.
    pub client_version: Option<String>,
    /// Its own words.
    pub user_agent: Option<String>,
    /// The session.
    pub session_id: String,
    /// The thread's first interception.
    pub thread_root_id: Uuid,
    /// The interception whose tool calls this one answers.
    pub thread_parent_id: Option<Uuid>,
    /// The client's own id of the sub-agent that asked.
    pub agent_id: Option<String>,
    /// The client's own id of the agent that started that one.
    pub parent_agent_id: Option<String>,
    /// `proxy` or `base_url`.
    pub mode: &'static str,
    /// `byok`, `central` or `none`.
    pub credential_kind: &'static str,
    /// Masked.
    pub credential_hint: Option<String>,
    /// By which the user's own credential is recognised: 16 hexadecimal digits.
    pub credential_fingerprint: Option<String>,
    /// The plan that the user's own credential names. Nobody has verified that.
    pub credential_plan: Option<String>,
    /// The account that it names, likewise.
    pub credential_account: Option<String>,
    /// The HTTP status that the client got.
    pub status: Option<u16>,
    /// Null while in flight.
    pub outcome: Option<&'static str>,
    /// What went wrong, in one word.
    pub error_kind: Option<String>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub first_token_at: Option<String>,
    /// RFC 3339.
    pub ended_at: Option<String>,
    /// Milliseconds from start to end.
    pub duration_ms: Option<f64>,
    /// Microseconds that the gateway itself took.
    pub overhead_us: Option<i64>,
    /// Body length.
    pub request_bytes: i64,
    /// Body length.
    pub response_bytes: Option<i64>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The provider's word.
    pub finish_reason: Option<String>,
    /// The provider's id of the reply.
    pub response_id: Option<String>,
    /// Attempts beyond the first.
    pub retries: u32,
    /// The last user prompt.
    pub prompt: Option<String>,
    /// Whether the prompt was cut.
    pub prompt_truncated: bool,
    /// The reply's text, if it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub output: Option<String>,
    /// Tokens; empty where nothing is known of them.
    pub usage: Vec<UsageRow>,
    /// Where `usage` comes from: `reported`, `partial`, `estimated` or `unknown`. Null while in flight, and where no
    /// model was asked.
    pub usage_source: Option<&'static str>,
    /// Tool calls that the model asked for.
    pub tool_calls: Vec<ToolCallRow>,
    /// What the model thought aloud.
    pub thoughts: Vec<ThoughtRow>,
    /// Whether prompt, arguments, thoughts or output were deleted, by their age or for the user's sake.
    pub erased: bool,
    #[serde(skip)]
    pub(super) digests: Digests,
    /// Provider and credential hint that were asked first, if others answered.
    #[serde(skip)]
    pub(super) asked: Option<(String, String)>,
}

impl InterceptionRow {
    /// Leaves out what users and models wrote: prompt, output, arguments and thoughts.
    pub fn leave_texts_out(&mut self) {
        (self.prompt, self.output) = (None, None);
        self.tool_calls.iter_mut().for_each(|call| call.arguments.clear());
        self.thoughts.iter_mut().for_each(|thought| thought.text.clear());
    }
}

/// What the chain of records knows of the texts of an interception.
#[derive(Debug, Default)]
pub(super) struct Digests {
    pub(super) prompt: Option<Digest>,
    pub(super) output: Option<Digest>,
    pub(super) arguments: Vec<Digest>,
    pub(super) thoughts: Vec<Digest>,
}

/// Tokens of an interception.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct UsageRow {
    /// Without cached tokens.
    pub input: i64,
    /// Including reasoning.
    pub output: i64,
    /// Read from the provider's cache.
    pub cache_read: i64,
    /// Written to the provider's cache.
    pub cache_write: i64,
    /// Part of `output`.
    pub reasoning: i64,
    /// What else the provider counted, under its own names.
    #[schema(value_type = Option<Object>)]
    pub extra: Option<Box<RawValue>>,
    /// `reported`, `partial`, `estimated` or `unknown`.
    pub source: &'static str,
    /// Null where there is no price.
    pub cost_micros: Option<i64>,
}

/// A tool call.
#[derive(Debug, Serialize, ToSchema)]
pub struct ToolCallRow {
    /// The provider's id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// `function`, `custom`, `mcp` or `server`.
    pub kind: &'static str,
    /// As the model wrote them.
    pub arguments: String,
    /// Whether the arguments were cut.
    pub truncated: bool,
    /// `ok` or `error` once a later request has answered it.
    pub result: Option<&'static str>,
}

/// A thought.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThoughtRow {
    /// `thinking`, `reasoning_summary` or `commentary`.
    pub source: &'static str,
    /// The text.
    pub text: String,
}
