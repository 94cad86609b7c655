//! What does a tap cost for each streamed byte, as shipped and with the output kept?
//!
//! `cargo bench -p providers --bench tap`, which ends with the ratio to copying. One item is one stream of 1000 content deltas in chunks of one event, as
//! providers send them; `compressed` is the same stream under gzip and zstd with a flush after each event.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails loudly")]

use std::io::Write;

use divan::Bencher;
use divan::counter::BytesCount;
use providers::{Api, ReplyHead, Tap, TapLimits};

mod ratio;

fn main() {
    divan::main();
    if ratio::is_asked() {
        for api in APIS {
            let chunks: Vec<Vec<u8>> = events(api).into_iter().map(String::into_bytes).collect();
            let run = || run(api, None, &chunks, TapLimits::default());
            ratio::print(&format!("tap of {api}"), &chunks, run);
        }
    }
}

const APIS: [Api; 4] = [
    Api::ChatCompletions,
    Api::Responses,
    Api::Messages,
    Api::Completions,
];

const DELTAS: usize = 1000;

/// The events of one stream, in the shape and size that providers send.
fn events(api: Api) -> Vec<String> {
    let deltas = (0..DELTAS).map(|i| delta(api, i));
    let (first, last) = frame(api);
    first.into_iter().chain(deltas).chain(last).collect()
}

fn delta(api: Api, i: usize) -> String {
    match api {
        Api::ChatCompletions => format!(
            "data: {{\"id\":\"chatcmpl-CeQ2p8J0aY3vT5\",\"object\":\"chat.completion.chunk\",\"created\":1763800000,\"model\":\"gpt-5.5-2026-08-01\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_51e1070cf2\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{i}\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null,\"obfuscation\":\"kQ3p\"}}\n\n"
        ),
        Api::Responses => format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"content_index\":0,\"delta\":\" word{i}\",\"item_id\":\"msg_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b\",\"logprobs\":[],\"obfuscation\":\"kQ3p\",\"output_index\":0,\"sequence_number\":{i}}}\n\n"
        ),
        Api::Messages => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\" word{i}\"}}       }}\n\n"
        ),
        _ => format!(
            "data: {{\"id\":\"cmpl-DkW1\",\"created\":1763800000,\"model\":\"gpt-41-copilot\",\"choices\":[{{\"text\":\" word{i}\",\"index\":0,\"finish_reason\":null,\"logprobs\":null}}]}}\n\n"
        ),
    }
}

fn frame(api: Api) -> (Vec<String>, Vec<String>) {
    let one = |text: &str| vec![text.to_owned()];
    match api {
        Api::Responses => (
            one(
                "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"message\",\"content\":[]}}\n\n",
            ),
            one(
                "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
            ),
        ),
        Api::Messages => (
            one(
                "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            ),
            one("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
        ),
        _ => (Vec::new(), one("data: [DONE]\n\n")),
    }
}

fn run(api: Api, encoding: Option<&str>, chunks: &[Vec<u8>], limits: TapLimits) {
    let head = ReplyHead {
        status: 200,
        content_type: Some("text/event-stream"),
        content_encoding: encoding,
    };
    let mut tap = Tap::new(api, &head, limits);
    for chunk in chunks {
        tap.push(divan::black_box(chunk));
    }
    assert!(tap.is_terminal());
    divan::black_box(tap.finish(true));
}

fn measure(bencher: Bencher<'_, '_>, api: Api, limits: TapLimits) {
    let chunks: Vec<Vec<u8>> = events(api).into_iter().map(String::into_bytes).collect();
    let size: usize = chunks.iter().map(Vec::len).sum();
    bencher
        .counter(BytesCount::new(size))
        .bench(|| run(api, None, &chunks, limits));
}

#[divan::bench(args = APIS)]
fn default_limits(bencher: Bencher<'_, '_>, api: Api) {
    measure(bencher, api, TapLimits::default());
}

#[divan::bench(args = APIS)]
fn output_kept(bencher: Bencher<'_, '_>, api: Api) {
    measure(
        bencher,
        api,
        TapLimits {
            keep_output: true,
            request_text: Some(1000),
            ..TapLimits::default()
        },
    );
}

/// Bytes are counted after decoding.
#[divan::bench(args = ["gzip", "zstd"])]
fn compressed(bencher: Bencher<'_, '_>, coding: &str) {
    let api = Api::ChatCompletions;
    let events = events(api);
    let size: usize = events.iter().map(String::len).sum();
    let chunks = encode(coding, &events);
    bencher
        .counter(BytesCount::new(size))
        .bench(|| run(api, Some(coding), &chunks, TapLimits::default()));
}

fn encode(coding: &str, events: &[String]) -> Vec<Vec<u8>> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    let encoded = events.iter().map(|event| {
        if coding == "gzip" {
            gzip.write_all(event.as_bytes()).unwrap();
            gzip.flush().unwrap();
            std::mem::take(gzip.get_mut())
        } else {
            zstd.write_all(event.as_bytes()).unwrap();
            zstd.flush().unwrap();
            std::mem::take(zstd.get_mut())
        }
    });
    encoded.collect()
}
