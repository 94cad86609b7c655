//! Simulated replies read by the taps that read real ones.

use super::*;
use crate::inspect::{Limits, inspect};
use crate::tap::{ReplyFacts, ReplyHead, Tap, TapLimits, UsageSource};

/// The APIs in which a model answers the user.
const ANSWERING: [Api; 4] = [
    Api::ChatCompletions,
    Api::Responses,
    Api::Messages,
    Api::Completions,
];

fn request(api: Api, stream: bool) -> String {
    let question = match api {
        Api::ChatCompletions | Api::Messages | Api::CountTokens => {
            r#""messages":[{"role":"user","content":"Why is the sky blue?"}]"#
        }
        Api::Responses | Api::Compact | Api::Embeddings => r#""input":"Why is the sky blue?""#,
        Api::Completions => r#""prompt":"Why is the sky blue?""#,
    };
    format!(r#"{{"model":"demo-1","stream":{stream},{question}}}"#)
}

fn reply(api: Api, body: &str) -> SimulatedReply {
    let inspection = inspect(api, "/", body.as_bytes(), &Limits::default());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    simulate(api, &inspection, body.as_bytes(), "r1", now)
}

fn facts(api: Api, reply: &SimulatedReply) -> ReplyFacts {
    let head = ReplyHead {
        status: reply.status,
        content_type: Some(reply.content_type),
        content_encoding: None,
    };
    let mut tap = Tap::new(
        api,
        &head,
        TapLimits {
            keep_output: true,
            ..TapLimits::default()
        },
    );
    reply.frames.iter().for_each(|frame| tap.push(frame));
    tap.finish(true)
}

#[test]
fn every_api_answers_alike() {
    for api in ANSWERING {
        for stream in [false, true] {
            let body = request(api, stream);
            let reply = reply(api, &body);
            let facts = facts(api, &reply);
            let what = format!("{api} {stream}");
            assert_eq!((reply.status, reply.frames.len() > 7), (200, stream), "{what}");
            assert_eq!(facts.model.as_deref(), Some("demo-1"), "{what}");
            assert!(facts.response_id.unwrap().ends_with("r1"), "{what}");
            assert!(
                facts.output.unwrap().ends_with("“Why is the sky blue?”"),
                "{what}"
            );
            assert_eq!(
                (facts.complete, facts.problem, facts.usage_source),
                (true, None, UsageSource::Reported),
                "{what}"
            );
            assert!(
                ["stop", "completed", "end_turn"].contains(&facts.finish_reason.unwrap().as_str()),
                "{what}"
            );
            let usage = facts.usage.unwrap();
            assert_eq!(
                (usage.input, usage.output > 10),
                (body.len().div_ceil(4) as u64, true),
                "{what}"
            );
        }
    }
}

#[test]
fn what_is_only_counted_is_answered_too() {
    let usage = |api: Api| {
        let facts = facts(api, &reply(api, &request(api, false)));
        assert_eq!(
            (facts.complete, facts.problem, facts.output),
            (true, None, None),
            "{api}"
        );
        assert_eq!(facts.usage_source, UsageSource::Reported, "{api}");
        facts.usage.unwrap()
    };
    assert!(usage(Api::Embeddings).input > 10);
    assert!(usage(Api::Compact).input > 10);
    let counted = usage(Api::CountTokens);
    assert_eq!(
        (counted.input, counted.extra["counted_input_tokens"] > 10),
        (0, true)
    );
}

#[test]
fn one_frame_is_one_event() {
    for api in ANSWERING {
        for frame in reply(api, &request(api, true)).frames {
            let text = std::str::from_utf8(&frame).unwrap();
            assert!(
                text.ends_with("\n\n") && text.matches("\n\n").count() == 1,
                "{text}"
            );
        }
    }
}

#[test]
fn replies_are_deterministic() {
    for api in Api::ALL {
        assert_eq!(reply(api, &request(api, true)), reply(api, &request(api, true)));
    }
}

#[test]
fn warm_ups_and_broken_bodies_are_understood() {
    let warm = reply(
        Api::Responses,
        r#"{"model":"m","stream":true,"generate":false,"input":[]}"#,
    );
    assert_eq!(
        (warm.frames.len(), facts(Api::Responses, &warm).output),
        (3, None)
    );
    for api in Api::ALL {
        let refused = reply(api, "{");
        assert_eq!(refused.status, 400);
        assert_eq!(
            facts(api, &refused).error.unwrap().kind,
            "invalid_request_error",
            "{api}"
        );
    }
}

/// A line whose JSON has its members in order: a feature of serde_json decides how it writes them.
fn sorted_line(line: &str) -> String {
    let (field, json) = line.split_at(line.find('{').unwrap_or(line.len()));
    match serde_json::from_str(json) {
        Ok(value) => format!("{field}{}", sorted(value)),
        Err(_) => line.to_owned(),
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: std::collections::BTreeMap<String, Value> = members.into_iter().collect();
            Value::Object(
                members
                    .into_iter()
                    .map(|(key, value)| (key, sorted(value)))
                    .collect(),
            )
        }
        Value::Array(elements) => elements.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[test]
fn formats_are_complete() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for api in Api::ALL {
            let streams = ANSWERING.contains(&api).then_some(true);
            for stream in [false].into_iter().chain(streams) {
                let text = String::from_utf8(reply(api, &request(api, stream)).frames.concat()).unwrap();
                let lines: Vec<String> = text.lines().map(sorted_line).collect();
                insta::assert_snapshot!(format!("{api}-{stream}"), lines.join("\n"));
            }
        }
    });
}
