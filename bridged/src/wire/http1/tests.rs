use proptest::prelude::*;

use super::*;

/// The verdict on bytes that come in one portion.
fn judge(bytes: &[u8]) -> Result<(), Stop> {
    Inspector::new(Connects::Refuse).follow(bytes).map(drop)
}

fn fault(text: &str) -> Option<Fault> {
    judge(text.as_bytes()).err().map(|stop| stop.fault)
}

const SOUND: [(&str, &str); 14] = [
    ("a GET", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n"),
    ("an empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "a body",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\n\n\0\r\n",
    ),
    (
        "two in a row",
        "POST / HTTP/1.1\r\nHost: a\r\ncontent-length:3\r\n\r\nabcGET / HTTP/1.1\r\nhost:a\r\n\r\n",
    ),
    (
        "a length with white space",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t 3 \r\n\r\nabcGET / HTTP/1.1\r\nhost:a\r\n\r\n",
    ),
    (
        "a length of none",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "chunks",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\n\r\n\r\n\0\r\n0a;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
    ),
    (
        "chunks and one more request",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nDigest: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    ("an asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "the absolute form",
        "GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    ("an empty value", "GET / HTTP/1.1\r\nHost:\r\nX:\r\n\r\n"),
    (
        "any character in a value",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\t\"(,;\u{7ff} \r\n\r\n",
    ),
    (
        "names that only begin alike",
        "GET / HTTP/1.1\r\nHost: a\r\nHosts: b\r\nContent-Length-X: 1, 2\r\nTransfer-Encodings: x\r\n\r\n",
    ),
];

#[test]
fn sound_requests_pass() {
    for (name, text) in SOUND {
        assert_eq!(judge(text.as_bytes()), Ok(()), "{name}");
    }
}

/// What stands between `GET / HTTP/1.1`, `Host: a` and the empty line.
const UNSOUND_FIELDS: [(&str, Fault); 32] = [
    (
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        Fault::LengthAndCoding,
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        Fault::LengthAndCoding,
    ),
    ("Content-Length: 3\r\nContent-Length: 4", Fault::Length),
    ("Content-Length: 3\r\nContent-Length: 3", Fault::Length),
    ("Content-Length: 3, 3", Fault::Length),
    ("Content-Length: +3", Fault::Length),
    ("Content-Length: -3", Fault::Length),
    ("Content-Length: 0x3", Fault::Length),
    ("Content-Length: 3 3", Fault::Length),
    ("Content-Length:", Fault::Length),
    ("Content-Length: 18446744073709551616", Fault::Length),
    (
        "Content-Length: 000000000000000000000000000000000003",
        Fault::Length,
    ),
    ("Transfer-Encoding: gzip, chunked", Fault::Coding),
    ("Transfer-Encoding: chunked, chunked", Fault::Coding),
    ("Transfer-Encoding: identity", Fault::Coding),
    ("Transfer-Encoding: chunked;x=y", Fault::Coding),
    ("Transfer-Encoding: \"chunked\"", Fault::Coding),
    ("Transfer-Encoding: xchunked", Fault::Coding),
    ("Transfer-Encoding:", Fault::Coding),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        Fault::Coding,
    ),
    ("Host: a", Fault::HostRepeated),
    ("hOsT: b", Fault::HostRepeated),
    ("X: a\rb", Fault::LineEnd),
    ("X: a\nY: b", Fault::LineEnd),
    ("X: a\r\n\n", Fault::LineEnd),
    ("X: a\0b", Fault::Control),
    ("X: a\u{b}b", Fault::Control),
    ("X: a\u{7f}b", Fault::Control),
    ("X: a\r\n b", Fault::Fold),
    ("X: a\r\n\tb", Fault::Fold),
    ("X : a", Fault::Name),
    (": a", Fault::Name),
];

#[test]
fn unsound_fields_are_found() {
    for (fields, want) in UNSOUND_FIELDS {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        assert_eq!(fault(&text), Some(want), "{fields:?}");
    }
}

/// Whole requests.
const UNSOUND: [(&str, Fault); 23] = [
    ("GET / HTTP/1.1\r\n\r\n", Fault::HostMissing),
    ("GET / HTTP/1.1\r\nX: Host: a\r\n\r\n", Fault::HostMissing),
    (
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Fault::CodingInHttp10,
    ),
    ("GET / HTTP/1.1\nHost: a\n\n", Fault::LineEnd),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::LineEnd),
    ("\r\r\n", Fault::LineEnd),
    ("\r\n\r\n\r\nGET / HTTP/1.1", Fault::RequestLine),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Fault::Fold),
    ("GET  / HTTP/1.1\r\n", Fault::RequestLine),
    ("GET /  HTTP/1.1\r\n", Fault::Version),
    ("GET / a HTTP/1.1\r\n", Fault::Version),
    ("GET /\r\n", Fault::RequestLine),
    ("GET /\0 HTTP/1.1\r\n", Fault::RequestLine),
    ("GET\t/ HTTP/1.1\r\n", Fault::RequestLine),
    (" GET / HTTP/1.1\r\n", Fault::RequestLine),
    ("GET / HTTP/1.1 \r\n", Fault::RequestLine),
    ("GET / http/1.1\r\n", Fault::Version),
    ("GET / HTTP/2.0\r\n", Fault::Version),
    ("GET / HTTP/1.10\r\n", Fault::Version),
    ("CONNECT a:443 HTTP/1.1\r\n", Fault::Connect),
    ("Connect a:443 HTTP/1.1\r\n", Fault::Connect),
    ("\0", Fault::RequestLine),
    ("\u{16}\u{3}\u{1}", Fault::RequestLine),
];

#[test]
fn unsound_requests_are_found() {
    for (text, want) in UNSOUND {
        assert_eq!(fault(text), Some(want), "{text:?}");
    }
}

/// What stands where chunks should.
const UNSOUND_CHUNKS: [(&str, Fault); 13] = [
    ("\r\n", Fault::Chunk),
    ("x\r\n", Fault::Chunk),
    ("-1\r\n", Fault::Chunk),
    ("1 \r\nx", Fault::Chunk),
    ("1\nx", Fault::Chunk),
    ("1\rx", Fault::Chunk),
    ("00000000000000001\r\n", Fault::Chunk),
    ("1;a\nb\r\nx", Fault::Chunk),
    ("1\r\nxy", Fault::Chunk),
    ("1\r\nx\n", Fault::Chunk),
    ("0\r\nHost: a\r\n\r\n", Fault::Trailer),
    ("0\r\nContent-Length: 3\r\n\r\n", Fault::Trailer),
    ("0\r\n\n", Fault::LineEnd),
];

#[test]
fn a_target_may_be_long_but_not_too_long() {
    let request = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 1));
    assert_eq!(fault(&request(TARGET)), None);
    let stop = judge(request(TARGET + 1).as_bytes()).unwrap_err();
    assert_eq!(
        (stop.fault, stop.at),
        (Fault::TargetTooLong, "GET ".len() + TARGET)
    );
}

#[test]
fn unsound_chunks_are_found() {
    for (chunks, want) in UNSOUND_CHUNKS {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let stop = judge(text.as_bytes()).unwrap_err();
        assert_eq!((stop.fault, stop.in_head), (want, false), "{chunks:?}");
    }
}

#[test]
fn a_fault_comes_before_its_head_is_complete() {
    let first = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    for (fields, _) in UNSOUND_FIELDS {
        let text = format!("{first}GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let stop = judge(text.as_bytes()).unwrap_err();
        let passed = &text.as_bytes()[first.len()..stop.at];
        assert!(stop.in_head, "{fields:?}");
        assert!(!passed.windows(4).any(|bytes| bytes == b"\r\n\r\n"), "{fields:?}");
        assert!(!passed.windows(2).any(|bytes| bytes == b"\n\n"), "{fields:?}");
    }
}

#[test]
fn a_head_is_open_from_its_first_byte_to_its_end() {
    let mut inspector = Inspector::new(Connects::Refuse);
    assert_eq!(inspector.open_head(), None);
    for (portion, want) in [
        ("G", Some(1)),
        ("ET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r", Some(1)),
        ("\n", None),
        ("b", None),
        ("o\r", Some(2)),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET", Some(3)),
    ] {
        inspector.follow(portion.as_bytes()).unwrap();
        assert_eq!(inspector.open_head(), want, "{portion:?}");
    }
}

#[test]
fn what_follows_a_connect_waits_for_its_verdict() {
    let connect = "CONNECT a:443 HTTP/1.1\r\n\r\n";
    let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut inspector = Inspector::new(Connects::Judge);
    let both = [connect, next].concat();
    assert_eq!(inspector.follow(both.as_bytes()), Ok(connect.len()));
    assert_eq!(inspector.follow(b"\x16\x03"), Ok(0));
    assert!(inspector.awaits_verdict());
    inspector.refuse_connect();
    assert_eq!(inspector.follow(next.as_bytes()), Ok(next.len()));
    assert!(inspector.is_between_requests());
    let stop = inspector.follow(b"\x16\x03").unwrap_err();
    assert_eq!((stop.at, stop.fault), (0, Fault::RequestLine));
}

/// The verdict, with the place counted from the first byte of all.
fn in_portions(bytes: &[u8], cuts: &[usize]) -> Result<(), Stop> {
    let mut inspector = Inspector::new(Connects::Refuse);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        inspector
            .follow(&bytes[pair[0]..pair[1]])
            .map(drop)
            .map_err(|stop| Stop {
                at: stop.at + pair[0],
                ..stop
            })?;
    }
    Ok(())
}

/// Bytes that are nearly requests.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let whole = SOUND.iter().map(|(_, text)| *text);
    let pieces: Vec<&'static str> = whole
        .chain(UNSOUND.iter().map(|(text, _)| *text))
        .chain(UNSOUND_FIELDS.iter().map(|(text, _)| *text))
        .chain(UNSOUND_CHUNKS.iter().map(|(text, _)| *text))
        .chain(["\r\n", "\r", "\n", " ", ":", "GET / HTTP/1.1\r\nHost: a\r\n"])
        .collect();
    let piece = prop_oneof![
        8 => proptest::sample::select(pieces).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_portions_give_the_same_verdict(bytes in nearly(), cuts in proptest::collection::vec(any::<usize>(), 0..12)) {
        prop_assert_eq!(in_portions(&bytes, &cuts), judge(&bytes));
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(in_portions(&bytes, &every), judge(&bytes));
    }
}
