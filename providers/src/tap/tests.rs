//! Golden replies, any chunking of them, and hostile bytes.
//!
//! A fixture is `fixtures/<kind>/<api>/<case>[.<status>].<sse|json>`; its facts are in `fixtures/snapshots`.

use super::*;
use crate::encoding::tests::encode;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

struct Fixture {
    name: String,
    api: Api,
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|end| end.to_str()) {
            Some("sse" | "json") => found.push(path),
            Some(_) => {}
            None => files(&path, found),
        }
    }
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    paths.sort();
    let all: Vec<_> = paths
        .iter()
        .filter_map(|path| fixture(path, path.strip_prefix(&root).unwrap()))
        .collect();
    assert!(all.len() > 30, "the fixtures are there");
    all
}

/// Folders that hold requests rather than replies are named otherwise and skipped.
fn fixture(path: &Path, short: &Path) -> Option<Fixture> {
    let api = Api::parse(path.parent()?.file_name()?.to_str()?)?;
    let stem = path.file_stem()?.to_str()?;
    let status = stem
        .rsplit_once('.')
        .map_or(200, |(_, status)| status.parse().unwrap());
    let content_type = match path.extension()?.to_str()? {
        "sse" => "text/event-stream; charset=utf-8",
        _ => "application/json",
    };
    let name = short.to_str()?.replace(['/', '\\'], "-");
    Some(Fixture {
        name,
        api,
        status,
        content_type,
        body: std::fs::read(path).unwrap(),
    })
}

fn everything() -> TapLimits {
    TapLimits {
        keep_output: true,
        request_text: Some(400),
        ..TapLimits::default()
    }
}

fn read(
    fixture: &Fixture,
    encoding: Option<&str>,
    body: &[u8],
    sizes: &[usize],
    limits: TapLimits,
) -> ReplyFacts {
    let head = ReplyHead {
        status: fixture.status,
        content_type: Some(fixture.content_type),
        content_encoding: encoding,
    };
    let mut tap = Tap::new(fixture.api, &head, limits);
    let mut rest = body;
    for size in sizes {
        let (chunk, tail) = rest.split_at((*size).min(rest.len()));
        tap.push(chunk);
        rest = tail;
    }
    tap.push(rest);
    tap.finish(!fixture.name.contains("cut_off"))
}

#[test]
fn replies_give_their_facts() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../fixtures/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for fixture in fixtures() {
            let facts = read(&fixture, None, &fixture.body, &[], everything());
            insta::assert_debug_snapshot!(fixture.name.as_str(), facts);
        }
    });
}

#[test]
fn output_is_kept_only_on_demand() {
    for fixture in fixtures() {
        let kept = read(
            &fixture,
            None,
            &fixture.body,
            &[],
            TapLimits {
                keep_output: true,
                ..TapLimits::default()
            },
        );
        let facts = read(&fixture, None, &fixture.body, &[], TapLimits::default());
        assert_eq!(facts, ReplyFacts { output: None, ..kept }, "{}", fixture.name);
    }
}

/// Feeds events one at a time and tells after which the tap saw output and the end.
fn milestones(fixture: &Fixture) -> (Option<usize>, Option<usize>) {
    let head = ReplyHead {
        status: 200,
        content_type: Some(fixture.content_type),
        content_encoding: None,
    };
    let mut tap = Tap::new(fixture.api, &head, TapLimits::default());
    let text = String::from_utf8(fixture.body.clone())
        .unwrap()
        .replace("\r\n", "\n");
    let (mut output, mut end) = (None, None);
    for (at, event) in text.split_inclusive("\n\n").enumerate() {
        tap.push(event.as_bytes());
        output = output.or(tap.saw_output().then_some(at));
        end = end.or(tap.is_terminal().then_some(at));
    }
    (output, end)
}

#[test]
fn first_output_and_end_are_seen_when_they_come() {
    let cases = [
        ("openai-chat_completions-text.sse", Some(1), Some(12)),
        ("openai-chat_completions-tools.sse", Some(1), Some(13)),
        ("openai-chat_completions-error_in_stream.sse", Some(0), None),
        ("openai-chat_completions-cut_off.sse", Some(1), None),
        ("copilot-chat_completions-claude.sse", Some(1), Some(4)),
        ("copilot-completions-no_usage.sse", Some(0), Some(4)),
        (
            "openai-compatible-chat_completions-same_index_no_done.sse",
            Some(0),
            Some(1),
        ),
        ("openai-responses-everything.sse", Some(4), Some(34)),
        ("openai-responses-incomplete.sse", Some(3), Some(5)),
        ("openai-responses-failed.sse", None, Some(2)),
        ("openai-responses-error_event.sse", None, None),
        ("openai-responses-cut_off.sse", Some(5), None),
        ("anthropic-messages-thinking_tools.sse", Some(3), Some(22)),
        ("anthropic-messages-error_in_stream.sse", Some(2), None),
        ("anthropic-messages-cut_off.sse", Some(3), None),
    ];
    let all = fixtures();
    for (name, output, end) in cases {
        let fixture = all.iter().find(|fixture| fixture.name == name).unwrap();
        assert_eq!(milestones(fixture), (output, end), "{name}");
    }
}

#[test]
fn websocket_messages_are_events() {
    let all = fixtures();
    let fixture = all
        .iter()
        .find(|fixture| fixture.name == "openai-responses-unnamed_events.sse")
        .unwrap();
    let mut tap = Tap::of_events(Api::Responses, everything());
    for line in fixture.body.split(|b| *b == b'\n') {
        if let Some(data) = line.strip_prefix(b"data: ").filter(|data| *data != b"[DONE]") {
            tap.push_event(data);
        }
    }
    assert!(tap.is_terminal() && tap.saw_output());
    assert_eq!(
        tap.finish(false),
        read(fixture, None, &fixture.body, &[], everything())
    );
}

#[test]
fn heads_choose_the_framing() {
    let stream =
        b"data: {\"id\":\"c\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n".as_slice();
    let document = b" \n{\"id\":\"c\",\"choices\":[{\"message\":{},\"finish_reason\":\"stop\"}]}".as_slice();
    for content_type in [
        None,
        Some("text/event-stream"),
        Some("Text/Event-Stream;charset=utf-8"),
    ] {
        for body in [stream, document] {
            let mut tap = Tap::new(
                Api::ChatCompletions,
                &ReplyHead {
                    status: 200,
                    content_type,
                    content_encoding: None,
                },
                TapLimits::default(),
            );
            body.iter().for_each(|byte| tap.push(std::slice::from_ref(byte)));
            let facts = tap.finish(true);
            assert_eq!(
                (facts.response_id.as_deref(), facts.complete, facts.problem),
                (Some("c"), true, None),
                "{content_type:?}"
            );
        }
    }
}

#[test]
fn estimates_fill_gaps_but_never_replace_reports() {
    let all = fixtures();
    let named = |name: &str| all.iter().find(|fixture| fixture.name == name).unwrap();
    let silent = named("copilot-completions-no_usage.sse");
    let facts = read(silent, None, &silent.body, &[], TapLimits::default());
    assert_eq!((facts.usage, facts.usage_source), (None, UsageSource::Unknown));
    let facts = read(silent, None, &silent.body, &[], everything());
    let usage = facts.usage.unwrap();
    assert_eq!(
        (usage.input, usage.output, facts.usage_source),
        (100, 6, UsageSource::Estimated)
    );

    let cut = named("anthropic-messages-cut_off.sse");
    let facts = read(cut, None, &cut.body, &[], TapLimits::default());
    assert_eq!(
        (facts.usage.unwrap().output, facts.usage_source),
        (5, UsageSource::Partial)
    );
    let facts = read(cut, None, &cut.body, &[], everything());
    assert_eq!(
        (facts.usage.unwrap().output, facts.usage_source),
        (6, UsageSource::Partial)
    );
}

#[test]
fn limits_hold() {
    let limits = TapLimits {
        text: 4,
        items: 1,
        event: 4096,
        body: 4096,
        keep_output: true,
        ..TapLimits::default()
    };
    for fixture in fixtures() {
        let facts = read(&fixture, None, &fixture.body, &[], limits);
        assert!(
            facts.tool_calls.len() <= 1 && facts.thoughts.len() <= 1,
            "{}",
            fixture.name
        );
        let long = |text: &str| text.len() > 4;
        assert!(
            !facts.tool_calls.iter().any(|call| long(&call.arguments)),
            "{}",
            fixture.name
        );
        assert!(
            !facts.thoughts.iter().any(|thought| long(&thought.text)),
            "{}",
            fixture.name
        );
        assert!(!facts.output.as_deref().is_some_and(long), "{}", fixture.name);
    }
}

#[test]
fn all_texts_together_are_bounded() {
    let limits = TapLimits {
        text: 100,
        ..TapLimits::default()
    };
    let mut tap = Tap::of_events(Api::Messages, limits);
    for index in 0..200 {
        let start = format!(
            r#"{{"type":"content_block_start","index":{index},"content_block":{{"type":"tool_use","id":"t{index}","name":"n"}}}}"#
        );
        let delta = format!(
            r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"input_json_delta","partial_json":"{}"}}}}"#,
            "x".repeat(90)
        );
        tap.push_event(start.as_bytes());
        tap.push_event(delta.as_bytes());
    }
    let facts = tap.finish(true);
    assert_eq!(facts.tool_calls.len(), 200);
    assert_eq!(
        facts
            .tool_calls
            .iter()
            .map(|call| call.arguments.len())
            .sum::<usize>(),
        3200
    );
    assert!(facts.tool_calls.iter().all(|call| call.truncated));
}

#[test]
fn taps_move_between_threads() {
    fn assert_send<T: Send>(_: &T) {}
    for coding in [None, Some("gzip"), Some("br"), Some("zstd")] {
        let head = ReplyHead {
            status: 200,
            content_type: None,
            content_encoding: coding,
        };
        assert_send(&Tap::new(Api::Messages, &head, TapLimits::default()));
    }
}

#[test]
fn oversized_parts_are_noted() {
    let event = [
        b"data: {\"id\":\"".as_slice(),
        &[b'x'; 5000],
        b"\"}\n\ndata: [DONE]\n\n",
    ]
    .concat();
    let document = [b"{\"id\":\"".as_slice(), &[b'x'; 5000], b"\"}"].concat();
    let limits = TapLimits {
        event: 1000,
        body: 1000,
        ..TapLimits::default()
    };
    for (body, terminal) in [(event, true), (document, false)] {
        let mut tap = Tap::new(
            Api::ChatCompletions,
            &ReplyHead {
                status: 200,
                ..ReplyHead::default()
            },
            limits,
        );
        body.chunks(100).for_each(|chunk| tap.push(chunk));
        assert_eq!(tap.is_terminal(), terminal);
        let facts = tap.finish(true);
        assert_eq!(
            (facts.problem, facts.response_id, facts.complete),
            (Some(TapProblem::TooLarge), None, true)
        );
    }
}

#[test]
fn bad_encodings_are_noted_once() {
    for (encoding, problem) in [
        ("gzip", TapProblem::BadEncoding),
        ("lzma", TapProblem::UnknownEncoding),
    ] {
        let head = ReplyHead {
            status: 200,
            content_type: Some("text/event-stream"),
            content_encoding: Some(encoding),
        };
        let mut tap = Tap::new(Api::Messages, &head, TapLimits::default());
        tap.push(b"data: plain after all\n\n");
        tap.push(b"data: more\n\n");
        assert_eq!(tap.finish(true).problem, Some(problem), "{encoding}");
    }
}

fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![prop::collection::vec(1_usize..40, 0..400), Just(vec![1; 20_000])]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_chunking_gives_the_same_facts(sizes in any_sizes()) {
        for fixture in fixtures() {
            let whole = read(&fixture, None, &fixture.body, &[], everything());
            prop_assert_eq!(read(&fixture, None, &fixture.body, &sizes, everything()), whole, "{}", fixture.name);
        }
    }

    #[test]
    fn any_chunking_of_encoded_replies_gives_the_same_facts(sizes in any_sizes(), at in 0_usize..4) {
        let coding = ["gzip", "deflate", "br", "zstd"][at];
        for fixture in fixtures() {
            let whole = read(&fixture, None, &fixture.body, &[], everything());
            let encoded = encode(coding, &fixture.body);
            prop_assert_eq!(read(&fixture, Some(coding), &encoded, &sizes, everything()), whole, "{} {}", coding, fixture.name);
        }
    }

    #[test]
    fn damaged_replies_are_survived(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20), cut in any::<prop::sample::Index>()) {
        for mut fixture in fixtures() {
            for (at, byte) in &flips {
                let at = at.index(fixture.body.len());
                fixture.body[at] = *byte;
            }
            let body = &fixture.body[..cut.index(fixture.body.len())];
            for limits in [everything(), TapLimits { text: 2, items: 1, event: 300, body: 300, ..everything() }] {
                let facts = read(&fixture, None, body, &[7, 100], limits);
                prop_assert!(facts.tool_calls.len() <= limits.items);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), encoding in prop::option::of("gzip|deflate|br|zstd")) {
        for api in Api::ALL {
            let head = ReplyHead { status: 500, content_type: None, content_encoding: encoding.as_deref() };
            let mut tap = Tap::new(api, &head, everything());
            tap.push(&bytes);
            tap.push_event(&bytes);
            let _ = tap.finish(false);
        }
    }
}
