//! Reads from a request body only what is recorded: model, stream flag, last prompt, tool results, session.
//!
//! In comes a decoded body, out comes an [`Inspection`]; the bytes themselves go upstream unchanged. One pass over
//! the body finds the few members that matter; of the conversation only its tail is parsed. Unknown members, item
//! and content types are skipped, never an error, and whatever was readable before a break is still returned.

mod chat;
mod messages;
mod outline;
mod responses;

use crate::api::Api;
use crate::json::Json;
use crate::kinds::engine_model;
use crate::path;
use crate::text;
use outline::{Conversation, Outline};

/// What a request body says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The model asked for, at most 256 bytes of it.
    pub model: Option<String>,
    /// Whether a stream is wanted: only JSON `true` counts.
    pub stream: bool,
    /// Whether the request only warms a connection up (`generate: false`): no reply of a model will come.
    pub warm_up: bool,
    /// The most tokens that the reply may have, if the request says so.
    pub max_output: Option<u64>,
    /// The last prompt of the user, trimmed.
    pub prompt: Option<String>,
    /// Whether the prompt was longer than the limit.
    pub prompt_truncated: bool,
    /// Results of tools that the model called before, at the end of the conversation.
    pub tool_results: Vec<ToolResult>,
    /// The reply that this request continues, if the API names it.
    pub previous_response_id: Option<String>,
    /// The client's session, if the body names it.
    pub session_id: Option<String>,
    /// What was wrong with the body.
    pub problem: Option<InspectProblem>,
}

/// The result of a tool that the client ran for the model.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
pub fn inspect(api: Api, path: &str, body: &[u8], limits: &Limits) -> Inspection {
    let mut found = Inspection::default();
    let Outline {
        conversation,
        metadata,
    } = outline::read(api, body, limits, &mut found);
    match (api, conversation) {
        (_, Conversation::Absent) | (Api::Embeddings | Api::CountTokens, _) => {}
        // Only the calls that it answers matter: nobody asked anything.
        (Api::Compact, Conversation::Text(_)) => {}
        (Api::Compact, Conversation::Items(tail)) => {
            responses::read(&tail, limits, &mut found);
            (found.prompt, found.prompt_truncated) = (None, false);
        }
        (_, Conversation::Text(text)) => found.set_prompt(text, limits),
        (Api::ChatCompletions, Conversation::Items(tail)) => chat::read(&tail, limits, &mut found),
        (Api::Responses, Conversation::Items(tail)) => responses::read(&tail, limits, &mut found),
        (Api::Messages, Conversation::Items(tail)) => messages::read(&tail, limits, &mut found),
        (Api::Completions, Conversation::Items(tail)) => {
            if let Some(last) = tail.back().and_then(|item| item.scalar) {
                found.set_prompt(last, limits);
            }
        }
    }
    if matches!(api, Api::Messages | Api::CountTokens) {
        found.session_id = metadata.and_then(messages::session_id);
    }
    if api == Api::Completions
        && let Some(model) = engine_model(path::split_query(path).0)
    {
        found.model = Some(text::short(&path::percent_decode(model)));
    }
    found
}

impl Inspection {
    /// Takes a text value as the prompt, unless nothing is left of it.
    fn set_prompt(&mut self, json: Json<'_>, limits: &Limits) {
        if let Some((text, truncated)) = json.text_within(limits.text) {
            self.set_prompt_text(&text, truncated);
        }
    }

    fn set_prompt_text(&mut self, text: &str, truncated: bool) {
        let trimmed = text.trim();
        self.prompt = (!trimmed.is_empty()).then(|| trimmed.to_owned());
        self.prompt_truncated = truncated;
    }

    /// Keeps a tool result if it names its call and the list has room.
    fn add_tool_result(&mut self, call_id: Option<Json<'_>>, is_error: Option<bool>, limits: &Limits) {
        let Some(call_id) = call_id.and_then(Json::text).filter(|id| !id.is_empty()) else {
            return;
        };
        if self.tool_results.len() < limits.items {
            self.tool_results.push(ToolResult {
                call_id: text::short(&call_id),
                is_error,
            });
        }
    }
}

#[cfg(test)]
mod tests;
