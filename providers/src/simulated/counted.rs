//! Simulated replies that say nothing to the user: embeddings, counts of tokens, compactions.

use serde_json::{Value, json};

use super::Script;

/// One vector, whatever was sent.
pub(super) fn embeddings(script: &Script<'_>) -> Value {
    json!({
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 0.125, 0.75]}],
        "model": script.model,
        "usage": {"prompt_tokens": script.input_tokens, "total_tokens": script.input_tokens},
    })
}

pub(super) fn tokens(script: &Script<'_>) -> Value {
    json!({"input_tokens": script.input_tokens})
}

pub(super) fn compaction(script: &Script<'_>) -> Value {
    json!({
        "id": format!("resp_{}", script.id),
        "object": "response.compaction",
        "created_at": script.created,
        "output": [{"id": format!("cmp_{}", script.id), "type": "compaction", "encrypted_content": "simulated"}],
        "usage": {
            "input_tokens": script.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": script.input_tokens,
        },
    })
}
