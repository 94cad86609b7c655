//! Content encodings, as servers apply them.

use std::io::Write;

/// Encodes a body in each of the codings, in order.
pub(crate) fn encode(codings: &str, body: &[u8]) -> Vec<u8> {
    codings
        .split(", ")
        .fold(body.to_vec(), |body, coding| one(coding, &body))
}

fn one(coding: &str, body: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
            encoder.write_all(body).unwrap();
            encoder.into_inner()
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        other => panic!("no encoder for {other}"),
    }
}
