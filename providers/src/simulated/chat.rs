//! Simulated chat completions.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{DONE, Script, data};

pub(super) fn events(script: &Script<'_>) -> Vec<Bytes> {
    let role = json!({"role": "assistant", "content": "", "refusal": null});
    let deltas = script.pieces.iter().map(|piece| json!({"content": piece}));
    let mut events: Vec<Bytes> = std::iter::once(role)
        .chain(deltas)
        .map(|delta| data(&chunk(script, &delta, None)))
        .collect();
    events.push(data(&chunk(script, &json!({}), Some("stop"))));
    let mut last = chunk(script, &Value::Null, None);
    if let Some(last) = last.as_object_mut() {
        last.insert("choices".to_owned(), json!([]));
        last.insert("usage".to_owned(), usage(script));
    }
    events.push(data(&last));
    events.push(DONE);
    events
}

fn chunk(script: &Script<'_>, delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": format!("chatcmpl-{}", script.id),
        "object": "chat.completion.chunk",
        "created": script.created,
        "model": script.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
        "usage": null,
    })
}

pub(super) fn document(script: &Script<'_>) -> Value {
    let message =
        json!({"role": "assistant", "content": script.answer(), "refusal": null, "annotations": []});
    json!({
        "id": format!("chatcmpl-{}", script.id),
        "object": "chat.completion",
        "created": script.created,
        "model": script.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": usage(script),
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    })
}

/// Usage as chat completions and completions report it.
pub(super) fn usage(script: &Script<'_>) -> Value {
    json!({
        "prompt_tokens": script.input_tokens,
        "completion_tokens": script.output_tokens,
        "total_tokens": script.total_tokens(),
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
