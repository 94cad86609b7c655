//! The top level of a request body, in one pass: scalars are read, the conversation's tail is kept as spans.
//!
//! The spans are bounded in number; what they point to is parsed only as far back as the prompt requires.

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
    Items(VecDeque<Json<'a>>),
}

/// Reads the top level; what it says goes into `found`.
pub(super) fn read<'a>(api: Api, body: &'a [u8], limits: &Limits, found: &mut Inspection) -> Outline<'a> {
    let mut outline = Outline {
        conversation: Conversation::Absent,
        metadata: None,
    };
    let conversation: &[u8] = match api {
        Api::ChatCompletions | Api::Messages => b"messages",
        Api::Responses => b"input",
        Api::Completions => b"prompt",
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
        b"generate" => found.warm_up = cursor.value().and_then(Json::boolean) == Some(false),
        b"metadata" => outline.metadata = cursor.value(),
        _ if key == conversation => outline.conversation = Conversation::read(cursor, limits),
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
            if let Some(item) = cursor.value() {
                if tail.len() >= limits.items.max(1) {
                    tail.pop_front();
                }
                tail.push_back(item);
            }
        });
        Conversation::Items(tail)
    }
}
