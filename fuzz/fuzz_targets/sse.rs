//! The parser of server-sent events: every line end and every cut gives the same events.
#![no_main]

use causeway_fuzz::read;
use libfuzzer_sys::fuzz_target;
use providers::Api;

fuzz_target!(|body: &[u8]| {
    let lines: Vec<u8> = body.iter().copied().filter(|byte| *byte != b'\r').collect();
    if matches!(lines.trim_ascii_start(), [b'{' | b'[', ..]) {
        return; // A document has no lines.
    }
    let ending = |end: &str| -> Vec<u8> {
        let parts: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').collect();
        parts.join(end.as_bytes())
    };
    for api in [Api::ChatCompletions, Api::Messages] {
        let want = read(api, &lines, lines.len().max(1), true);
        for end in ["\n", "\r\n", "\r"] {
            let body = ending(end);
            for size in [1, body.len() % 13 + 1, body.len().max(1)] {
                assert_eq!(read(api, &body, size, true), want, "{end:?} by {size}");
            }
        }
    }
});
