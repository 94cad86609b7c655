//! Simulated responses.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Script, named};

/// Numbers the events of one stream.
struct Sequence(Vec<Bytes>);

impl Sequence {
    fn push(&mut self, mut event: Value) {
        if let Some(event) = event.as_object_mut() {
            event.insert("sequence_number".to_owned(), json!(self.0.len()));
        }
        self.0.push(named(&event));
    }
}

pub(super) fn events(script: &Script<'_>) -> Vec<Bytes> {
    let mut events = Sequence(Vec::new());
    for of_type in ["response.created", "response.in_progress"] {
        events.push(
            json!({"type": of_type, "response": response(script, "in_progress", &json!([]), &Value::Null)}),
        );
    }
    if !script.pieces.is_empty() {
        message_events(script, &mut events);
    }
    events.push(json!({"type": "response.completed", "response": document(script)}));
    events.0
}

fn message_events(script: &Script<'_>, events: &mut Sequence) {
    let id = message_id(script);
    let mut push = |of_type: &str, members: Value| {
        let mut event = json!({"type": of_type, "output_index": 0});
        if let (Some(event), Value::Object(members)) = (event.as_object_mut(), members) {
            event.extend(members);
        }
        events.push(event);
    };
    push(
        "response.output_item.added",
        json!({"item": message(script, "in_progress", &json!([]))}),
    );
    push(
        "response.content_part.added",
        json!({"item_id": id, "content_index": 0, "part": part("")}),
    );
    for piece in &script.pieces {
        let delta = json!({"item_id": id, "content_index": 0, "delta": piece, "logprobs": []});
        push("response.output_text.delta", delta);
    }
    let answer = script.answer();
    let text = json!({"item_id": id, "content_index": 0, "text": answer, "logprobs": []});
    push("response.output_text.done", text);
    push(
        "response.content_part.done",
        json!({"item_id": id, "content_index": 0, "part": part(&answer)}),
    );
    push(
        "response.output_item.done",
        json!({"item": message(script, "completed", &json!([part(&answer)]))}),
    );
}

pub(super) fn document(script: &Script<'_>) -> Value {
    let output = match script.pieces.is_empty() {
        true => json!([]),
        false => json!([message(script, "completed", &json!([part(&script.answer())]))]),
    };
    let usage = json!({
        "input_tokens": script.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": script.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": script.total_tokens(),
    });
    response(script, "completed", &output, &usage)
}

fn message_id(script: &Script<'_>) -> String {
    format!("msg_{}", script.id)
}

fn message(script: &Script<'_>, status: &str, content: &Value) -> Value {
    json!({"id": message_id(script), "type": "message", "status": status, "role": "assistant", "content": content})
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn response(script: &Script<'_>, status: &str, output: &Value, usage: &Value) -> Value {
    json!({
        "id": format!("resp_{}", script.id),
        "object": "response",
        "created_at": script.created,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "model": script.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "default",
        "store": false,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "user": null,
        "metadata": {},
    })
}
