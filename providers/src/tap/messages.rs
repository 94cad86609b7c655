//! Anthropic messages: typed events that open, fill and close content blocks, or one message.

use super::facts::{TapProblem, ThoughtSource, ToolCall, ToolKind};
use super::found::Found;
use super::sse::Event;
use crate::json::{Cursor, Json};
use crate::text;

/// The reader's state: the blocks that are open.
#[derive(Debug, Default)]
pub(super) struct Messages {
    open: Vec<(u64, Block)>,
}

/// A content block in the making.
#[derive(Debug)]
enum Block {
    Thinking(String),
    Tool {
        call: ToolCall,
        /// The input that the opening event carried, which counts if no delta follows.
        input: String,
    },
}

/// The members of a delta, read in the one pass over its event.
#[derive(Clone, Copy, Debug, Default)]
struct Delta<'a> {
    text: Option<Json<'a>>,
    partial_json: Option<Json<'a>>,
    thinking: Option<Json<'a>>,
    stop_reason: Option<Json<'a>>,
}

/// The speed that costs more.
const FAST: &str = "fast";

impl<'a> Delta<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Delta<'a> {
        let mut delta = Delta::default();
        cursor.object(|cursor, key| match key {
            b"text" => delta.text = cursor.value(),
            b"partial_json" => delta.partial_json = cursor.value(),
            b"thinking" => delta.thinking = cursor.value(),
            b"stop_reason" => delta.stop_reason = cursor.value(),
            _ => {}
        });
        delta
    }
}

impl Messages {
    pub(super) fn event(&mut self, event: Event<'_>, found: &mut Found) {
        let mut cursor = Cursor::new(event.data);
        let [
            mut of_type,
            mut index,
            mut block,
            mut message,
            mut usage,
            mut error,
        ] = [None; 6];
        let mut delta = Delta::default();
        let is_object = cursor.object(|cursor, key| match key {
            b"type" => of_type = cursor.value(),
            b"index" => index = cursor.value(),
            b"delta" => delta = Delta::read(cursor),
            b"content_block" => block = cursor.value(),
            b"message" => message = cursor.value(),
            b"usage" => usage = cursor.value(),
            b"error" => error = cursor.value(),
            _ => {}
        });
        if cursor.is_broken() || !is_object {
            // Servers that also speak OpenAI's dialect end with its mark.
            if event.data.trim_ascii() != b"[DONE]" {
                found.note(TapProblem::Malformed);
            }
            return;
        }
        let of_type = of_type.and_then(Json::inner).unwrap_or(event.name);
        let index = index.and_then(Json::number).unwrap_or(0);
        match of_type {
            b"content_block_delta" => self.delta(index, delta, found),
            b"content_block_start" => self.start(index, block, found),
            b"content_block_stop" => self.stop(index, found),
            b"message_start" => {
                let [id, model, usage] = message
                    .map(|message| message.members(["id", "model", "usage"]))
                    .unwrap_or_default();
                found.set_id(id);
                found.set_model(model);
                used(usage, found);
            }
            b"message_delta" => {
                found.set_finish(delta.stop_reason);
                used(usage, found);
            }
            b"message_stop" => found.terminal = true,
            b"error" => found.add_error(error.or(message)),
            _ => found.add_error(error),
        }
    }

    fn start(&mut self, index: u64, block: Option<Json<'_>>, found: &mut Found) {
        let Some(block) = block.and_then(|json| Block::read(json, found)) else {
            return;
        };
        if self.open.len() < found.limits.items {
            self.open.push((index, block));
        }
    }

    fn delta(&mut self, index: u64, delta: Delta<'_>, found: &mut Found) {
        let Delta {
            text,
            partial_json,
            thinking,
            ..
        } = delta;
        if text.is_some() {
            return found.add_output(text);
        }
        let piece = partial_json.or(thinking);
        found.count_output(piece);
        match self.open.iter_mut().rev().find(|(at, _)| *at == index) {
            Some((_, Block::Thinking(text))) => {
                found.append(text, thinking);
            }
            Some((_, Block::Tool { call, .. })) => {
                call.truncated |= !found.append(&mut call.arguments, partial_json);
            }
            None => {}
        }
    }

    fn stop(&mut self, index: u64, found: &mut Found) {
        if let Some(at) = self.open.iter().rposition(|(open, _)| *open == index) {
            let (_, block) = self.open.swap_remove(at);
            block.close(found);
        }
    }

    /// Closes what a broken stream left open.
    pub(super) fn end(&mut self, found: &mut Found) {
        for (_, mut block) in self.open.drain(..) {
            if let Block::Tool { call, .. } = &mut block {
                call.truncated |= !found.terminal;
            }
            block.close(found);
        }
    }
}

impl Block {
    /// Reads a block as it opens, or a whole one; text goes to the output at once.
    fn read(block: Json<'_>, found: &mut Found) -> Option<Block> {
        let [of_type, id, name, server, input, content, thinking] =
            block.members(["type", "id", "name", "server_name", "input", "text", "thinking"]);
        let kind = match of_type.and_then(Json::text)?.as_ref() {
            "text" => {
                found.add_output(content);
                return None;
            }
            "thinking" => return Some(Block::Thinking(found.text(thinking).0)),
            "redacted_thinking" => {
                found.saw_output = true;
                return None;
            }
            "tool_use" => ToolKind::Function,
            "server_tool_use" => ToolKind::Server,
            "mcp_tool_use" => ToolKind::Mcp,
            _ => return None,
        };
        found.saw_output = true;
        let word = |json: Option<Json<'_>>| {
            json.and_then(Json::text)
                .map(|word| text::short(&word))
                .unwrap_or_default()
        };
        let (whole, cut) = input.map(|input| found.raw(input)).unwrap_or_default();
        let call = ToolCall {
            id: word(id),
            name: word(name),
            server: server.map(|server| word(Some(server))),
            arguments: String::new(),
            kind,
            truncated: cut,
        };
        Some(Block::Tool { call, input: whole })
    }

    fn close(self, found: &mut Found) {
        match self {
            Block::Thinking(text) => found.add_thought(text, ThoughtSource::Thinking),
            Block::Tool { mut call, input } => {
                if call.arguments.is_empty() {
                    call.arguments = input;
                }
                // A reply that ran out of tokens ends amid the arguments.
                call.truncated |= Json::parse(call.arguments.as_bytes()).is_none();
                found.add_call(call);
            }
        }
    }
}

/// Takes a report of usage in, which also tells the tier and, where that is for sale, the speed.
fn used(usage: Option<Json<'_>>, found: &mut Found) {
    let Some(usage) = usage else { return };
    let [tier, speed] = usage.members(["service_tier", "speed"]);
    if speed.is_some_and(|speed| speed.is_text(FAST)) {
        found.set_tier(speed);
    } else if found.facts.service_tier.as_deref() != Some(FAST) {
        found.set_tier(tier);
    }
    found.add_usage(Some(usage));
}

/// Reads a message that is one document; tells whether it was whole.
pub(super) fn document(body: &[u8], found: &mut Found) -> bool {
    let mut cursor = Cursor::new(body);
    let is_object = cursor.object(|cursor, key| match key {
        b"id" => found.set_id(cursor.value()),
        b"model" => found.set_model(cursor.value()),
        b"stop_reason" => found.set_finish(cursor.value()),
        b"usage" => used(cursor.value(), found),
        b"error" => found.add_error(cursor.value()),
        b"content" => {
            cursor.array(|cursor| {
                if let Some(block) = cursor.value().and_then(|json| Block::read(json, found)) {
                    block.close(found);
                }
            });
        }
        _ => {}
    });
    let whole = is_object && !cursor.is_broken();
    if !whole {
        found.note(TapProblem::Malformed);
    }
    whole
}
