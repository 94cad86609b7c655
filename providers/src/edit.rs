//! The one edit of a request body: asking a stream of choices for its usage.
//!
//! OpenAI's APIs report the usage of a stream only if `stream_options.include_usage` is true. The edit replaces one
//! span and leaves every other byte of the client's body as it was.

use std::ops::Range;

use crate::api::Api;
use crate::json::{Cursor, Json};

/// Bytes to be put in the place of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyEdit {
    /// The bytes to be replaced; empty for an insertion.
    pub range: Range<usize>,
    /// What comes in their place.
    pub text: &'static str,
}

impl BodyEdit {
    /// The edited body; a range outside of it changes nothing.
    #[must_use]
    pub fn apply(&self, body: &[u8]) -> Vec<u8> {
        match (body.get(..self.range.start), body.get(self.range.end..)) {
            (Some(head), Some(tail)) => [head, self.text.as_bytes(), tail].concat(),
            _ => body.to_vec(),
        }
    }
}

/// The edit that makes a stream report its usage; `None` if it will anyway, or no such edit is possible.
#[must_use]
pub fn include_usage(api: Api, body: &[u8]) -> Option<BodyEdit> {
    if !matches!(api, Api::ChatCompletions | Api::Completions) {
        return None;
    }
    let mut cursor = Cursor::new(body);
    let (mut stream, mut options) = (None, None);
    let is_object = cursor.object(|cursor, key| match key {
        b"stream" => stream = cursor.value(),
        b"stream_options" => options = Some((cursor.position(), cursor.value())),
        _ => {}
    });
    if !is_object || cursor.is_broken() || !stream.is_some_and(Json::is_true) {
        return None;
    }
    let Some((at, options)) = options else {
        // The body holds `stream`, so a member follows the comma.
        let brace = body.iter().position(|byte| *byte == b'{')? + 1;
        return Some(BodyEdit {
            range: brace..brace,
            text: "\"stream_options\":{\"include_usage\":true},",
        });
    };
    within(at, options?)
}

/// The edit within the options that begin at `at`.
fn within(at: usize, options: Json<'_>) -> Option<BodyEdit> {
    let bytes = options.bytes();
    let mut cursor = Cursor::new(bytes);
    let (mut members, mut known) = (0, None);
    let is_object = cursor.object(|cursor, key| {
        members += 1;
        if key == b"include_usage" {
            known = Some((cursor.position(), cursor.value()));
        }
    });
    match known {
        _ if !is_object => Some(BodyEdit {
            range: at..at + bytes.len(),
            text: "{\"include_usage\":true}",
        }),
        Some((_, Some(value))) if value.is_true() => None,
        Some((offset, value)) => {
            let start = at + offset;
            Some(BodyEdit {
                range: start..start + value?.bytes().len(),
                text: "true",
            })
        }
        None if members == 0 => Some(BodyEdit {
            range: at + 1..at + 1,
            text: "\"include_usage\":true",
        }),
        None => Some(BodyEdit {
            range: at + 1..at + 1,
            text: "\"include_usage\":true,",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edited(body: &str) -> Option<String> {
        include_usage(Api::ChatCompletions, body.as_bytes())
            .map(|edit| String::from_utf8(edit.apply(body.as_bytes())).unwrap())
    }

    #[test]
    fn only_the_span_changes() {
        let cases = [
            (
                r#" {"stream":true, "n":1}"#,
                Some(r#" {"stream_options":{"include_usage":true},"stream":true, "n":1}"#),
            ),
            (
                r#"{"stream":true,"stream_options":null}"#,
                Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            ),
            (
                r#"{"stream_options": { } ,"stream":true}"#,
                Some(r#"{"stream_options": {"include_usage":true } ,"stream":true}"#),
            ),
            (
                r#"{"stream_options":{"x":1},"stream":true}"#,
                Some(r#"{"stream_options":{"include_usage":true,"x":1},"stream":true}"#),
            ),
            (
                r#"{"stream_options":{"include_usage" : false},"stream":true}"#,
                Some(r#"{"stream_options":{"include_usage" : true},"stream":true}"#),
            ),
            (r#"{"stream_options":{"include_usage":true},"stream":true}"#, None),
            (r#"{"stream":false}"#, None),
            (r#"{"messages":[]}"#, None),
            (r#"{"stream":true"#, None),
            ("[]", None),
        ];
        for (body, want) in cases {
            assert_eq!(edited(body).as_deref(), want, "{body}");
        }
        assert_eq!(include_usage(Api::Responses, br#"{"stream":true}"#), None);
    }

    proptest! {
        #[test]
        fn edited_bodies_stay_json(body in r#"\{("x":[1-9]{1,3},)?("stream_options":(null|7|\{\}|\{"a":1\}|\{"include_usage":(true|false|null)\}),)?"stream":true\}"#) {
            let after = edited(&body).unwrap_or(body);
            let value: serde_json::Value = serde_json::from_str(&after).unwrap();
            prop_assert_eq!(&value["stream_options"]["include_usage"], &serde_json::Value::Bool(true));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = include_usage(Api::Completions, &bytes).map(|edit| edit.apply(&bytes));
        }
    }
}
