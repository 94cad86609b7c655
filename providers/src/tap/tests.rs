//! Framing, bounds and estimates; whole replies are under `tests/golden`.

use super::*;

fn encoded(content_encoding: &str) -> Tap {
    let head = ReplyHead {
        status: 200,
        content_type: Some("text/event-stream"),
        content_encoding: Some(content_encoding),
    };
    Tap::new(Api::Messages, &head, TapLimits::default())
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
fn the_gravest_problem_is_noted_however_the_bytes_are_cut() {
    let body = [b"data: ".as_slice(), &[b'x'; 500], b"\n\ndata: {no json\n\n"].concat();
    for size in [1, 42, 10_000] {
        let limits = TapLimits {
            event: 300,
            ..TapLimits::default()
        };
        let mut tap = Tap::of_events(Api::Responses, limits);
        body.chunks(size).for_each(|chunk| tap.push(chunk));
        assert_eq!(tap.finish(true).problem, Some(TapProblem::TooLarge), "by {size}");
    }
}

#[test]
fn bad_encodings_are_noted_and_unknown_ones_read_as_they_are() {
    let plain = b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let cases = [
        ("gzip", TapProblem::BadEncoding, false),
        ("gzip, br", TapProblem::BadEncoding, false),
        ("utf-8", TapProblem::UnknownEncoding, true),
        ("lzma, gzip", TapProblem::UnknownEncoding, true),
    ];
    for (encoding, problem, complete) in cases {
        let mut tap = encoded(encoding);
        tap.push(plain);
        tap.push(b"data: more\n\n");
        let facts = tap.finish(true);
        assert_eq!(
            (facts.problem, facts.complete),
            (Some(problem), complete),
            "{encoding}"
        );
    }
}

/// How a stream that begins with these events is accounted when the client leaves, without and with an estimate.
fn accounts(api: Api, events: &[&str]) -> [(UsageSource, Option<(u64, u64)>); 2] {
    [None, Some(400)].map(|request_text| {
        let limits = TapLimits {
            request_text,
            ..TapLimits::default()
        };
        let mut tap = Tap::of_events(api, limits);
        events.iter().for_each(|event| tap.push_event(event.as_bytes()));
        let facts = tap.finish(false);
        (
            facts.usage_source,
            facts.usage.map(|usage| (usage.input, usage.output)),
        )
    })
}

const TEXT: &str =
    r#"{"choices":[{"index":0,"delta":{"content":"twelve bytes"},"finish_reason":null}],"usage":null}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USED: &str = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#;
const START: &str =
    r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":7,"output_tokens":1}}}"#;
const BLOCK: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
const WORDS: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"twelve bytes"}}"#;

#[test]
fn usage_is_reported_partial_estimated_or_unknown_but_never_a_silent_zero() {
    use UsageSource::{Estimated, Partial, Reported, Unknown};
    let chat = Api::ChatCompletions;
    let reported = (Reported, Some((7, 2)));
    let estimated = (Estimated, Some((100, 3)));
    let nothing = (Unknown, None);
    assert_eq!(
        accounts(chat, &[]),
        [nothing, nothing],
        "left before anything came"
    );
    assert_eq!(
        accounts(chat, &[TEXT]),
        [nothing, estimated],
        "left before the usage"
    );
    assert_eq!(
        accounts(chat, &[TEXT, STOP]),
        [nothing, estimated],
        "no usage at all"
    );
    assert_eq!(
        accounts(chat, &[TEXT, STOP, USED]),
        [reported, reported],
        "left after the usage"
    );
    assert_eq!(
        accounts(chat, &[TEXT, USED]),
        [(Partial, Some((7, 2))), (Partial, Some((7, 3)))],
        "left amid"
    );
    let half = r#"{"choices":[],"usage":{"completion_tokens":2}}"#;
    assert_eq!(
        accounts(chat, &[TEXT, STOP, half]),
        [(Partial, Some((0, 2))), (Partial, Some((100, 3)))]
    );
    assert_eq!(
        accounts(Api::Messages, &[START, BLOCK, WORDS]),
        [(Partial, Some((7, 1))), (Partial, Some((7, 3)))]
    );
    assert_eq!(
        accounts(Api::CountTokens, &[]),
        [nothing, nothing],
        "a count is never estimated"
    );
}

#[test]
fn reports_that_say_nothing_are_none() {
    let counts = r#"{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}"#;
    for odd in [
        "{}",
        "7",
        "[]",
        r#"{"prompt_tokens":"7"}"#,
        r#"{"prompt_tokens":0,"completion_tokens":0}"#,
    ] {
        let event = USED.replace(counts, odd);
        assert_eq!(
            accounts(Api::ChatCompletions, &[TEXT, STOP, &event]),
            [
                (UsageSource::Unknown, None),
                (UsageSource::Estimated, Some((100, 3)))
            ],
            "{odd}"
        );
    }
}
