//! Simulated Anthropic messages.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Script, named};

pub(super) fn events(script: &Script<'_>) -> Vec<Bytes> {
    let start = json!({"type": "message_start", "message": message(script, &json!([]), None, 1)});
    let block =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let mut events = vec![named(&start), named(&block), named(&json!({"type": "ping"}))];
    for piece in &script.pieces {
        let delta = json!({"type": "text_delta", "text": piece});
        events.push(named(
            &json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        ));
    }
    events.push(named(&json!({"type": "content_block_stop", "index": 0})));
    events.push(named(&json!({
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": script.output_tokens},
    })));
    events.push(named(&json!({"type": "message_stop"})));
    events
}

pub(super) fn document(script: &Script<'_>) -> Value {
    let content = json!([{"type": "text", "text": script.answer(), "citations": null}]);
    message(script, &content, Some("end_turn"), script.output_tokens)
}

fn message(script: &Script<'_>, content: &Value, stop_reason: Option<&str>, output_tokens: usize) -> Value {
    json!({
        "id": format!("msg_{}", script.id),
        "type": "message",
        "role": "assistant",
        "model": script.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": script.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    })
}
