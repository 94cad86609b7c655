//! What the targets of replies have in common: how a reply is read, and what must hold of it.
//!
//! An input is the bytes of a body and nothing else, so that the golden replies are seeds as they are.

use providers::{Api, ReplyFacts, ReplyHead, Tap, TapLimits};

/// Small enough to be reached.
pub const LIMITS: TapLimits = TapLimits {
    text: 512,
    items: 8,
    event: 4096,
    body: 16 * 1024,
    decoded: 1024 * 1024,
    keep_output: true,
    request_text: Some(400),
};

/// Reads a body in portions of `size` bytes.
pub fn read(api: Api, body: &[u8], size: usize, ended: bool) -> ReplyFacts {
    let mut tap = Tap::new(api, &ReplyHead { status: 200, ..ReplyHead::default() }, LIMITS);
    let mut was_terminal = false;
    for portion in body.chunks(size) {
        tap.push(portion);
        assert!(tap.is_terminal() || !was_terminal, "an end is never taken back");
        was_terminal = tap.is_terminal();
    }
    tap.finish(ended)
}

/// Any portions give the same facts, and these keep within the limits.
pub fn check_reply(api: Api, body: &[u8]) {
    let size = body.len() % 61 + 1;
    for ended in [true, false] {
        let whole = read(api, body, body.len().max(1), ended);
        assert_eq!(whole, read(api, body, size, ended), "by {size}");
        check_limits(&whole);
    }
}

fn check_limits(facts: &ReplyFacts) {
    assert!(facts.tool_calls.len() <= LIMITS.items && facts.thoughts.len() <= LIMITS.items);
    let texts = facts.tool_calls.iter().map(|call| &call.arguments);
    let texts = texts.chain(facts.thoughts.iter().map(|thought| &thought.text));
    for text in texts.chain(&facts.output) {
        assert!(text.len() <= LIMITS.text, "{} bytes", text.len());
    }
    assert!(facts.usage.is_some() != (facts.usage_source == providers::UsageSource::Unknown));
}
