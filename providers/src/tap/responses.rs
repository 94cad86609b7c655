//! OpenAI responses: typed events around items, or one response object.
//!
//! Items count when their `done` event comes; the response object at the end repeats them (some back ends leave
//! them out there) and adds usage. Deltas are read only for what a broken stream would lose, so that those nobody
//! records cost no parsing.

mod item;

use super::facts::TapProblem;
use super::found::Found;
use super::sse::Event;
use crate::json::{Cursor, Json};
use item::Item;

/// The reader's state.
#[derive(Debug, Default)]
pub(super) struct Responses {
    /// Items that were added and are not done, by their place in the output.
    open: Vec<(u64, Item)>,
    /// Some item was done, so the final response repeats what is known.
    saw_items: bool,
}

impl Responses {
    pub(super) fn event(&mut self, event: Event<'_>, found: &mut Found) {
        let kind = match event.name.starts_with(b"response.") {
            true => event.name,
            false => kind_of(event.data).unwrap_or(event.name),
        };
        match kind {
            b"response.output_text.delta" | b"response.refusal.delta" if !found.wants_output() => {
                found.saw_output = true;
            }
            b"response.output_text.delta"
            | b"response.refusal.delta"
            | b"response.function_call_arguments.delta"
            | b"response.custom_tool_call_input.delta"
            | b"response.mcp_call_arguments.delta"
            | b"response.code_interpreter_call_code.delta"
            | b"response.reasoning_summary_text.delta"
            | b"response.reasoning_text.delta" => self.delta(event.data, found),
            b"response.output_item.added" => self.added(event.data, found),
            b"response.output_item.done" => self.done(event.data, found),
            b"response.created" | b"response.in_progress" | b"response.queued"
                if found.facts.response_id.is_some() => {}
            b"response.created" | b"response.in_progress" | b"response.queued" => {
                response(member(event.data, "response", found), false, found);
            }
            b"response.completed" | b"response.incomplete" | b"response.failed" | b"response.cancelled" => {
                response(member(event.data, "response", found), !self.saw_items, found);
                found.terminal = true;
            }
            b"error" => error(event.data, found),
            _ if kind.starts_with(b"response.") => {}
            _ => other(event.data, found),
        }
    }

    fn delta(&mut self, data: &[u8], found: &mut Found) {
        let Some(event) = whole(data, found) else {
            return;
        };
        let [place, delta] = event.members(["output_index", "delta"]);
        found.count_output(delta);
        let place = place.and_then(Json::number).unwrap_or(0);
        if let Some((_, item)) = self.open.iter_mut().rev().find(|(open, _)| *open == place) {
            item.append(delta, found);
        }
    }

    fn added(&mut self, data: &[u8], found: &mut Found) {
        let Some(event) = whole(data, found) else {
            return;
        };
        let [place, item] = event.members(["output_index", "item"]);
        let item = item.and_then(|item| Item::read(item, found));
        if let Some(item) = item.filter(|_| self.open.len() < found.limits.items) {
            self.open.push((place.and_then(Json::number).unwrap_or(0), item));
        }
    }

    fn done(&mut self, data: &[u8], found: &mut Found) {
        let Some(event) = whole(data, found) else {
            return;
        };
        let [place, item] = event.members(["output_index", "item"]);
        let place = place.and_then(Json::number).unwrap_or(0);
        self.open.retain(|(open, _)| *open != place);
        if let Some(item) = item.and_then(|item| Item::read(item, found)) {
            self.saw_items = true;
            item.close(found);
        }
    }

    /// Hands over the items that were left open, unless the final response has told of them.
    pub(super) fn end(&mut self, found: &mut Found) {
        for (_, item) in self.open.drain(..) {
            if !found.terminal || self.saw_items {
                item.cut().close(found);
            }
        }
    }
}

/// Reads a response that is one document; tells whether it was whole.
pub(super) fn document(body: &[u8], found: &mut Found) -> bool {
    let is_whole = response(Some(body), true, found);
    if !is_whole {
        found.note(TapProblem::Malformed);
    }
    // One that runs in the background has not ended with its document.
    is_whole && !found.under_way
}

/// Reads a response object; tells whether it was whole.
fn response(json: Option<&[u8]>, with_items: bool, found: &mut Found) -> bool {
    let mut cursor = Cursor::new(json.unwrap_or_default());
    let mut reason = None;
    let mut status = None;
    let is_object = cursor.object(|cursor, key| match key {
        b"id" => found.set_id(cursor.value()),
        b"model" => found.set_model(cursor.value()),
        b"service_tier" => found.set_tier(cursor.value()),
        b"status" => status = cursor.value(),
        b"incomplete_details" => reason = cursor.value().and_then(|details| details.member("reason")),
        b"error" => found.add_error(cursor.value()),
        b"usage" => {
            found.add_usage(cursor.value());
        }
        b"output" if with_items => {
            cursor.array(|cursor| {
                if let Some(item) = cursor.value().and_then(|item| Item::read(item, found)) {
                    item.close(found);
                }
            });
        }
        _ => {}
    });
    let ended = status.filter(|status| !status.is_text("in_progress") && !status.is_text("queued"));
    found.under_way = status.is_some() && ended.is_none();
    found.set_finish(reason.filter(|reason| reason.inner().is_some()).or(ended));
    is_object && !cursor.is_broken()
}

/// Reads an `error` event: older ones carry the error's members themselves.
fn error(data: &[u8], found: &mut Found) {
    let Some(event) = whole(data, found) else {
        return;
    };
    let [error, code, message] = event.members(["error", "code", "message"]);
    match error.filter(|error| !error.is_null()) {
        Some(error) => found.add_error(Some(error)),
        None => found.add_flat_error(code, message),
    }
}

/// Reads an event of no known type; an error may still hide in it.
fn other(data: &[u8], found: &mut Found) {
    if data.trim_ascii() == b"[DONE]" {
        return;
    }
    if let Some(event) = whole(data, found) {
        found.add_error(event.member("error"));
    }
}

/// The event's type, of which the object's first member is mostly the name.
fn kind_of(data: &[u8]) -> Option<&[u8]> {
    Cursor::new(data).find(b"type")?.inner()
}

fn whole<'a>(data: &'a [u8], found: &mut Found) -> Option<Json<'a>> {
    let json = Json::parse(data);
    if json.is_none() {
        found.note(TapProblem::Malformed);
    }
    json
}

fn member<'a>(data: &'a [u8], name: &str, found: &mut Found) -> Option<&'a [u8]> {
    Some(whole(data, found)?.member(name)?.bytes())
}
