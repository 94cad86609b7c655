//! Takes out of a stream of choices the one event that the client did not ask for: its usage, with no choices.
//!
//! Frames come in as the provider sent them and go on at once; what has passed equals what came, less exactly that
//! event. Held back is only the beginning of an event whose end has not come and which may still be the one: no
//! client can act on such a piece either. Memory is bounded; what is too long to be that event passes.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memmem};

use crate::json::{Cursor, Json};
use crate::tap::sse::Sse;

/// The longest event that may be taken out, in bytes; providers' are below 1 KiB.
const LONGEST: usize = 16 * 1024;

/// The state between two frames.
#[derive(Debug, Default)]
pub struct UsageChunkFilter {
    lines: Lines,
    /// The beginning of an event that may be the one.
    held: BytesMut,
    /// The event at hand is another one: what comes of it passes.
    passing: bool,
    /// The event before was taken out.
    took: bool,
}

impl UsageChunkFilter {
    /// Takes the next frame and gives what of it, and of what was held, may pass; often the frame itself.
    #[must_use]
    pub fn push(&mut self, frame: &Bytes) -> Bytes {
        let mut out = Output::of(frame);
        let mut line_feed = self.lines.line_feed(frame);
        let mut at = 0;
        if self.held.is_empty() && !self.passing {
            // It belongs to the event before.
            at = std::mem::take(&mut line_feed);
            if !self.took {
                out.range(0..at);
            }
        }
        while at < frame.len() {
            let rest = frame.get(at..).unwrap_or_default();
            let Some(length) = self.lines.event_end(rest, std::mem::take(&mut line_feed)) else {
                self.begin(rest, at, &mut out);
                break;
            };
            let event = rest.get(..length).unwrap_or_default();
            self.end(event, at, &mut out);
            at += length;
        }
        out.finish()
    }

    /// What was held when the stream ended.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// Takes the beginning, or more, of an event that does not end in this frame.
    fn begin(&mut self, part: &[u8], at: usize, out: &mut Output<'_>) {
        if self.passing {
            out.range(at..at + part.len());
            return;
        }
        self.held.extend_from_slice(part);
        if self.held.len() > LONGEST || shows_a_choice(&self.held) {
            self.passing = true;
            out.bytes(&self.held.split());
        }
    }

    /// Takes the end, or the whole, of an event.
    fn end(&mut self, part: &[u8], at: usize, out: &mut Output<'_>) {
        let passing = std::mem::take(&mut self.passing);
        self.took = false;
        if passing {
            out.range(at..at + part.len());
        } else if self.held.is_empty() {
            self.took = is_usage_alone(part);
            if !self.took {
                out.range(at..at + part.len());
            }
        } else {
            self.held.extend_from_slice(part);
            let event = self.held.split();
            self.took = is_usage_alone(&event);
            if !self.took {
                out.bytes(&event);
            }
        }
    }
}

/// Whether an event reports usage and has an empty list of choices.
fn is_usage_alone(event: &[u8]) -> bool {
    if event.len() > LONGEST || memmem::find(event, b"usage").is_none() {
        return false;
    }
    let mut found = false;
    Sse::new(LONGEST).push(event, |event| found = reports_usage_alone(event.data));
    found
}

fn reports_usage_alone(data: &[u8]) -> bool {
    let Some(chunk) = Json::parse(data) else {
        return false;
    };
    let [choices, usage] = chunk.members(["choices", "usage"]);
    let is_empty = |list: Json<'_>| {
        let mut elements = 0;
        list.each(|_| elements += 1) && elements == 0
    };
    choices.is_some_and(is_empty)
        && usage.is_some_and(|usage| Cursor::new(usage.bytes()).peek() == Some(b'{'))
}

/// Whether the beginning of an event shows that it has a choice.
fn shows_a_choice(part: &[u8]) -> bool {
    const KEY: &[u8] = b"\"choices\"";
    let Some(at) = memmem::find(part, KEY) else {
        return false;
    };
    let after = part.get(at + KEY.len()..).unwrap_or_default();
    let list = after
        .trim_ascii_start()
        .strip_prefix(b":")
        .and_then(|value| value.trim_ascii_start().strip_prefix(b"["));
    list.is_some_and(|list| list.trim_ascii_start().first().is_some_and(|byte| *byte != b']'))
}

/// Where lines end, over frames: at CR, LF or CRLF.
#[derive(Debug)]
struct Lines {
    /// The line at hand is empty so far.
    empty: bool,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines {
            empty: true,
            after_cr: false,
        }
    }
}

impl Lines {
    /// The length of the LF at the beginning of a frame that belongs to the CR at the end of the last one.
    fn line_feed(&mut self, frame: &[u8]) -> usize {
        match frame.first() {
            Some(b'\n') if self.after_cr => {
                self.after_cr = false;
                1
            }
            Some(_) => {
                self.after_cr = false;
                0
            }
            None => 0,
        }
    }

    /// The end of the event at hand: behind its first blank line. Lines are looked for from `at` on.
    fn event_end(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        while let Some(length) = memchr2(b'\n', b'\r', bytes.get(at..)?) {
            let end = at + length;
            at = end + 1;
            if bytes.get(end) == Some(&b'\r') {
                match bytes.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            let was_empty = self.empty && length == 0;
            self.empty = true;
            if was_empty {
                return Some(at);
            }
        }
        self.empty &= at == bytes.len();
        None
    }
}

/// What passes of a frame: a part of the frame itself as long as that is possible, else a copy.
struct Output<'a> {
    frame: &'a Bytes,
    run: Range<usize>,
    copied: BytesMut,
}

impl<'a> Output<'a> {
    fn of(frame: &'a Bytes) -> Output<'a> {
        Output {
            frame,
            run: 0..0,
            copied: BytesMut::new(),
        }
    }

    /// Lets a range of the frame pass.
    fn range(&mut self, range: Range<usize>) {
        if range.start == self.run.end {
            self.run.end = range.end;
        } else if self.run.is_empty() {
            self.run = range;
        } else {
            self.copy_run();
            self.run = range;
        }
    }

    /// Lets bytes of earlier frames pass.
    fn bytes(&mut self, bytes: &[u8]) {
        self.copy_run();
        self.copied.extend_from_slice(bytes);
    }

    fn copy_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        self.copied
            .extend_from_slice(self.frame.get(run).unwrap_or_default());
    }

    fn finish(mut self) -> Bytes {
        if self.copied.is_empty() {
            return self.frame.slice(self.run);
        }
        self.copy_run();
        self.copied.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USAGE: &str = r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":1}}"#;

    fn pass<'a>(frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut filter = UsageChunkFilter::default();
        let mut out = Vec::new();
        for frame in frames {
            out.extend_from_slice(&filter.push(&Bytes::copy_from_slice(frame)));
            assert!(filter.held.len() <= LONGEST);
        }
        out.extend_from_slice(&filter.finish());
        out
    }

    #[test]
    fn only_usage_without_choices_is_taken_out() {
        for hidden in [
            USAGE,
            r#"data:{"usage":{},"choices": [ ]}"#,
            "event: x\nid: 1\ndata: {\"choices\":[],\ndata: \"usage\":{\"a\":1}}",
            ": comment\ndata: {\"choices\":[],\"usage\":{\"a\":1},\"model\":\"usage\"}",
        ] {
            let text = format!("data: a\n\n{hidden}\n\ndata: [DONE]\n\n");
            assert_eq!(
                pass([text.as_bytes()]),
                b"data: a\n\ndata: [DONE]\n\n",
                "{hidden}"
            );
        }
        let long = format!(
            r#"data: {{"choices":[],"usage":{{"a":1}},"x":"{}"}}"#,
            "x".repeat(LONGEST)
        );
        for kept in [
            r#"data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#,
            r#"data: {"choices":[],"usage":null}"#,
            r#"data: {"choices":[],"prompt_filter_results":[]}"#,
            r#"data: {"usage":{"prompt_tokens":1}}"#,
            r#"data: {"choices":{},"usage":{"prompt_tokens":1}}"#,
            r#"data: {"error":{"message":"usage"}}"#,
            r#"data: {"choices":[],"usage":{"a":1}"#,
            r#"{"choices":[],"usage":{"a":1}}"#,
            &long,
        ] {
            let text = format!("{kept}\n\ndata: [DONE]\n\n");
            assert_eq!(pass([text.as_bytes()]), text.as_bytes(), "{kept}");
        }
        // No client acts on an event that does not end, and none is taken out.
        assert_eq!(pass([USAGE.as_bytes()]), USAGE.as_bytes());
    }

    #[test]
    fn what_cannot_be_the_event_passes_at_once() {
        let mut filter = UsageChunkFilter::default();
        let frame =
            Bytes::from_static(b"data: {\"id\":1,\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n");
        let out = filter.push(&frame);
        assert_eq!(out.as_ptr(), frame.as_ptr(), "a whole frame is not copied");
        assert_eq!(out.len(), frame.len());
        assert_eq!(filter.push(&Bytes::from_static(b"data: {\"id\":1,\"cho")), "");
        assert_eq!(
            filter.push(&Bytes::from_static(b"ices\": [{\"delta\"")),
            "data: {\"id\":1,\"choices\": [{\"delta\""
        );
        assert_eq!(filter.push(&Bytes::from_static(b":1")), ":1");
        assert_eq!(filter.push(&Bytes::from_static(b"}]}\n\nda")), "}]}\n\n");
        assert_eq!(filter.finish(), "da");
    }

    fn event() -> impl Strategy<Value = (String, bool)> {
        let hidden = prop_oneof![
            Just(USAGE.to_owned()),
            Just("event: e|data: {\"usage\":{\"a\":2},|data: \"choices\":[]}".to_owned()),
        ];
        let kept = prop_oneof![
            "(: ping|data: \\[DONE\\]|id: 7|data: [a-z\"{}:]{0,12})",
            Just(r#"data: {"choices":[{"index":0}],"usage":{"a":1}}"#.to_owned()),
            Just(r#"data: {"choices":[],"usage":null}"#.to_owned()),
            Just(String::new()),
        ];
        prop_oneof![
            hidden.prop_map(|text| (text, true)),
            kept.prop_map(|text| (text, false))
        ]
    }

    fn chunks<'a>(mut rest: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut chunks = Vec::new();
        for cut in cuts {
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        chunks.push(rest);
        chunks
    }

    proptest! {
        #[test]
        fn what_passes_is_what_came_less_those_events(
            events in prop::collection::vec(event(), 0..8),
            end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
            rest in "(data: \\{\"cho)?",
            cuts in prop::collection::vec(0_usize..40, 0..30),
        ) {
            let (mut text, mut want) = (String::new(), String::new());
            for (event, hidden) in events {
                let lines = if event.is_empty() { end.to_owned() } else { event.replace('|', end) + end + end };
                text += &lines;
                want += if hidden { "" } else { &lines };
            }
            text += &rest;
            want += &rest;
            prop_assert_eq!(pass(chunks(text.as_bytes(), &cuts)), want.into_bytes());
        }

        #[test]
        fn any_bytes_pass_in_any_chunks(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cuts in prop::collection::vec(0_usize..20, 0..30),
        ) {
            prop_assert_eq!(pass(chunks(&bytes, &cuts)), bytes);
        }
    }
}
