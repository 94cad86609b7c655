//! The items of a response's output: messages, reasoning, and tool calls of many types.

use crate::json::Json;
use crate::tap::facts::{ThoughtSource, ToolCall, ToolKind};
use crate::tap::found::Found;
use crate::text;

/// One item, whole or in the making.
#[derive(Debug)]
pub(super) enum Item {
    /// A message to the user.
    Message(String),
    /// Texts that are recorded as thoughts, and where deltas go.
    Thoughts(Vec<(ThoughtSource, String)>, ThoughtSource),
    Call(ToolCall),
}

impl Item {
    /// Reads an item; types without a meaning here are `None`.
    pub(super) fn read(item: Json<'_>, found: &mut Found) -> Option<Item> {
        let of_type = item.member("type")?.text()?;
        match of_type.as_ref() {
            // A compaction repeats what the user said.
            "message" if item.member("role").is_some_and(|role| !role.is_text("assistant")) => None,
            "message" => Some(message(item, found)),
            "reasoning" => Some(reasoning(item, found)),
            "function_call" => Some(call(item, ToolKind::Function, "", found)),
            "custom_tool_call" => Some(call(item, ToolKind::Custom, "", found)),
            "mcp_call" | "mcp_approval_request" => Some(call(item, ToolKind::Mcp, "", found)),
            "program" => Some(call(item, ToolKind::Server, "program", found)),
            // Tools built into the model: those that the client must run name the call, the provider's own do not.
            other => Some(call(item, ToolKind::Server, other.strip_suffix("_call")?, found)),
        }
    }

    /// Appends a delta.
    pub(super) fn append(&mut self, delta: Option<Json<'_>>, found: &mut Found) {
        match self {
            Item::Message(text) => {
                if found.limits.keep_output {
                    found.append(text, delta);
                }
            }
            Item::Thoughts(texts, source) => {
                if texts.is_empty() {
                    texts.push((*source, String::new()));
                }
                if let Some((_, text)) = texts.last_mut() {
                    found.append(text, delta);
                }
            }
            Item::Call(call) => call.truncated |= !found.append(&mut call.arguments, delta),
        }
    }

    /// Marks an item that never was done.
    pub(super) fn cut(mut self) -> Item {
        if let Item::Call(call) = &mut self {
            call.truncated = true;
        }
        self
    }

    /// Hands the item over.
    pub(super) fn close(self, found: &mut Found) {
        match self {
            Item::Message(text) => {
                found.saw_output |= !text.is_empty();
                found.keep_output(&text);
            }
            Item::Thoughts(texts, _) => texts
                .into_iter()
                .for_each(|(source, text)| found.add_thought(text, source)),
            Item::Call(call) => found.add_call(call),
        }
    }
}

/// A message; one of the phase `commentary` is a thought.
fn message(item: Json<'_>, found: &mut Found) -> Item {
    let [content, phase] = item.members(["content", "phase"]);
    let is_commentary = phase.is_some_and(|phase| phase.is_text("commentary"));
    let mut texts = Vec::new();
    content.map(|content| {
        content.each(|part| {
            let [text, refusal] = part.members(["text", "refusal"]);
            if texts.len() < found.limits.items {
                texts.push((ThoughtSource::Commentary, found.text(text.or(refusal)).0));
            }
        })
    });
    if is_commentary {
        return Item::Thoughts(texts, ThoughtSource::Commentary);
    }
    let mut whole = String::new();
    for (_, text) in texts {
        text::append(&mut whole, &text, found.limits.text);
    }
    Item::Message(whole)
}

/// Reasoning: summaries, and with open models the text itself.
fn reasoning(item: Json<'_>, found: &mut Found) -> Item {
    let [summary, content] = item.members(["summary", "content"]);
    let mut texts = Vec::new();
    for (list, source) in [
        (summary, ThoughtSource::ReasoningSummary),
        (content, ThoughtSource::Thinking),
    ] {
        list.map(|list| {
            list.each(|part| {
                if texts.len() < found.limits.items {
                    texts.push((source, found.text(part.member("text")).0));
                }
            })
        });
    }
    Item::Thoughts(texts, ThoughtSource::ReasoningSummary)
}

/// A tool call; `built_in` is the name of one whose type says what it does.
fn call(item: Json<'_>, kind: ToolKind, built_in: &str, found: &mut Found) -> Item {
    let [call_id, id, name, status] = item.members(["call_id", "id", "name", "status"]);
    let [label, namespace, execution] = item.members(["server_label", "namespace", "execution"]);
    let word = |json: Option<Json<'_>>| {
        json.and_then(Json::text)
            .map(|word| text::short(&word))
            .unwrap_or_default()
    };
    let by_client = call_id.is_some_and(|id| id.inner().is_some())
        && built_in != "program"
        && !execution.is_some_and(|by| by.is_text("server"));
    let kind = if kind == ToolKind::Server && by_client {
        ToolKind::Custom
    } else {
        kind
    };
    let (arguments, cut) = arguments(item, found);
    Item::Call(ToolCall {
        id: word(call_id.filter(|id| !id.is_null()).or(id)),
        name: if built_in.is_empty() {
            word(name)
        } else {
            text::short(built_in)
        },
        server: label
            .or(namespace)
            .and_then(Json::text)
            .map(|server| text::short(&server)),
        arguments,
        kind,
        truncated: cut || status.is_some_and(|status| status.is_text("incomplete")),
    })
}

/// What a call was made with: each type has its own member for it.
fn arguments(item: Json<'_>, found: &mut Found) -> (String, bool) {
    let members = item.members(["arguments", "input", "action", "operation", "queries", "code"]);
    match members.into_iter().flatten().find(|member| !member.is_null()) {
        Some(text) if text.inner().is_some() => found.text(Some(text)),
        Some(other) => found.raw(other),
        None => (String::new(), false),
    }
}
