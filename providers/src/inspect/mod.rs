//! Reads from a request body only what is recorded: model, stream flag, last prompt, tool results, session.
//!
//! In comes a decoded body, out comes an [`Inspection`]; the bytes themselves go upstream unchanged. One pass over
//! the body finds the few members that matter; of the conversation only its tail is parsed. Unknown members, item
//! and content types are skipped, never an error, and whatever was readable before a break is still returned.

use crate::api::Api;

/// What a request body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The model asked for, at most 256 bytes of it.
    pub model: Option<String>,
    /// Whether a stream is wanted: only JSON `true` counts.
    pub stream: bool,
    /// Whether the request only warms a connection up (`generate: false`): no reply of a model will come.
    pub warm_up: bool,
    /// The last prompt of the user, trimmed.
    pub prompt: Option<String>,
    /// Whether the prompt was longer than the limit.
    pub prompt_truncated: bool,
    /// Results of tools that the model called before, at the end of the conversation.
    pub tool_results: Vec<ToolResult>,
    /// The client's session, if the body names it.
    pub session_id: Option<String>,
    /// What was wrong with the body.
    pub problem: Option<InspectProblem>,
}

/// The result of a tool that the client ran for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The id of the call that it answers.
    pub call_id: String,
    /// Whether the tool failed, if the API says so.
    pub is_error: Option<bool>,
}

/// Why a body could not be read in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InspectProblem {
    /// Nothing but white space.
    Empty,
    /// Bytes that are no UTF-8.
    NotUtf8,
    /// No JSON, or a break in it.
    NotJson,
    /// JSON, but no object.
    NotAnObject,
}

/// Bounds on what an inspection keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes kept of one text.
    pub text: usize,
    /// Items kept of one list.
    pub items: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            text: 256 * 1024,
            items: 256,
        }
    }
}

/// Inspects a request body; `path` is the request's, for APIs that name the model there.
#[must_use]
pub fn inspect(_api: Api, _path: &str, _body: &[u8], _limits: &Limits) -> Inspection {
    Inspection::default()
}
