//! Content encodings: whole request bodies, and replies as they stream by.
//!
//! Both are bounded: a few compressed bytes can stand for gigabytes.

mod inflate;
mod stream;

use std::borrow::Cow;

use std::io::{self, Read};

pub use stream::StreamDecoder;

/// A content coding that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The most codings stacked on one body.
const STACK: usize = 3;

/// The window RFC 9659 allows zstd on the web, as a power of two; larger ones only cost memory.
const ZSTD_WINDOW_LOG: u32 = 23;

const BUFFER: usize = 16 * 1024;

/// Why a body does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A content encoding that is not known, or too many of them.
    #[error("the content encoding is not supported")]
    Unsupported,
    /// More bytes than allowed.
    #[error("the decoded body is longer than {cap} bytes")]
    TooLarge {
        /// The bytes allowed.
        cap: usize,
    },
    /// Bytes that are not in the encoding named, or end too early.
    #[error("the body is not valid in its content encoding")]
    Corrupt,
}

/// Decodes a whole body; without an encoding the bytes are borrowed.
///
/// # Errors
/// If the encoding is unknown, the bytes are not in it, or they decode to more than `cap` bytes.
pub fn decode_body<'a>(
    content_encoding: Option<&str>,
    body: &'a [u8],
    cap: usize,
) -> Result<Cow<'a, [u8]>, DecodeError> {
    let codings = codings(content_encoding)?;
    let mut current = Cow::Borrowed(body);
    for coding in codings.iter().rev() {
        current = Cow::Owned(decode_one(*coding, &current, cap)?);
    }
    if current.len() > cap {
        Err(DecodeError::TooLarge { cap })
    } else {
        Ok(current)
    }
}

fn decode_one(coding: Coding, body: &[u8], cap: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(body.len().saturating_mul(4).min(cap).min(1024 * 1024));
    let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    let read = match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(body)
            .take(most)
            .read_to_end(&mut out),
        Coding::Deflate if is_zlib(body) => flate2::read::ZlibDecoder::new(body)
            .take(most)
            .read_to_end(&mut out),
        Coding::Deflate => flate2::read::DeflateDecoder::new(body)
            .take(most)
            .read_to_end(&mut out),
        Coding::Brotli => brotli::Decompressor::new(body, BUFFER)
            .take(most)
            .read_to_end(&mut out),
        Coding::Zstd => zstd_reader(body).and_then(|reader| reader.take(most).read_to_end(&mut out)),
    };
    match read {
        Ok(_) if out.len() > cap => Err(DecodeError::TooLarge { cap }),
        Ok(_) => Ok(out),
        Err(_) => Err(DecodeError::Corrupt),
    }
}

fn zstd_reader(body: &[u8]) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

/// Reads a `Content-Encoding` header: codings in the order in which they were applied.
fn codings(content_encoding: Option<&str>) -> Result<Vec<Coding>, DecodeError> {
    let mut found = Vec::new();
    let names = content_encoding.unwrap_or_default().split(',').map(str::trim);
    for name in names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")) {
        found.push(coding(name).ok_or(DecodeError::Unsupported)?);
        if found.len() > STACK {
            return Err(DecodeError::Unsupported);
        }
    }
    Ok(found)
}

fn coding(name: &str) -> Option<Coding> {
    const NAMES: &[(&str, Coding)] = &[
        ("gzip", Coding::Gzip),
        ("x-gzip", Coding::Gzip),
        ("deflate", Coding::Deflate),
        ("br", Coding::Brotli),
        ("zstd", Coding::Zstd),
    ];
    NAMES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, coding)| *coding)
}

/// Whether a `deflate` body has the zlib header that it should have; some senders leave it out.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [first, second, ..] => first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31),
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests;
