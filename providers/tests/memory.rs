//! Endless input does not make a tap grow: what it holds is bounded by its limits, whatever the reply does.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails loudly")]

use providers::{Api, ReplyHead, Tap, TapLimits};

/// Bytes of each endless reply.
const LENGTH: usize = 48 << 20;

/// Growth that is tolerated: a full event and its copy, full texts, and what the allocator keeps.
const GROWTH: usize = 24 << 20;

/// Resident memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// The beginning of a reply, and what then comes again and again.
const ENDLESS: [(Api, &str, &str); 9] = [
    (Api::ChatCompletions, "data: {\"x\":\"", "never a line end "),
    (Api::ChatCompletions, "event: ", "never a line end "),
    (Api::ChatCompletions, "", "data: never a blank line\n"),
    (
        Api::ChatCompletions,
        "{\"choices\":[",
        "{\"message\":{\"content\":\"never an end\"}},",
    ),
    (
        Api::ChatCompletions,
        "",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"more\",\"reasoning\":\"more\",\"tool_calls\":[{\"index\":0,\"id\":\"#\",\"function\":{\"arguments\":\"more\"}}]}}]}\n\n",
    ),
    (
        Api::ChatCompletions,
        "",
        "data: {\"choices\":[{\"index\":#,\"delta\":{\"content\":\"more\"}}],\"usage\":{\"k#\":1}}\n\n",
    ),
    (
        Api::Messages,
        "",
        "data: {\"type\":\"content_block_start\",\"index\":#,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t#\",\"name\":\"n\",\"input\":{}}}\n\n",
    ),
    (
        Api::Responses,
        "",
        "data: {\"type\":\"response.output_item.added\",\"output_index\":#,\"item\":{\"type\":\"reasoning\",\"summary\":[{\"text\":\"more\"}]}}\n\n",
    ),
    (Api::Embeddings, "{\"data\":[", "[[[[{\"a\":["),
];

#[test]
fn endless_replies_do_not_make_a_tap_grow() {
    let limits = TapLimits {
        event: 1 << 20,
        body: 1 << 20,
        keep_output: true,
        request_text: Some(1),
        ..TapLimits::default()
    };
    for (api, first, more) in ENDLESS {
        let before = resident();
        let mut tap = Tap::new(api, &ReplyHead::default(), limits);
        tap.push(first.as_bytes());
        let (mut sent, mut count) = (0, 0);
        while sent < LENGTH {
            let piece: String = (0..200)
                .map(|i| more.replace('#', &(count + i).to_string()))
                .collect();
            count += 200;
            sent += piece.len();
            tap.push(piece.as_bytes());
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < GROWTH, "{api} {more:?}: {} MiB", grown >> 20);
        drop(tap);
    }
}
