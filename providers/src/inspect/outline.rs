//! The top level of a request body, in one pass: scalars are read, the conversation's tail is kept as spans.
//!
//! Items are bounded in number and kept as the spans of the few members that tell what they are; what these point to
//! is parsed only as far back as the prompt requires.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::{InspectProblem, Inspection, Limits};
use crate::api::Api;
use crate::json::{Cursor, Json};
use crate::text;

/// The parts of a body that need a second look.
pub(super) struct Outline<'a> {
    pub(super) conversation: Conversation<'a>,
    pub(super) metadata: Option<Json<'a>>,
}

/// What the request asks the model to answer.
pub(super) enum Conversation<'a> {
    Absent,
    Text(Json<'a>),
    /// The last items of a list, in order.
    Items(VecDeque<Item<'a>>),
}

/// One message or input item.
#[derive(Clone, Copy, Default)]
pub(super) struct Item<'a> {
    pub(super) of_type: Option<Json<'a>>,
    pub(super) role: Option<Json<'a>>,
    pub(super) content: Option<Json<'a>>,
    /// The call that a tool result answers, whatever the API calls it.
    pub(super) call_id: Option<Json<'a>>,
    pub(super) id: Option<Json<'a>>,
    /// The item itself, if it is no object.
    pub(super) scalar: Option<Json<'a>>,
}

/// Reads the top level; what it says goes into `found`.
pub(super) fn read<'a>(api: Api, body: &'a [u8], limits: &Limits, found: &mut Inspection) -> Outline<'a> {
    let mut outline = Outline {
        conversation: Conversation::Absent,
        metadata: None,
    };
    let conversation: Option<&[u8]> = match api {
        Api::ChatCompletions | Api::Messages => Some(b"messages"),
        Api::Responses | Api::Compact => Some(b"input"),
        Api::Completions => Some(b"prompt"),
        Api::Embeddings | Api::CountTokens => None,
    };
    let mut cursor = Cursor::new(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
    let is_empty = cursor.is_at_end();
    let is_object = cursor.object(|cursor, key| match key {
        b"model" => {
            found.model = cursor
                .value()
                .and_then(Json::text)
                .map(|model| text::short(&model))
        }
        b"stream" => found.stream = cursor.value().is_some_and(Json::is_true),
        b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" => {
            // Where a request says it twice, the larger is what it may cost.
            found.max_output = found.max_output.max(cursor.value().and_then(Json::number));
        }
        b"generate" => found.warm_up = cursor.value().and_then(Json::boolean) == Some(false),
        b"metadata" => outline.metadata = cursor.value(),
        b"previous_response_id" => {
            found.previous_response_id = cursor.value().and_then(Json::text).and_then(|id| named(&id));
        }
        _ if conversation == Some(key) => outline.conversation = Conversation::read(cursor, limits),
        _ => {}
    });
    let broken = cursor.is_broken() || !cursor.is_at_end();
    found.problem = match () {
        () if is_empty => Some(InspectProblem::Empty),
        () if broken => Some(InspectProblem::NotJson),
        () if !is_object => Some(InspectProblem::NotAnObject),
        () if std::str::from_utf8(body).is_err() => Some(InspectProblem::NotUtf8),
        () => None,
    };
    outline
}

/// An id, unless it is empty.
fn named(id: &str) -> Option<String> {
    (!id.is_empty()).then(|| text::short(id))
}

impl<'a> Conversation<'a> {
    fn read(cursor: &mut Cursor<'a>, limits: &Limits) -> Conversation<'a> {
        if cursor.peek() != Some(b'[') {
            return match cursor.value() {
                Some(value) if value.inner().is_some() => Conversation::Text(value),
                _ => Conversation::Absent,
            };
        }
        let mut tail = VecDeque::new();
        cursor.array(|cursor| {
            let item = Item::read(cursor);
            if cursor.is_broken() {
                return;
            }
            if tail.len() >= limits.items.max(1) {
                tail.pop_front();
            }
            tail.push_back(item);
        });
        Conversation::Items(tail)
    }
}

impl<'a> Item<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Item<'a> {
        let mut item = Item::default();
        if cursor.peek() != Some(b'{') {
            item.scalar = cursor.value();
            return item;
        }
        cursor.object(|cursor, key| match key {
            b"type" => item.of_type = cursor.value(),
            b"role" => item.role = cursor.value(),
            b"content" => item.content = cursor.value(),
            b"call_id" | b"tool_call_id" | b"approval_request_id" => item.call_id = cursor.value(),
            b"id" => item.id = cursor.value(),
            _ => {}
        });
        item
    }

    /// The role's name.
    pub(super) fn role(&self) -> Option<Cow<'a, str>> {
        self.role.and_then(Json::text)
    }
}
