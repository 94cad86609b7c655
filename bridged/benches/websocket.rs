//! What does a provider's byte cost on a WebSocket whose calls are recorded: its frames read, its events told apart,
//! and the tap on them?
//!
//! `cargo bench -p bridged --bench websocket`, which ends with the ratio to copying. One item is one response of 1000
//! content deltas, each a message of its own, in the portions in which a socket is read; `frames` reads no events.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails loudly")]

use bridged::websocket::frames::{self, Frames};
use divan::Bencher;
use divan::counter::BytesCount;
use providers::{Api, Tap, TapLimits, Told, server_event};

#[path = "../../providers/benches/ratio/mod.rs"]
mod ratio;

fn main() {
    divan::main();
    if ratio::is_asked() {
        for portion in PORTIONS {
            let chunks = socket(portion);
            ratio::print(&format!("frames in portions of {portion}"), &chunks, || {
                walk(&chunks)
            });
            ratio::print(
                &format!("frames and tap in portions of {portion}"),
                &chunks,
                || record(&chunks),
            );
        }
    }
}

/// A message a read, and as much as a read takes at once.
const PORTIONS: [usize; 2] = [350, 16 * 1024];

const DELTAS: usize = 1000;

/// The bytes of one response on a socket.
fn socket(portion: usize) -> Vec<Vec<u8>> {
    let mut wire = frames::text(
        br#"{"type":"response.created","response":{"id":"resp_68af4030592c81938ec0a5fb","status":"in_progress","model":"gpt-5.5-2026-08-01","output":[]},"sequence_number":0}"#,
    );
    for number in 1..=DELTAS {
        let event = format!(
            r#"{{"type":"response.output_text.delta","content_index":0,"delta":" word{number}","item_id":"msg_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b","logprobs":[],"obfuscation":"kQ3p","output_index":0,"sequence_number":{number}}}"#
        );
        wire.extend(frames::text(event.as_bytes()));
    }
    wire.extend(frames::text(
        br#"{"type":"response.completed","response":{"id":"resp_68af4030592c81938ec0a5fb","status":"completed","output":[],"usage":{"input_tokens":1,"output_tokens":2}}}"#,
    ));
    wire.chunks(portion).map(<[u8]>::to_vec).collect()
}

/// Reads the frames alone.
fn walk(chunks: &[Vec<u8>]) {
    let (mut frames, mut messages) = (Frames::default(), 0);
    for chunk in chunks {
        let mut rest = divan::black_box(chunk.as_slice());
        while let Some(part) = frames.next(&mut rest).unwrap() {
            messages += usize::from(part.ends_message());
        }
    }
    assert_eq!(messages, DELTAS + 2);
}

/// Reads the frames, puts the messages together and shows each to the tap.
fn record(chunks: &[Vec<u8>]) {
    let (mut frames, mut message) = (Frames::default(), Vec::new());
    let mut tap = Tap::of_events(Api::Responses, TapLimits::default());
    let mut take = |payload: &[u8]| {
        if server_event(payload).told != Told::Created || !tap.is_terminal() {
            tap.push_event(payload);
        }
    };
    for chunk in chunks {
        let mut rest = divan::black_box(chunk.as_slice());
        while let Some(part) = frames.next(&mut rest).unwrap() {
            match part.clear().filter(|_| part.begins && part.ends_message()) {
                Some(whole) => take(whole),
                None => {
                    part.unmask_into(&mut message);
                    if part.ends_message() {
                        take(&message);
                        message.clear();
                    }
                }
            }
        }
    }
    assert!(tap.is_terminal());
    divan::black_box(tap.finish(true));
}

fn measure(bencher: Bencher<'_, '_>, portion: usize, run: fn(&[Vec<u8>])) {
    let chunks = socket(portion);
    let size: usize = chunks.iter().map(Vec::len).sum();
    bencher.counter(BytesCount::new(size)).bench(|| run(&chunks));
}

#[divan::bench(args = PORTIONS)]
fn frames_alone(bencher: Bencher<'_, '_>, portion: usize) {
    measure(bencher, portion, walk);
}

#[divan::bench(args = PORTIONS)]
fn frames_and_tap(bencher: Bencher<'_, '_>, portion: usize) {
    measure(bencher, portion, record);
}
