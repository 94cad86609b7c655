//! An incremental parser of server-sent events.
//!
//! Bytes come in any chunks; events go to a sink, borrowed from the chunk when they lie in it whole. Only `event`
//! and `data` matter here. An event over the limit is skipped up to the next blank line; memory stays below one
//! event. Line ends are CR, LF or CRLF, a byte order mark at the start is ignored.

use memchr::memchr2;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// The value of `event`, empty if there was none.
    pub(crate) name: &'a [u8],
    /// The values of `data`, joined by newlines.
    pub(crate) data: &'a [u8],
}

/// The state between two chunks.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    limit: usize,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The event at hand is over the limit: its lines are dropped.
    oversized: bool,
    /// The last line ended in CR: a LF that follows belongs to it.
    after_cr: bool,
    /// A line was seen, so no byte order mark can come.
    started: bool,
    /// Some event was skipped.
    skipped: bool,
}

impl Sse {
    pub(crate) fn new(limit: usize) -> Sse {
        Sse {
            limit,
            ..Sse::default()
        }
    }

    /// Whether an event was too large to be read.
    pub(crate) fn skipped_an_event(&self) -> bool {
        self.skipped
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Event<'_>)) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, tail) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            rest = self.end_line(tail);
            if self.line.is_empty() {
                rest = self.take_line(line, rest, &mut sink);
            } else {
                self.keep(line);
                let whole = std::mem::take(&mut self.line);
                rest = self.take_line(&whole, rest, &mut sink);
                self.line = whole;
                self.line.clear();
            }
        }
        self.keep(rest);
    }

    /// Takes an event that lacks its blank line, at the end of the stream.
    pub(crate) fn finish(&mut self, mut sink: impl FnMut(Event<'_>)) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, &[], &mut sink);
        }
        self.dispatch(&mut sink);
    }

    /// Steps over the line end that `tail` begins with.
    fn end_line<'a>(&mut self, tail: &'a [u8]) -> &'a [u8] {
        match tail {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
            [b'\r'] => {
                self.after_cr = true;
                &[]
            }
            [_, rest @ ..] => rest,
            [] => &[],
        }
    }

    /// Keeps the beginning of a line for later.
    fn keep(&mut self, part: &[u8]) {
        if self.oversized {
            // Whether the line is blank is all that still matters.
            let mark = part.get(..1).unwrap_or_default();
            if self.line.is_empty() {
                self.line.extend_from_slice(mark);
            }
        } else if self.line.len() + self.data.len() + part.len() > self.limit {
            self.skip_event();
            self.line.push(b':');
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn skip_event(&mut self) {
        self.oversized = true;
        self.skipped = true;
        self.has_data = false;
        self.line = Vec::new();
        self.data = Vec::new();
    }

    /// Takes a whole line; returns what follows it, which is less if the event ended with the next line.
    fn take_line<'a>(&mut self, line: &[u8], rest: &'a [u8], sink: &mut impl FnMut(Event<'_>)) -> &'a [u8] {
        // The same test as for a line that comes in parts, so that chunking makes no difference.
        if !self.oversized && self.data.len() + line.len() > self.limit {
            self.skip_event();
        }
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(marked) if !self.started => marked,
            _ => line,
        };
        self.started = true;
        if line.is_empty() {
            self.dispatch(sink);
            return rest;
        }
        if self.oversized {
            return rest;
        }
        if let Some(data) = field(line, b"data") {
            return self.take_data(data, rest, sink);
        }
        if let Some(name) = field(line, b"event") {
            self.name.clear();
            self.name.extend_from_slice(name.get(..NAME_MAX).unwrap_or(name));
        }
        rest
    }

    fn take_data<'a>(&mut self, data: &[u8], rest: &'a [u8], sink: &mut impl FnMut(Event<'_>)) -> &'a [u8] {
        let is_only_line = !self.has_data && matches!(rest, [b'\n' | b'\r', ..]);
        if is_only_line {
            sink(Event {
                name: &self.name,
                data,
            });
            self.name.clear();
            return self.end_line(rest);
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(data);
        rest
    }

    /// Ends the event at hand.
    fn dispatch(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        if self.has_data {
            sink(Event {
                name: &self.name,
                data: &self.data,
            });
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.oversized = false;
    }
}

/// The longest event name that is kept.
const NAME_MAX: usize = 128;

/// The value of a field, without the one space that may stand before it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (Vec<u8>, Vec<u8>);

    fn parse(chunks: &[&[u8]], limit: usize) -> (Vec<Owned>, bool) {
        let mut sse = Sse::new(limit);
        let mut events = Vec::new();
        for chunk in chunks {
            sse.push(chunk, |event| {
                events.push((event.name.to_vec(), event.data.to_vec()))
            });
            assert!(sse.line.len() + sse.data.len() <= limit + 1, "memory is bounded");
        }
        sse.finish(|event| events.push((event.name.to_vec(), event.data.to_vec())));
        (events, sse.skipped)
    }

    #[test]
    fn events_are_found() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("data: a\n\ndata:b\n\n", &[("", "a"), ("", "b")]),
            ("data:  a\n\n", &[("", " a")]),
            ("event: x\ndata: a\n\ndata: b\n\n", &[("x", "a"), ("", "b")]),
            ("data: a\nevent: x\n\n", &[("x", "a")]),
            ("data: a\ndata: b\ndata\n\n", &[("", "a\nb\n")]),
            (
                "data: a\r\n\r\ndata: b\r\rdata: c\n\r\n",
                &[("", "a"), ("", "b"), ("", "c")],
            ),
            (": comment\n\n:\n\nid: 1\nretry: 5\ndata: a\n\n", &[("", "a")]),
            ("\u{feff}data: a\n\n\u{feff}data: b\n\n", &[("", "a")]),
            ("event: x\n\ndata: a\n\n", &[("", "a")]),
            ("data: a\n\n\n\n\ndata: b", &[("", "a"), ("", "b")]),
            ("data: a\ndata: b\n", &[("", "a\nb")]),
            ("data\n\n", &[("", "")]),
            ("database: a\nDATA: b\n\n", &[]),
            ("", &[]),
        ];
        for (text, want) in cases {
            let (events, skipped) = parse(&[text.as_bytes()], 1024);
            let want: Vec<Owned> = want
                .iter()
                .map(|(n, d)| (n.as_bytes().to_vec(), d.as_bytes().to_vec()))
                .collect();
            assert_eq!((events, skipped), (want, false), "{text:?}");
        }
    }

    #[test]
    fn oversized_events_are_skipped() {
        let long = "x".repeat(40);
        let texts = [
            format!("data: {long}\n\ndata: a\n\n"),
            format!("data: {long}\ndata: b\n\ndata: a\n\n"),
            "data: 1234567\ndata: 1234567\ndata: 1234567\ndata: 1234567\ndata: 12345678\n\ndata: a\n\n"
                .to_owned(),
            format!(": {long}\n\ndata: a\n\n"),
        ];
        for text in texts {
            for size in [1, 3, 1000] {
                let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                let (events, skipped) = parse(&chunks, 32);
                assert_eq!(events, [(vec![], b"a".to_vec())], "{text:?} by {size}");
                assert!(skipped || text.starts_with(':'), "{text:?} by {size}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            lines in prop::collection::vec(("(data|event|id|:|x)?", "(: ?)?[a-c]{0,9}", "(\n|\r|\r\n|\n\n|\r\n\r\n)"), 0..20),
            cuts in prop::collection::vec(1_usize..9, 0..60),
            limit in prop_oneof![Just(1024_usize), 4_usize..24],
        ) {
            let text: String = lines.into_iter().map(|(name, value, end)| name + &value + &end).collect();
            let whole = parse(&[text.as_bytes()], limit);
            let mut chunks: Vec<&[u8]> = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            chunks.push(rest);
            prop_assert_eq!(parse(&chunks, limit), whole);
        }

        #[test]
        fn any_bytes_are_survived(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10), limit in 1_usize..50) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            parse(&chunks, limit);
        }
    }
}
