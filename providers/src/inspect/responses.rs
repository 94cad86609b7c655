//! The tail of a responses input: items of many types, most of them of no interest.

use std::collections::VecDeque;

use super::outline::Item;
use super::{Inspection, Limits};
use crate::json::Json;
use crate::text;

/// What an item at the end of the input is.
enum Turn {
    User,
    ToolResult,
    /// Instructions and tool definitions, which may stand anywhere.
    Aside,
    Model,
}

/// Walks back from the last item to the model's last turn.
pub(super) fn read(tail: &VecDeque<Item<'_>>, limits: &Limits, found: &mut Inspection) {
    let mut prompt_open = true;
    for item in tail.iter().rev() {
        match turn(item) {
            Turn::Aside => {}
            Turn::User if prompt_open => {
                prompt_open = false;
                prompt(item.content, limits, found);
            }
            Turn::User => {}
            Turn::ToolResult => {
                prompt_open = false;
                // A local shell's output names its call as its own id.
                found.add_tool_result(item.call_id.or(item.id), None, limits);
            }
            Turn::Model => break,
        }
    }
    found.tool_results.reverse();
}

fn turn(item: &Item<'_>) -> Turn {
    let of_type = item.of_type.and_then(Json::text);
    match of_type.as_deref() {
        None | Some("message") => match item.role().as_deref() {
            Some("user") => Turn::User,
            Some("system" | "developer") => Turn::Aside,
            _ => Turn::Model,
        },
        Some("additional_tools" | "item_reference" | "compaction_trigger") => Turn::Aside,
        Some("mcp_approval_response") => Turn::ToolResult,
        Some(name) if name.ends_with("_output") => Turn::ToolResult,
        Some(_) => Turn::Model,
    }
}

/// The content itself, or its text parts joined by newlines.
fn prompt(content: Option<Json<'_>>, limits: &Limits, found: &mut Inspection) {
    let Some(content) = content else {
        return;
    };
    if content.inner().is_some() {
        return found.set_prompt(content, limits);
    }
    let mut joined = String::new();
    let mut truncated = false;
    let mut parts = 0_usize;
    content.each(|part| {
        let [of_type, text] = part.members(["type", "text"]);
        if !of_type.is_some_and(|of_type| of_type.is_text("input_text") || of_type.is_text("text")) {
            return;
        }
        let room = limits.text.saturating_sub(joined.len());
        if let Some((more, cut)) = text.and_then(|text| text.text_within(room)) {
            let separator = if parts == 0 { "" } else { "\n" };
            truncated |= !text::append(&mut joined, separator, limits.text);
            truncated |= !text::append(&mut joined, &more, limits.text) || cut;
            parts += 1;
        }
    });
    found.set_prompt_text(&joined, truncated);
}
