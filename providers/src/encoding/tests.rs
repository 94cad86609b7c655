//! Round trips through every coding, bombs, and truncated bodies.

use super::*;
use proptest::prelude::*;
use std::io::Write;

const ALL: &[&str] = &["gzip", "deflate", "br", "zstd"];

pub(crate) fn encode(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "raw deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            encoder.write_all(body).unwrap();
            encoder.into_inner()
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        _ => body.to_vec(),
    }
}

/// Encodes frames with a flush after each, as a streaming server does.
fn encode_frames(coding: &str, frames: &[&[u8]]) -> Vec<Vec<u8>> {
    fn each<W: Write>(
        mut encoder: W,
        frames: &[&[u8]],
        mut taken: impl FnMut(&mut W) -> Vec<u8>,
    ) -> Vec<Vec<u8>> {
        let flushed = |frame: &&[u8]| {
            encoder.write_all(frame).unwrap();
            encoder.flush().unwrap();
            taken(&mut encoder)
        };
        frames.iter().map(flushed).collect()
    }
    let level = flate2::Compression::default();
    match coding {
        "gzip" => each(flate2::write::GzEncoder::new(Vec::new(), level), frames, |e| {
            std::mem::take(e.get_mut())
        }),
        "deflate" => each(flate2::write::ZlibEncoder::new(Vec::new(), level), frames, |e| {
            std::mem::take(e.get_mut())
        }),
        "br" => each(
            brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20),
            frames,
            |e| std::mem::take(e.get_mut()),
        ),
        _ => each(
            zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap(),
            frames,
            |e| std::mem::take(e.get_mut()),
        ),
    }
}

#[test]
fn plain_bodies_are_borrowed() {
    for coding in [None, Some(""), Some("identity"), Some(" Identity , ")] {
        assert!(
            matches!(decode_body(coding, b"abc", 3), Ok(Cow::Borrowed(b"abc"))),
            "{coding:?}"
        );
    }
    assert_eq!(
        decode_body(None, b"abcd", 3),
        Err(DecodeError::TooLarge { cap: 3 })
    );
}

#[test]
fn every_coding_is_undone() {
    let body = b"a body, a body, a body ".repeat(100);
    for coding in ALL {
        let encoded = encode(coding, &body);
        assert_eq!(
            decode_body(Some(coding), &encoded, 10_000).unwrap(),
            body,
            "{coding}"
        );
        assert_eq!(
            decode_body(Some(&coding.to_uppercase()), &encoded, body.len()).unwrap(),
            body,
            "{coding}"
        );
        let twice = encode("gzip", &encoded);
        assert_eq!(
            decode_body(Some(&format!("{coding}, gzip")), &twice, 10_000).unwrap(),
            body,
            "{coding}"
        );
    }
    assert_eq!(
        decode_body(Some("deflate"), &encode("raw deflate", &body), 10_000).unwrap(),
        body
    );
    let two_members = [encode("gzip", b"one"), encode("gzip", b"two")].concat();
    assert_eq!(
        decode_body(Some("x-gzip"), &two_members, 10).unwrap(),
        b"onetwo".as_slice()
    );
}

#[test]
fn bombs_and_broken_bodies_are_refused() {
    let bomb = vec![0; 10_000_000];
    for coding in ALL {
        let encoded = encode(coding, &bomb);
        assert!(encoded.len() < 20_000, "{coding}");
        assert_eq!(
            decode_body(Some(coding), &encoded, 100_000),
            Err(DecodeError::TooLarge { cap: 100_000 }),
            "{coding}"
        );
        let text = encode(
            coding,
            &(0..2000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>(),
        );
        let cut = &text[..text.len() / 2];
        assert_eq!(
            decode_body(Some(coding), cut, 100_000),
            Err(DecodeError::Corrupt),
            "{coding} cut"
        );
        assert_eq!(
            decode_body(Some(coding), b"not encoded at all", 100),
            Err(DecodeError::Corrupt),
            "{coding}"
        );
    }
    for coding in ["lzma", "gzip, lzma", "gzip,gzip,gzip,gzip"] {
        assert_eq!(
            decode_body(Some(coding), b"", 100),
            Err(DecodeError::Unsupported),
            "{coding}"
        );
    }
}

#[test]
fn streamed_frames_are_visible_at_once() {
    let frames: Vec<Vec<u8>> = (0..20)
        .map(|i| format!("data: {{\"frame\":{i}}}\n\n").into_bytes())
        .collect();
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    for coding in ALL {
        let mut decoder = StreamDecoder::new(Some(coding), 1_000_000).unwrap();
        for (index, (encoded, frame)) in encode_frames(coding, &frames).iter().zip(&frames).enumerate() {
            let mut out = Vec::new();
            decoder
                .push(encoded, |bytes| out.extend_from_slice(bytes))
                .unwrap();
            assert_eq!(out, *frame, "{coding} {index}");
        }
    }
}

#[test]
fn streams_stop_at_their_cap_and_at_errors() {
    let bomb = vec![b'x'; 10_000_000];
    for coding in ALL {
        let mut decoder = StreamDecoder::new(Some(coding), 100_000).unwrap();
        let mut length = 0;
        let results: Vec<_> = encode(coding, &bomb)
            .chunks(1000)
            .map(|chunk| decoder.push(chunk, |bytes| length += bytes.len()).is_ok())
            .collect();
        assert_eq!(
            results.iter().filter(|ok| !**ok).count(),
            1,
            "{coding} fails once"
        );
        assert!(length <= 100_000, "{coding}");
    }
    for coding in ["lzma", "gzip, lzma", "gzip,gzip,gzip,gzip"] {
        let refused = StreamDecoder::new(Some(coding), 10).map(|_| ());
        assert_eq!(refused, Err(DecodeError::Unsupported), "{coding}");
    }
}

#[test]
fn stacked_codings_are_undone_as_they_stream() {
    let body = b"data: a body, a body, a body\n\n".repeat(100);
    let layers = [
        ["gzip", "br", "zstd"],
        ["zstd", "deflate", "gzip"],
        ["br", "zstd", "br"],
    ];
    for names in layers {
        let encoded = names.iter().fold(body.clone(), |body, name| encode(name, &body));
        let header = names.join(", ");
        for size in [1, 7, 10_000] {
            let mut decoder = StreamDecoder::new(Some(&header), 10_000).unwrap();
            let mut out = Vec::new();
            for chunk in encoded.chunks(size) {
                decoder.push(chunk, |bytes| out.extend_from_slice(bytes)).unwrap();
            }
            assert_eq!(out, body, "{header} by {size}");
        }
    }
}

#[test]
fn a_stacked_bomb_is_never_held_whole() {
    let twice = encode("gzip", &encode("zstd", &vec![b'x'; 50_000_000]));
    let mut decoder = StreamDecoder::new(Some("zstd, gzip"), 1_000_000).unwrap();
    let (mut length, mut longest) = (0, 0);
    let decoded = decoder.push(&twice, |bytes| {
        length += bytes.len();
        longest = longest.max(bytes.len());
    });
    assert_eq!(decoded, Err(DecodeError::Corrupt));
    assert!(length <= 1_000_000 && longest <= BUFFER, "{length} {longest}");
}

proptest! {
    #[test]
    fn any_chunking_decodes_the_same(body in prop::collection::vec(any::<u8>(), 0..600), size in 1_usize..50, at in 0..ALL.len()) {
        let coding = ALL[at];
        let encoded = encode(coding, &body);
        let mut decoder = StreamDecoder::new(Some(coding), 1000).unwrap();
        let mut out = Vec::new();
        for chunk in encoded.chunks(size) {
            decoder.push(chunk, |bytes| out.extend_from_slice(bytes)).unwrap();
        }
        prop_assert_eq!(&out, &body);
        prop_assert_eq!(decode_body(Some(coding), &encoded, 1000).unwrap().into_owned(), body);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..ALL.len(), size in 1_usize..50) {
        let _ = decode_body(Some(ALL[at]), &bytes, 1000);
        for codings in [ALL[at].to_owned(), format!("{}, gzip", ALL[at])] {
            let mut decoder = StreamDecoder::new(Some(&codings), 1000).unwrap();
            for chunk in bytes.chunks(size) {
                let _ = decoder.push(chunk, |_| {});
            }
        }
    }
}
