//! The tail of a chat-completions conversation.

use std::collections::VecDeque;

use super::outline::Item;
use super::{Inspection, Limits};
use crate::json::Json;

/// Walks back from the last message to the model's last turn.
///
/// Instructions of role `system` or `developer` are no turn: one of them at the end does not hide the prompt.
pub(super) fn read(tail: &VecDeque<Item<'_>>, limits: &Limits, found: &mut Inspection) {
    let mut prompt_open = true;
    for message in tail.iter().rev() {
        match message.role().as_deref() {
            Some("system" | "developer") => {}
            Some("user") if prompt_open => {
                prompt_open = false;
                prompt(message.content, limits, found);
            }
            Some("user") => {}
            Some("tool" | "function") => {
                prompt_open = false;
                found.add_tool_result(message.call_id, None, limits);
            }
            _ => break,
        }
    }
    found.tool_results.reverse();
}

/// The content itself, or the last of its text parts.
fn prompt(content: Option<Json<'_>>, limits: &Limits, found: &mut Inspection) {
    let Some(content) = content else {
        return;
    };
    if content.inner().is_some() {
        return found.set_prompt(content, limits);
    }
    let mut last = None;
    content.each(|part| {
        let [of_type, text] = part.members(["type", "text"]);
        if of_type.is_some_and(|of_type| of_type.is_text("text") || of_type.is_text("input_text")) {
            last = text;
        }
    });
    if let Some(text) = last {
        found.set_prompt(text, limits);
    }
}
