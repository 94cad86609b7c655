//! What does reading a request body cost, small and large, compared with serde_json skipping the same bytes?
//!
//! `cargo bench -p providers --bench inspect`. A body is a conversation of code-like messages, half of them tool
//! results with many escapes, and a short prompt at the end.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails loudly")]

use divan::Bencher;
use divan::counter::BytesCount;
use providers::{Api, Limits, inspect};
use serde_json::{Value, json};

mod ratio;

fn main() {
    divan::main();
    if ratio::is_asked() {
        for size in [1, 2] {
            let body = codex_body(size * 1024 * 1024);
            let limits = Limits::default();
            let run = || {
                divan::black_box(inspect(Api::Responses, "/", divan::black_box(&body), &limits));
            };
            ratio::print(
                &format!("Codex body of {size} MiB"),
                std::slice::from_ref(&body),
                run,
            );
        }
    }
}

const SIZES: [usize; 2] = [2 * 1024, 2 * 1024 * 1024];

const APIS: [Api; 3] = [Api::ChatCompletions, Api::Responses, Api::Messages];

/// A body of about `size` bytes.
fn body(api: Api, size: usize) -> Vec<u8> {
    let line = "    let total = items.iter().map(|item| item.\"price\" * item.count).sum::<u64>();\n";
    let text = line.repeat((size / 12 / line.len()).max(1));
    let turn = |i: usize| match (api, i % 2) {
        (Api::Messages, 0) => {
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": format!("t{i}"), "content": text}]})
        }
        (Api::Messages, _) => json!({"role": "assistant", "content": [{"type": "text", "text": text}]}),
        (Api::Responses, 0) => {
            json!({"type": "function_call_output", "call_id": format!("c{i}"), "output": text})
        }
        (Api::Responses, _) => {
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
        }
        (_, 0) => json!({"role": "tool", "tool_call_id": format!("c{i}"), "content": text}),
        (_, _) => json!({"role": "assistant", "content": text}),
    };
    let mut turns: Vec<Value> = (0..10).map(turn).collect();
    turns.push(json!({"role": "user", "content": "What does this code do?"}));
    let tools: Vec<Value> = (0..size / 4096).map(|i| json!({"type": "function", "name": format!("tool{i}"), "parameters": {"type": "object", "properties": {"path": {"type": "string", "description": "Where"}}}})).collect();
    let list = if api == Api::Responses {
        "input"
    } else {
        "messages"
    };
    json!({"model": "gpt-5.5", "stream": true, list: turns, "tools": tools})
        .to_string()
        .into_bytes()
}

/// A body as Codex sends it late in a session: instructions, tools, and an input of calls, outputs and reasoning.
fn codex_body(size: usize) -> Vec<u8> {
    let code = "    let total = items.iter().map(|item| item.price * item.count).sum::<u64>();\n";
    let listing = "src/main.rs:12:fn main() -> ExitCode {\nsrc/main.rs:13:    let args = \"--help\";\n";
    let secret = "gAAAAABpIh1xQm5vdCByZWFsbHkgZW5jcnlwdGVk".repeat(40);
    let mut input = vec![
        json!({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Follow AGENTS.md. ".repeat(300)}]}),
    ];
    let mut length = 30_000;
    for i in 0.. {
        if length >= size {
            break;
        }
        let turn = [
            json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "**Reading the code**"}], "content": null, "encrypted_content": secret}),
            json!({"type": "function_call", "name": "exec_command", "arguments": format!("{{\"cmd\":\"rg -n main src/{i}\",\"workdir\":\"/repo\"}}"), "call_id": format!("call_{i:024}")}),
            json!({"type": "function_call_output", "call_id": format!("call_{i:024}"), "output": format!("Exit code: 0\nOutput:\n{}{}", listing.repeat(20), code.repeat(30))}),
        ];
        length += turn.iter().map(|item| item.to_string().len()).sum::<usize>();
        input.extend(turn);
    }
    input.push(json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What does this code do?"}]}));
    let tools: Vec<Value> = (0..7).map(|i| json!({"type": "function", "name": format!("tool{i}"), "strict": false, "description": "Runs a command. ".repeat(20), "parameters": {"type": "object", "properties": {"cmd": {"type": "string", "description": "Shell command to execute."}}, "required": ["cmd"], "additionalProperties": false}})).collect();
    json!({"model": "gpt-5.5", "instructions": "You are Codex, a coding agent.\n".repeat(400), "input": input, "tools": tools, "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"effort": "medium", "summary": "auto"}, "store": false, "stream": true, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0199"})
        .to_string()
        .into_bytes()
}

#[divan::bench(args = [1024 * 1024, 2 * 1024 * 1024])]
fn codex(bencher: Bencher<'_, '_>, size: usize) {
    let body = codex_body(size);
    let limits = Limits::default();
    let found = inspect(Api::Responses, "/", &body, &limits);
    assert_eq!(found.prompt.as_deref(), Some("What does this code do?"));
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| inspect(Api::Responses, "/", divan::black_box(&body), &limits));
}

#[divan::bench(args = APIS, consts = SIZES)]
fn whole<const SIZE: usize>(bencher: Bencher<'_, '_>, api: Api) {
    let body = body(api, SIZE);
    let limits = Limits::default();
    assert_eq!(
        inspect(api, "/", &body, &limits).prompt.as_deref(),
        Some("What does this code do?")
    );
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| inspect(api, "/", divan::black_box(&body), &limits));
}

/// The prompt itself is most of the body.
#[divan::bench(consts = SIZES)]
fn long_prompt<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let prompt = "Say \"hello\"\n".repeat(SIZE / 14);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": prompt}]})
        .to_string()
        .into_bytes();
    let limits = Limits::default();
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| inspect(Api::ChatCompletions, "/", divan::black_box(&body), &limits));
}

/// The yardstick: serde_json looks at the same bytes and keeps nothing.
#[divan::bench(consts = SIZES)]
fn serde_json_ignores<const SIZE: usize>(bencher: Bencher<'_, '_>) {
    let body = body(Api::ChatCompletions, SIZE);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| serde_json::from_slice::<serde::de::IgnoredAny>(divan::black_box(&body)).unwrap());
}
