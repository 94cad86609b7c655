//! The tail of an Anthropic messages conversation, and Claude Code's session in the metadata.

use std::collections::VecDeque;

use super::outline::Item;
use super::{Inspection, Limits};
use crate::client;
use crate::json::Json;

/// Walks back over the user messages at the end; only the last of them can be the prompt.
pub(super) fn read(tail: &VecDeque<Item<'_>>, limits: &Limits, found: &mut Inspection) {
    let mut is_last = true;
    for message in tail.iter().rev() {
        match message.role().as_deref() {
            Some("user") => {}
            Some("system") => continue,
            _ => break,
        }
        let before = found.tool_results.len();
        let prompt = message.content.and_then(|content| blocks(content, limits, found));
        // The walk goes backwards, the blocks of one message went forwards.
        if let Some(new) = found.tool_results.get_mut(before..) {
            new.reverse();
        }
        if let Some(text) = prompt.filter(|_| is_last) {
            found.set_prompt(text, limits);
        }
        is_last = false;
    }
    found.tool_results.reverse();
}

/// Notes the tool results of one message and returns the text that the user wrote: the last one, after any result.
///
/// Clients put reminders of their own between; a reminder counts only if there is neither a text nor a result.
fn blocks<'a>(content: Json<'a>, limits: &Limits, found: &mut Inspection) -> Option<Json<'a>> {
    if content.inner().is_some() {
        return Some(content);
    }
    let mut written = None;
    let mut reminder = None;
    let mut answers_a_call = false;
    content.each(|block| {
        let [of_type, text, call_id, is_error] = block.members(["type", "text", "tool_use_id", "is_error"]);
        match of_type.and_then(Json::text).as_deref() {
            Some("text") if text.is_some_and(is_reminder) => reminder = text,
            Some("text") => written = text.filter(|text| text.inner().is_some()).or(written),
            Some("tool_result") => {
                answers_a_call = true;
                written = None;
                found.add_tool_result(call_id, is_error.and_then(Json::boolean), limits);
            }
            _ => {}
        }
    });
    if answers_a_call {
        written
    } else {
        written.or(reminder)
    }
}

fn is_reminder(text: Json<'_>) -> bool {
    text.inner()
        .is_some_and(|inner| inner.trim_ascii_start().starts_with(b"<system-reminder>"))
}

/// The session in `metadata.user_id`: a JSON text with `session_id`, or a text that ends in `_session_<id>`.
pub(super) fn session_id(metadata: Json<'_>) -> Option<String> {
    let user_id = metadata.member("user_id")?.text()?;
    if let Some(session) = Json::parse(user_id.as_bytes()).and_then(|json| json.member("session_id")) {
        return client::session_id(&session.text()?);
    }
    let (_, session) = user_id.split_once("_session_")?;
    client::session_id(session)
}
