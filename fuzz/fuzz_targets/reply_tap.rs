//! Taps: any reply in any portions gives the same facts, and none makes them panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use providers::{Api, ReplyHead, Tap, TapLimits};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (kind, size, bytes) = input;
    let api = Api::ALL[usize::from(kind % 4)];
    let content_type = if kind & 4 == 0 { "text/event-stream" } else { "application/json" };
    let content_encoding = [None, Some("gzip"), Some("br"), Some("zstd")][usize::from((kind >> 3) % 4)];
    let head = ReplyHead { status: 200, content_type: Some(content_type), content_encoding };
    let read = |size: usize| {
        let mut tap = Tap::new(api, &head, TapLimits { keep_output: kind & 32 == 0, ..TapLimits::default() });
        bytes.chunks(size).for_each(|portion| tap.push(portion));
        tap.finish(true)
    };
    let (whole, cut) = (read(bytes.len().max(1)), read(usize::from(size) + 1));
    assert_eq!(format!("{whole:?}"), format!("{cut:?}"));
});
