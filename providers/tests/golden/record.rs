//! A record as text: one line for each thing that is known, none for what is not.

use std::fmt::{Display, Write};

use providers::{Inspection, Limits, ReplyFacts, Thought, ToolCall, ToolResult, Usage, UsageSource, inspect};

use crate::cases::{Case, EVERYTHING};

/// What is recorded of a case.
pub(crate) fn of(case: &Case) -> String {
    let mut out = String::new();
    if let Some(body) = &case.request {
        request(&mut out, inspect(case.api, &case.path, body, &Limits::default()));
    }
    let _ = writeln!(out, "reply {}", case.status);
    reply(&mut out, case.read(EVERYTHING));
    out
}

fn line(out: &mut String, what: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        let _ = writeln!(out, "  {what}: {value}");
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn request(out: &mut String, inspection: Inspection) {
    let Inspection {
        model,
        stream,
        max_output,
        warm_up,
        prompt,
        prompt_truncated,
        tool_results,
        previous_response_id,
        session_id,
        problem,
    } = inspection;
    let _ = writeln!(out, "request");
    line(out, "model", model);
    line(out, "stream", stream.then_some(true));
    line(out, "most output", max_output);
    line(out, "warm-up", warm_up.then_some(true));
    line(out, "prompt", prompt.map(|prompt| quoted(&prompt)));
    line(out, "prompt cut", prompt_truncated.then_some(true));
    for ToolResult { call_id, is_error } in tool_results {
        line(out, "answers", Some(format!("{call_id}, error {is_error:?}")));
    }
    line(out, "continues", previous_response_id);
    line(out, "session", session_id);
    line(out, "problem", problem.map(|problem| format!("{problem:?}")));
}

fn reply(out: &mut String, facts: ReplyFacts) {
    let ReplyFacts {
        response_id,
        model,
        service_tier,
        finish_reason,
        usage,
        usage_source,
        tool_calls,
        thoughts,
        output,
        error,
        problem,
        complete,
    } = facts;
    line(out, "id", response_id);
    line(out, "model", model);
    line(out, "tier", service_tier);
    line(out, "finish", finish_reason);
    line(out, "complete", Some(complete));
    line(out, "usage", Some(spent(usage, usage_source)));
    for call in tool_calls {
        line(out, "call", Some(called(&call)));
    }
    for Thought { text, source } in thoughts {
        line(out, "thought", Some(format!("{source} {text:?}")));
    }
    line(out, "output", output.map(|output| quoted(&output)));
    line(
        out,
        "error",
        error.map(|error| format!("{} {:?}", error.kind, error.message)),
    );
    line(out, "problem", problem.map(|problem| format!("{problem:?}")));
}

fn spent(usage: Option<Usage>, source: UsageSource) -> String {
    let Some(usage) = usage else {
        return source.to_string();
    };
    let Usage {
        input,
        output,
        cache_read,
        cache_write,
        reasoning,
        extra,
    } = usage;
    let mut text = format!("{source}, input {input}, output {output}");
    for (what, count) in [
        ("cache read", cache_read),
        ("cache write", cache_write),
        ("reasoning", reasoning),
    ] {
        if count > 0 {
            let _ = write!(text, ", {what} {count}");
        }
    }
    for (what, count) in extra {
        let _ = write!(text, ", {what} {count}");
    }
    text
}

fn called(call: &ToolCall) -> String {
    let ToolCall {
        id,
        name,
        server,
        arguments,
        kind,
        truncated,
    } = call;
    let of = server
        .as_ref()
        .map_or(String::new(), |server| format!(" of {server}"));
    let cut = if *truncated { ", cut" } else { "" };
    format!("{kind} {name}{of} {id} {arguments}{cut}")
}
