//! Simulated legacy completions, as Copilot uses them for inline suggestions.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{DONE, Script, chat, data};

pub(super) fn events(script: &Script<'_>) -> Vec<Bytes> {
    let mut events: Vec<Bytes> = script
        .pieces
        .iter()
        .map(|piece| data(&body(script, piece, None)))
        .collect();
    let mut last = body(script, "", Some("stop"));
    if let Some(last) = last.as_object_mut() {
        last.insert("usage".to_owned(), chat::usage(script));
    }
    events.push(data(&last));
    events.push(DONE);
    events
}

pub(super) fn document(script: &Script<'_>) -> Value {
    let mut document = body(script, &script.answer(), Some("stop"));
    if let Some(document) = document.as_object_mut() {
        document.insert("usage".to_owned(), chat::usage(script));
    }
    document
}

fn body(script: &Script<'_>, text: &str, finish_reason: Option<&str>) -> Value {
    json!({
        "id": format!("cmpl-{}", script.id),
        "object": "text_completion",
        "created": script.created,
        "model": script.model,
        "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish_reason}],
    })
}
