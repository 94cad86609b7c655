//! The events of the responses API on a WebSocket: what a message is, and which response it belongs to.
//!
//! In comes one message, as the client or the provider sent it; out comes its kind with the ids that tie it to a
//! response. Invariant: a client's message that cannot be read counts as a call, because the provider might read
//! it. What calls ask and replies say is for [`crate::inspect()`] and [`crate::Tap`].

use std::borrow::Cow;
use std::time::Duration;

use crate::error::{ErrorFacts, ErrorShape, error_frame};
use crate::json::{Cursor, Json};
use crate::text;

/// What a client's message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A response (`response.create`), or nothing that can be read.
    Create,
    /// The end of a response that is under way.
    Cancel,
    /// A response that takes more input into account; another may follow it unasked.
    Steer,
    /// Anything else.
    Other,
}

/// A client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEvent<'a> {
    /// What it asks for.
    pub asked: Asked,
    /// The lane that it belongs to: responses of one lane come one after another, lanes side by side.
    pub lane: Option<Cow<'a, str>>,
    /// The response that it is about.
    pub response_id: Option<Cow<'a, str>>,
}

/// What a provider's message tells of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It has begun.
    Created,
    /// It has ended, completed or not.
    Ended,
    /// It has ended because that was asked for.
    Cancelled,
    /// It has ended; some providers say so again after `Ended`.
    Done,
    /// It, or what was asked, failed.
    Error,
    /// Anything else.
    Other,
}

/// A provider's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEvent<'a> {
    /// What it tells.
    pub told: Told,
    /// The lane that it belongs to.
    pub lane: Option<Cow<'a, str>>,
    /// The response that it is about, if it says so.
    pub response_id: Option<Cow<'a, str>>,
    /// The status of an error.
    pub status: Option<u16>,
    /// The wait that an error asks for, in the `headers` that some providers put beside it.
    pub retry_after: Option<Duration>,
}

/// Reads a client's message.
#[must_use]
pub fn client_event(message: &[u8]) -> ClientEvent<'_> {
    let mut cursor = Cursor::new(message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message));
    let (mut of_type, mut lane, mut response_id) = (None, None, None);
    cursor.object(|cursor, key| match key {
        // The last of equal names counts, as in most readers.
        b"type" => of_type = cursor.value(),
        b"stream_id" => lane = cursor.value(),
        b"response_id" => response_id = cursor.value(),
        _ => {}
    });
    let whole = !cursor.is_broken() && cursor.is_at_end();
    let asked = match of_type.filter(|_| whole).and_then(Json::text).as_deref() {
        None | Some("response.create") => Asked::Create,
        Some("response.cancel") => Asked::Cancel,
        Some("response.steer") => Asked::Steer,
        Some(_) => Asked::Other,
    };
    ClientEvent {
        asked,
        lane: lane.and_then(id),
        response_id: response_id.and_then(id),
    }
}

/// Reads a provider's message; of one that was cut, what its beginning says.
#[must_use]
pub fn server_event(message: &[u8]) -> ServerEvent<'_> {
    let mut event = ServerEvent {
        told: Told::Other,
        lane: None,
        response_id: None,
        status: None,
        retry_after: None,
    };
    Cursor::new(message).object(|cursor, key| match key {
        b"type" => {
            event.told = cursor
                .value()
                .and_then(Json::text)
                .map_or(Told::Other, |name| told(&name))
        }
        b"stream_id" => event.lane = cursor.value().and_then(id),
        b"response_id" => event.response_id = cursor.value().and_then(id),
        b"response" if event.response_id.is_none() => {
            event.response_id = cursor.clone().find(b"id").and_then(id);
        }
        b"status" => {
            let number = cursor.value().and_then(Json::number);
            event.status = number.and_then(|number| u16::try_from(number).ok());
        }
        b"headers" => event.retry_after = cursor.value().and_then(retry_after),
        _ => {}
    });
    event
}

/// The wait that headers in a message ask for, in seconds or milliseconds, as text or number.
fn retry_after(headers: Json<'_>) -> Option<Duration> {
    let amount = |json: Json<'_>| match json.text() {
        Some(text) => text.trim().parse().ok(),
        None => json.number(),
    };
    let [millis, seconds] = headers.members(["retry-after-ms", "retry-after"]);
    let millis = millis.and_then(amount).map(Duration::from_millis);
    millis.or_else(|| seconds.and_then(amount).map(Duration::from_secs))
}

/// The text of an error event for a call that goes no further, in the lane of that call.
#[must_use]
pub fn error_event(shape: ErrorShape, facts: &ErrorFacts<'_>, lane: Option<&str>) -> Vec<u8> {
    let mut frame = error_frame(shape, facts);
    if let Some(wait) = facts.retry_after
        && frame.pop().is_some()
    {
        // Where a provider would put it whose message stands for a reply with a head.
        frame.extend_from_slice(format!(r#","headers":{{"retry-after":"{wait}"}}}}"#).as_bytes());
    }
    if let Some(name) = lane.and_then(|lane| serde_json::to_vec(lane).ok())
        && frame.pop().is_some()
    {
        frame.extend_from_slice(b",\"stream_id\":");
        frame.extend_from_slice(&name);
        frame.push(b'}');
    }
    frame
}

fn told(name: &str) -> Told {
    match name {
        "response.created" => Told::Created,
        "response.completed" | "response.incomplete" | "response.failed" => Told::Ended,
        "response.cancelled" | "response.canceled" => Told::Cancelled,
        "response.done" => Told::Done,
        "error" => Told::Error,
        _ => Told::Other,
    }
}

/// An id, within bounds: what is longer is told apart by its beginning alone.
fn id(json: Json<'_>) -> Option<Cow<'_, str>> {
    let text = json.text().filter(|text| !text.is_empty())?;
    if text.len() <= text::SHORT {
        return Some(text);
    }
    Some(Cow::Owned(text::short(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn a_clients_message_is_a_call_unless_it_plainly_is_none() {
        let cases: &[(&[u8], Asked)] = &[
            (br#"{"type":"response.create","model":"m"}"#, Asked::Create),
            (br#"{"type":"x","type":"response.create"}"#, Asked::Create),
            (br#"{"type":"response\u002ecreate"}"#, Asked::Create),
            (b"\xef\xbb\xbf{\"type\":\"response.create\"}", Asked::Create),
            (br#"{"type":"response.processed","x":NaN}"#, Asked::Create),
            (br#"{"model":"m","input":"hi"}"#, Asked::Create),
            (br#"{"type":5}"#, Asked::Create),
            (b"hello", Asked::Create),
            (b"", Asked::Create),
            (
                br#"{"type":"response.processed","response_id":"r"}"#,
                Asked::Other,
            ),
            (br#"{"type":"response.cancel"}"#, Asked::Cancel),
            (br#"{"type":"response.steer","input":"no"}"#, Asked::Steer),
        ];
        for (message, want) in cases {
            let name = String::from_utf8_lossy(message);
            assert_eq!(client_event(message).asked, *want, "{name}");
        }
    }

    /// What is told, in which lane, of which response, with which status.
    type Tie<'a> = (Told, Option<&'a str>, Option<&'a str>, Option<u16>);

    #[test]
    fn events_are_tied_to_their_responses() {
        let cases: &[(&[u8], Tie<'_>)] = &[
            (
                br#"{"type":"response.created","response":{"object":"response","id":"r1"},"stream_id":"s"}"#,
                (Told::Created, Some("s"), Some("r1"), None),
            ),
            (
                br#"{"type":"response.completed","response":{"id":"r2","output":[{"id":"x"}]}}"#,
                (Told::Ended, None, Some("r2"), None),
            ),
            (
                br#"{"type":"response.output_text.delta","delta":"a","stream_id":""}"#,
                (Told::Other, None, None, None),
            ),
            (
                br#"{"type":"error","status":429,"error":{"type":"t"},"stream_id":"s"}"#,
                (Told::Error, Some("s"), None, Some(429)),
            ),
            (
                br#"{"type":"response.done","response_id":"r3"}"#,
                (Told::Done, None, Some("r3"), None),
            ),
            // Cut in the middle.
            (
                br#"{"type":"response.failed","response":{"id":"r4","output":[{"te"#,
                (Told::Ended, None, Some("r4"), None),
            ),
            (b"nonsense", (Told::Other, None, None, None)),
        ];
        for (message, want) in cases {
            let event = server_event(message);
            let got = (
                event.told,
                event.lane.as_deref(),
                event.response_id.as_deref(),
                event.status,
            );
            assert_eq!(got, *want, "{}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn an_error_event_is_in_the_lane_of_its_call() {
        let facts = ErrorFacts {
            status: 400,
            code: "c",
            message: "m",
            request_id: "r",
            retry_after: None,
        };
        let error = json!({"message": "m", "type": "invalid_request_error", "param": null, "code": "c"});
        for (lane, want) in [
            (None, json!({"type": "error", "status": 400, "error": error})),
            (
                Some("a\"}"),
                json!({"type": "error", "status": 400, "error": error, "stream_id": "a\"}"}),
            ),
        ] {
            let frame = error_event(ErrorShape::OpenAi, &facts, lane);
            assert_eq!(serde_json::from_slice::<Value>(&frame).unwrap(), want);
        }
        let facts = ErrorFacts {
            retry_after: Some(7),
            ..facts
        };
        let frame = error_event(ErrorShape::OpenAi, &facts, Some("s"));
        let frame: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(frame["headers"], json!({"retry-after": "7"}));
        assert_eq!((&frame["error"], &frame["stream_id"]), (&error, &json!("s")));
    }

    #[test]
    fn the_wait_beside_an_error_is_read() {
        for (headers, want) in [
            (r#"{"retry-after":"12"}"#, Some(12_000)),
            (r#"{"retry-after":3}"#, Some(3_000)),
            (r#"{"retry-after":"9","retry-after-ms":"1500"}"#, Some(1_500)),
            (r#"{"retry-after":"soon"}"#, None),
            (r#"{}"#, None),
            ("7", None),
        ] {
            let message = format!(r#"{{"type":"error","status":503,"headers":{headers}}}"#);
            let wait = server_event(message.as_bytes()).retry_after;
            assert_eq!(wait, want.map(Duration::from_millis), "{headers}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (client_event(&bytes), server_event(&bytes));
        }
    }
}
