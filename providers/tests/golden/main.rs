//! Golden requests and replies: what is recorded of them, at any chunking, and what hostile ones do.
//!
//! A case is a few files in the folder of its API: `CASE.request.json`, `CASE.path` (the request's path, if it tells
//! something), and `CASE.reply[.STATUS][.cut].EXT` with the reply's body, `cut` where the connection broke. `EXT`
//! is `sse`, `json`, or anything else for a reply of another type. `CASE.snap` holds the record. To add a case, add
//! its files and run the tests with `INSTA_UPDATE=always`; then read the record.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails loudly"
)]

mod cases;
mod chunks;
mod encode;
mod hostile;
mod record;

use cases::{EVERYTHING, cases};
use providers::{Api, Tap, TapLimits, UsageSource};

#[test]
fn each_case_gives_its_record() {
    for case in cases() {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(&case.folder);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(case.name.as_str(), record::of(&case)));
    }
}

#[test]
fn every_api_has_its_cases() {
    let all = cases();
    let count = |api: Api, extension: &str| {
        let of_api = all.iter().filter(|case| case.api == api);
        of_api.filter(|case| case.extension == extension).count()
    };
    for api in [Api::ChatCompletions, Api::Responses, Api::Messages] {
        assert!(count(api, "json") >= 8 && count(api, "sse") >= 8, "{api}");
    }
    for api in Api::ALL {
        assert!(count(api, "json") >= 2, "{api}");
    }
}

#[test]
fn output_is_kept_only_on_demand() {
    for case in cases() {
        let with = |keep_output| TapLimits {
            keep_output,
            ..TapLimits::default()
        };
        let (mut kept, mut facts) = (case.read(with(true)), case.read(with(false)));
        kept.output = None;
        // What nobody wants is not read, so it is not found to be malformed.
        (kept.problem, facts.problem) = (None, None);
        assert_eq!(facts, kept, "{case}");
    }
}

/// Reads a stream event by event and tells after which the tap saw output and the end.
fn milestones(case: &cases::Case) -> (Option<usize>, Option<usize>) {
    let mut tap = Tap::new(case.api, &case.head(None), TapLimits::default());
    let text = String::from_utf8_lossy(&case.reply).replace("\r\n", "\n");
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
    let wanted = [
        ("chat_completions/text", Some(1), Some(12)),
        ("chat_completions/tools", Some(1), Some(13)),
        ("chat_completions/error_in_stream", Some(0), None),
        ("chat_completions/cut_off", Some(1), None),
        ("chat_completions/copilot_claude", Some(1), Some(4)),
        ("chat_completions/compatible_same_index_no_done", Some(0), Some(1)),
        ("chat_completions/usage_on_every_chunk", Some(0), Some(4)),
        ("chat_completions/usage_of_zeros", Some(0), Some(2)),
        ("completions/copilot_no_usage", Some(0), Some(4)),
        ("responses/everything", Some(4), Some(34)),
        ("responses/incomplete", Some(3), Some(5)),
        ("responses/failed", None, Some(2)),
        ("responses/error_event", None, None),
        ("responses/cut_off", Some(5), None),
        ("messages/thinking_tools", Some(3), Some(22)),
        ("messages/error_in_stream", Some(2), None),
        ("messages/cut_off", Some(3), None),
    ];
    let all = cases();
    for (name, output, end) in wanted {
        let case = all.iter().find(|case| case.to_string() == name).expect(name);
        assert_eq!(milestones(case), (output, end), "{name}");
    }
}

#[test]
fn no_stream_ends_before_its_last_event() {
    for case in cases().iter().filter(|case| case.extension == "sse") {
        let (_, end) = milestones(case);
        let text = String::from_utf8_lossy(&case.reply).replace("\r\n", "\n");
        let rest: Vec<&str> = text
            .split_inclusive("\n\n")
            .skip(end.unwrap_or(usize::MAX).saturating_add(1))
            .collect();
        let only_the_mark = rest.iter().all(|event| event.trim() == "data: [DONE]");
        assert!(only_the_mark, "{case}: {rest:?}");
    }
}

#[test]
fn an_open_end_never_passes_for_a_report() {
    for case in cases().iter().filter(|case| case.is_cut) {
        for limits in [TapLimits::default(), EVERYTHING] {
            let facts = case.read(limits);
            assert!(!facts.complete, "{case}");
            assert_ne!(facts.usage_source, UsageSource::Reported, "{case}");
        }
    }
}

#[test]
fn websocket_messages_are_events() {
    let all = cases();
    let case = all
        .iter()
        .find(|case| case.to_string() == "responses/unnamed_events")
        .unwrap();
    let mut tap = Tap::of_events(Api::Responses, EVERYTHING);
    for line in case.reply.split(|byte| *byte == b'\n') {
        if let Some(data) = line.strip_prefix(b"data: ").filter(|data| *data != b"[DONE]") {
            tap.push_event(data);
        }
    }
    assert!(tap.is_terminal() && tap.saw_output());
    assert_eq!(tap.finish(false), case.read(EVERYTHING));
}
