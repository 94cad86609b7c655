//! Chat completions and legacy completions: chunks or documents with a list of choices.
//!
//! A chunk's `delta` and a document's `message` hold the same members. Providers differ in which chunk carries the
//! usage, whether `[DONE]` comes, how tool calls are numbered and what reasoning is called.

use super::facts::{TapProblem, ThoughtSource, ToolCall, ToolKind};
use super::found::Found;
use super::sse::Event;
use crate::json::{Cursor, Json};
use crate::text;

/// The reader's state.
#[derive(Debug, Default)]
pub(super) struct Choices {
    calls: Vec<Slot>,
    /// In the order in which they began.
    said: Vec<Said>,
    /// The choice whose finish reason is kept.
    finished: Option<u64>,
}

/// What one choice has said.
#[derive(Debug)]
struct Said {
    choice: u64,
    /// The answer, but for that of the first, which is kept with the facts.
    output: String,
    thought: String,
    finished: bool,
}

/// The members of a delta or message, read in the one pass over its chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Delta<'a> {
    content: Option<Json<'a>>,
    refusal: Option<Json<'a>>,
    reasoning: Option<Json<'a>>,
    tool_calls: Option<Json<'a>>,
    function_call: Option<Json<'a>>,
}

impl<'a> Delta<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) {
        cursor.object(|cursor, key| match key {
            b"content" => self.content = cursor.value(),
            b"refusal" => self.refusal = cursor.value(),
            // Some servers send the same text under two names.
            b"reasoning_content" | b"reasoning" | b"reasoning_text" => {
                let text = cursor.value().filter(|value| value.inner().is_some());
                self.reasoning = text.or(self.reasoning);
            }
            b"tool_calls" => self.tool_calls = cursor.value(),
            b"function_call" => self.function_call = cursor.value().filter(|value| !value.is_null()),
            _ => {}
        });
    }
}

/// A tool call in the making.
#[derive(Debug)]
struct Slot {
    choice: u64,
    index: u64,
    call: ToolCall,
}

impl Choices {
    pub(super) fn event(&mut self, event: Event<'_>, found: &mut Found) {
        if event.data.trim_ascii() == b"[DONE]" {
            found.terminal = true;
            return;
        }
        self.document(event.data, found);
    }

    /// Reads one chunk or the one document; tells whether it was whole.
    pub(super) fn document(&mut self, data: &[u8], found: &mut Found) -> bool {
        let mut cursor = Cursor::new(data);
        let mut has_usage = false;
        let is_object = cursor.object(|cursor, key| match key {
            b"id" => found.set_id(cursor.value()),
            b"model" => found.set_model(cursor.value()),
            b"service_tier" => found.set_tier(cursor.value()),
            b"choices" => {
                cursor.array(|cursor| self.choice(cursor, found));
            }
            b"usage" => has_usage |= found.add_usage(cursor.value()),
            b"error" => found.add_error(cursor.value()),
            _ => {}
        });
        let whole = is_object && !cursor.is_broken();
        if !whole {
            found.note(TapProblem::Malformed);
        }
        // Some servers send no mark after the counts, which come when all is said.
        found.terminal |= has_usage && !self.said.is_empty() && self.said.iter().all(|said| said.finished);
        whole
    }

    fn choice(&mut self, cursor: &mut Cursor<'_>, found: &mut Found) {
        let mut choice = 0;
        let [mut text, mut reason] = [None; 2];
        let mut delta = Delta::default();
        cursor.object(|cursor, key| match key {
            b"index" => choice = cursor.value().and_then(Json::number).unwrap_or(0),
            b"delta" | b"message" => delta.read(cursor),
            b"text" => text = cursor.value(),
            b"finish_reason" => reason = cursor.value().filter(|reason| !reason.is_null()),
            _ => {}
        });
        let at = self.said_by(choice, found);
        if text.is_some() {
            self.output(at, text, found);
        }
        self.delta(delta, (choice, at), found);
        if let Some(said) = self.said.get_mut(at).filter(|_| reason.is_some()) {
            said.finished = true;
        }
        if reason.is_some() && self.finished.is_none_or(|known| choice <= known) {
            self.finished = Some(choice);
            found.set_finish(reason);
        }
    }

    /// Where the choice's texts are kept; past the end if there is no room.
    fn said_by(&mut self, choice: u64, found: &Found) -> usize {
        let known = self.said.iter().position(|said| said.choice == choice);
        known.unwrap_or_else(|| {
            if self.said.len() < found.limits.items {
                self.said.push(Said {
                    choice,
                    output: String::new(),
                    thought: String::new(),
                    finished: false,
                });
                return self.said.len() - 1;
            }
            self.said.len()
        })
    }

    /// Takes a piece of an answer; answers stay apart.
    fn output(&mut self, at: usize, piece: Option<Json<'_>>, found: &mut Found) {
        if at == 0 {
            return found.add_output(piece);
        }
        if found.count_output(piece)
            && found.limits.keep_output
            && let Some(said) = self.said.get_mut(at)
        {
            found.append(&mut said.output, piece);
        }
    }

    fn delta(&mut self, delta: Delta<'_>, (choice, at): (u64, usize), found: &mut Found) {
        if let Some(content) = delta.content {
            self.content(content, at, found);
        }
        if delta.refusal.is_some() {
            self.output(at, delta.refusal, found);
        }
        if delta.reasoning.is_some() {
            self.think(at, delta.reasoning, found);
        }
        if let Some(calls) = delta.tool_calls {
            self.tool_calls(calls, choice, found);
        }
        if delta.function_call.is_some() {
            self.tool_call(choice, None, [None, None, delta.function_call, None], found);
        }
    }

    fn think(&mut self, at: usize, piece: Option<Json<'_>>, found: &mut Found) {
        if found.count_output(piece)
            && let Some(said) = self.said.get_mut(at)
        {
            found.append(&mut said.thought, piece);
        }
    }

    /// The answer's text: a string, or parts of which some are text and some thinking.
    fn content(&mut self, content: Json<'_>, at: usize, found: &mut Found) {
        if content.inner().is_some() {
            return self.output(at, Some(content), found);
        }
        content.each(|part| {
            let [of_type, text, thinking] = part.members(["type", "text", "thinking"]);
            if of_type.is_some_and(|of_type| of_type.is_text("text")) {
                self.output(at, text, found);
            } else if let Some(thinking) = thinking {
                self.thinking(thinking, at, found);
            }
        });
    }

    /// Thinking among the parts: a string, or parts again.
    fn thinking(&mut self, thinking: Json<'_>, at: usize, found: &mut Found) {
        if thinking.inner().is_some() {
            return self.think(at, Some(thinking), found);
        }
        thinking.each(|part| self.think(at, part.member("text"), found));
    }

    fn tool_calls(&mut self, calls: Json<'_>, choice: u64, found: &mut Found) {
        let mut position = 0;
        calls.each(|call| {
            let [index, id, of_type, function, custom] =
                call.members(["index", "id", "type", "function", "custom"]);
            // A document's calls have no index, their place in the list stands for it.
            let index = index.and_then(Json::number).unwrap_or(position);
            position += 1;
            self.tool_call(choice, Some(index), [id, of_type, function, custom], found);
        });
    }

    fn tool_call(
        &mut self,
        choice: u64,
        index: Option<u64>,
        parts: [Option<Json<'_>>; 4],
        found: &mut Found,
    ) {
        let [id, of_type, function, custom] = parts;
        let id = id
            .and_then(Json::text)
            .filter(|id| !id.is_empty())
            .map(|id| text::short(&id));
        let is_custom = custom.is_some() || of_type.is_some_and(|of_type| of_type.is_text("custom"));
        let Some(call) = self.slot(choice, index.unwrap_or(0), id, is_custom, found) else {
            return;
        };
        let body = custom.or(function);
        let [name, arguments, input] = body
            .map(|body| body.members(["name", "arguments", "input"]))
            .unwrap_or_default();
        if call.name.is_empty()
            && let Some(name) = name.and_then(Json::text)
        {
            call.name = text::short(&name);
        }
        let arguments = arguments.or(input).filter(|arguments| !arguments.is_null());
        if let Some(object) = arguments.filter(|arguments| arguments.inner().is_none()) {
            call.truncated |= !found.append_text(&mut call.arguments, &object.raw());
        } else if found.count_output(arguments) {
            call.truncated |= !found.append(&mut call.arguments, arguments);
        }
    }

    /// The call that a delta belongs to: the latest of that number, unless the delta brings another id.
    fn slot(
        &mut self,
        choice: u64,
        index: u64,
        id: Option<String>,
        is_custom: bool,
        found: &mut Found,
    ) -> Option<&mut ToolCall> {
        found.saw_output = true;
        let same = |slot: &Slot| slot.choice == choice && slot.index == index;
        let known = self.calls.iter().rposition(same).filter(|at| {
            let known_id = self.calls.get(*at).map_or("", |slot| slot.call.id.as_str());
            known_id.is_empty() || id.as_ref().is_none_or(|id| id == known_id)
        });
        let at = match known {
            Some(at) => at,
            None if self.calls.len() < found.limits.items => {
                let kind = if is_custom {
                    ToolKind::Custom
                } else {
                    ToolKind::Function
                };
                let (id, name, server, arguments) = Default::default();
                self.calls.push(Slot {
                    choice,
                    index,
                    call: ToolCall {
                        id,
                        name,
                        server,
                        arguments,
                        kind,
                        truncated: false,
                    },
                });
                self.calls.len() - 1
            }
            None => return None,
        };
        let call = &mut self.calls.get_mut(at)?.call;
        if let Some(id) = id.filter(|_| call.id.is_empty()) {
            call.id = id;
        }
        Some(call)
    }

    pub(super) fn end(&mut self, found: &mut Found) {
        for said in self.said.drain(..) {
            found.add_thought(said.thought, ThoughtSource::Thinking);
            if !said.output.is_empty() {
                found.keep_output("\n\n");
                found.keep_output(&said.output);
            }
        }
        for Slot { mut call, .. } in self.calls.drain(..) {
            let broken = call.kind == ToolKind::Function && Json::parse(call.arguments.as_bytes()).is_none();
            call.truncated |= broken && !call.arguments.is_empty();
            // Some servers number calls from one and leave an empty first one behind.
            if !(call.id.is_empty() && call.name.is_empty() && call.arguments.is_empty()) {
                found.add_call(call);
            }
        }
    }
}
