//! A provider without a network: deterministic replies in each API's full format, for demos and tests.
//!
//! In come what [`crate::inspect()`] read, the body and the time; out come the frames of a reply that the official
//! SDKs can parse. The answer repeats the prompt; usage is counted from the texts, four bytes to a token.

mod chat;
mod completions;
mod counted;
mod messages;
mod responses;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::Value;

use crate::api::{Api, Endpoint};
use crate::error::{ErrorFacts, ErrorShape, error_body};
use crate::inspect::Inspection;
use crate::text;

/// A reply made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedReply {
    /// The status code.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// One frame for each event of a stream, or the one body.
    pub frames: Vec<Bytes>,
}

/// What every format needs to know.
struct Script<'a> {
    id: &'a str,
    model: &'a str,
    created: u64,
    /// The answer in the pieces in which it streams.
    pieces: Vec<String>,
    input_tokens: usize,
    output_tokens: usize,
}

/// The pieces into which an answer is cut.
const PIECES: usize = 6;

/// Bytes of the prompt that the answer repeats.
const ECHO: usize = 200;

/// Answers a request; a body that could not be read is refused as the real APIs refuse it.
#[must_use]
pub fn simulate(
    api: Api,
    inspection: &Inspection,
    body: &[u8],
    reply_id: &str,
    now: SystemTime,
) -> SimulatedReply {
    if inspection.problem.is_some() {
        return refuse(api, reply_id);
    }
    let script = Script::new(inspection, body, reply_id, now);
    match (api, inspection.stream) {
        (Api::ChatCompletions, true) => stream(chat::events(&script)),
        (Api::ChatCompletions, false) => document(&chat::document(&script)),
        (Api::Completions, true) => stream(completions::events(&script)),
        (Api::Completions, false) => document(&completions::document(&script)),
        (Api::Responses, true) => stream(responses::events(&script)),
        (Api::Responses, false) => document(&responses::document(&script)),
        (Api::Messages, true) => stream(messages::events(&script)),
        (Api::Messages, false) => document(&messages::document(&script)),
        (Api::Embeddings, _) => document(&counted::embeddings(&script)),
        (Api::CountTokens, _) => document(&counted::tokens(&script)),
        (Api::Compact, _) => document(&counted::compaction(&script)),
    }
}

impl<'a> Script<'a> {
    fn new(inspection: &'a Inspection, body: &[u8], id: &'a str, now: SystemTime) -> Script<'a> {
        let model = inspection.model.as_deref().unwrap_or("simulated");
        let answer = if inspection.warm_up {
            String::new()
        } else {
            answer(inspection, model)
        };
        Script {
            id,
            model,
            created: now
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or(Duration::ZERO)
                .as_secs(),
            input_tokens: body.len().div_ceil(4).max(1),
            output_tokens: answer.len().div_ceil(4),
            pieces: pieces(&answer),
        }
    }

    fn answer(&self) -> String {
        self.pieces.concat()
    }

    fn total_tokens(&self) -> usize {
        self.input_tokens + self.output_tokens
    }
}

fn answer(inspection: &Inspection, model: &str) -> String {
    let results = inspection.tool_results.len();
    match &inspection.prompt {
        Some(prompt) => {
            format!(
                "This is a simulated reply of {model}. You asked: “{}”",
                text::prefix(prompt, ECHO)
            )
        }
        None if results > 0 => format!("This is a simulated reply of {model} to {results} tool result(s)."),
        None => format!("This is a simulated reply of {model} to a request without a prompt."),
    }
}

/// Cuts a text into at most [`PIECES`] pieces of nearly the same length.
fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let size = characters.len().div_ceil(PIECES).max(1);
    characters
        .chunks(size)
        .map(|piece| piece.iter().collect())
        .collect()
}

fn document(body: &Value) -> SimulatedReply {
    SimulatedReply {
        status: 200,
        content_type: "application/json",
        frames: vec![body.to_string().into()],
    }
}

fn stream(events: Vec<Bytes>) -> SimulatedReply {
    SimulatedReply {
        status: 200,
        content_type: "text/event-stream; charset=utf-8",
        frames: events,
    }
}

fn refuse(api: Api, request_id: &str) -> SimulatedReply {
    let message = "We could not parse the JSON body of your request.";
    let facts = ErrorFacts {
        status: 400,
        code: "invalid_json",
        message,
        request_id,
        retry_after: None,
    };
    let body = error_body(ErrorShape::of(Endpoint::Bridged(api)), &facts);
    SimulatedReply {
        status: 400,
        content_type: "application/json",
        frames: vec![body.into()],
    }
}

/// An event without a name.
fn data(body: &Value) -> Bytes {
    format!("data: {body}\n\n").into()
}

/// An event named as its body's type.
fn named(body: &Value) -> Bytes {
    let name = body.get("type").and_then(Value::as_str).unwrap_or("message");
    format!("event: {name}\ndata: {body}\n\n").into()
}

const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

#[cfg(test)]
mod tests;
