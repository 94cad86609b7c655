//! Requests: decoding, inspection and the one edit. The first byte chooses API and encoding.
//!
//! What decodes as a whole decodes the same as a stream; an edited body says the same as before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use providers::{Api, Limits, StreamDecoder, decode_body, include_usage, inspect};

const CAP: usize = 256 * 1024;

const LIMITS: Limits = Limits { text: 512, items: 8 };

fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else { return };
    let codings = ["", "gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip"];
    let coding = codings[usize::from(kind >> 3) % codings.len()];
    let api = Api::ALL[usize::from(kind & 7) % Api::ALL.len()];
    let Ok(decoded) = decode_body(Some(coding), body, CAP) else {
        let _ = stream(coding, body);
        return;
    };
    assert_eq!(stream(coding, body).as_deref(), Some(&*decoded), "{coding}");
    let found = inspect(api, "/v1/engines/a/completions", &decoded, &LIMITS);
    assert!(found.prompt.as_ref().is_none_or(|prompt| prompt.len() <= LIMITS.text));
    assert!(found.tool_results.len() <= LIMITS.items);
    if let Some(edit) = include_usage(api, &decoded) {
        let edited = edit.apply(&decoded);
        assert_eq!(inspect(api, "/v1/engines/a/completions", &edited, &LIMITS), found);
        assert_eq!(include_usage(api, &edited), None);
    }
});

fn stream(coding: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = StreamDecoder::new(Some(coding), 4 * CAP as u64).ok()?;
    let mut out = Vec::new();
    for portion in body.chunks(body.len() % 61 + 1) {
        decoder.push(portion, |bytes| out.extend_from_slice(bytes)).ok()?;
    }
    Some(out)
}
