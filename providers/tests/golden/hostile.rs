//! Damaged and huge replies and requests: nothing panics, nothing grows past its limits.

use proptest::prelude::*;
use proptest::sample::Index;
use providers::{Api, Limits, ReplyFacts, Tap, TapLimits, decode_body, detect, include_usage, inspect};

use crate::cases::{EVERYTHING, cases};

const TIGHT: TapLimits = TapLimits {
    text: 4,
    items: 1,
    event: 300,
    body: 300,
    ..EVERYTHING
};

fn within(facts: &ReplyFacts, limits: &TapLimits) -> bool {
    let calls = facts.tool_calls.iter().map(|call| &call.arguments);
    let thoughts = facts.thoughts.iter().map(|thought| &thought.text);
    facts.tool_calls.len() <= limits.items
        && facts.thoughts.len() <= limits.items
        && calls
            .chain(thoughts)
            .chain(&facts.output)
            .all(|text| text.len() <= limits.text)
}

#[test]
fn limits_hold() {
    for case in cases() {
        for limits in [
            TIGHT,
            TapLimits {
                event: 8192,
                body: 8192,
                ..TIGHT
            },
        ] {
            let facts = case.read(limits);
            assert!(within(&facts, &limits), "{case} {facts:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn damaged_replies_are_survived(flips in prop::collection::vec((any::<Index>(), any::<u8>()), 1..20), end in any::<Index>()) {
        for mut case in cases() {
            for (at, byte) in &flips {
                let at = at.index(case.reply.len());
                case.reply[at] = *byte;
            }
            let body = &case.reply[..end.index(case.reply.len())];
            for limits in [EVERYTHING, TIGHT] {
                let facts = case.read_in(&[body], None, limits);
                prop_assert!(within(&facts, &limits), "{}", case);
            }
        }
    }

    #[test]
    fn damaged_requests_are_survived(flips in prop::collection::vec((any::<Index>(), any::<u8>()), 1..20), end in any::<Index>()) {
        let limits = Limits { text: 5, items: 2 };
        for case in cases() {
            let Some(mut body) = case.request else { continue };
            for (at, byte) in &flips {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            let body = &body[..end.index(body.len())];
            let found = inspect(case.api, &case.path, body, &limits);
            prop_assert!(found.tool_results.len() <= 2 && found.prompt.is_none_or(|prompt| prompt.len() <= 5));
            let _ = include_usage(case.api, body).map(|edit| edit.apply(body));
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400), encoding in "(gzip|deflate|br|zstd|x)(, gzip)?") {
        for case in cases().iter().take(3) {
            let facts = case.read_in(&[&bytes], Some(&encoding), EVERYTHING);
            prop_assert!(within(&facts, &EVERYTHING));
        }
        let _ = decode_body(Some(&encoding), &bytes, 1000);
        for api in Api::ALL {
            let mut tap = Tap::of_events(api, EVERYTHING);
            tap.push_event(&bytes);
            let _ = tap.finish(false);
            let _ = inspect(api, "/v1/engines/%/completions", &bytes, &Limits::default());
        }
    }

    #[test]
    fn any_headers_are_survived(headers in prop::collection::vec(("user-agent|originator|x-title|thread-id|session-id|x-claude-code-agent-id|editor-version|x-stainless-lang", prop::collection::vec(any::<u8>(), 0..200)), 0..6)) {
        let mut map = http::HeaderMap::new();
        for (name, value) in headers {
            if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                map.insert(http::HeaderName::try_from(name).unwrap(), value);
            }
        }
        let client = detect(&map);
        let ids = [client.session_id, client.agent_id, client.parent_agent_id];
        prop_assert!(ids.into_iter().flatten().all(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic())));
    }
}
