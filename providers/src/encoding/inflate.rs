//! Gzip, zlib and raw deflate as they stream by: small steps, small buffers, output handed on at once.
//!
//! Checksums are not verified: this copy of the stream is only looked at, the client verifies its own.

use std::io::{self, ErrorKind};

use flate2::{Decompress, FlushDecompress, Status};

use super::stream::Sink;

/// Undoes one of the three wrappings of deflate.
#[derive(Debug)]
pub(super) struct Inflater {
    part: Part,
    raw: Decompress,
    out: Box<[u8]>,
}

/// Which part of the stream comes next.
#[derive(Debug)]
enum Part {
    /// A gzip header, of which these bytes came.
    Header(Vec<u8>),
    Body,
    /// So many bytes of a gzip trailer, then perhaps another member.
    Trailer(usize),
    /// A body without header or trailer.
    Bare,
    /// What follows a bare body means nothing.
    Ended,
}

const OUT: usize = 8 * 1024;

/// The longest gzip header that is read: it may hold a file name and a comment.
const HEADER_MAX: usize = 8 * 1024;

/// Checksum and length.
const TRAILER: usize = 8;

impl Inflater {
    pub(super) fn gzip() -> Inflater {
        Inflater::new(Part::Header(Vec::new()), false)
    }

    /// Deflate with a zlib header, or without.
    pub(super) fn deflate(with_header: bool) -> Inflater {
        Inflater::new(Part::Bare, with_header)
    }

    fn new(part: Part, with_header: bool) -> Inflater {
        Inflater {
            part,
            raw: Decompress::new(with_header),
            out: vec![0; OUT].into_boxed_slice(),
        }
    }

    /// Takes the next bytes and writes what they yield.
    pub(super) fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match &mut self.part {
                Part::Ended => return Ok(()),
                Part::Bare | Part::Body => self.body(rest, sink)?,
                Part::Header(came) => match header(came, rest)? {
                    Some(after) => {
                        self.part = Part::Body;
                        after
                    }
                    None => return Ok(()),
                },
                Part::Trailer(left) => {
                    let (_, after) = rest.split_at_checked(*left).unwrap_or((rest, &[]));
                    *left -= rest.len() - after.len();
                    if *left == 0 {
                        self.part = Part::Header(Vec::new());
                        self.raw.reset(false);
                    }
                    after
                }
            };
        }
        Ok(())
    }

    fn body<'a>(&mut self, bytes: &'a [u8], sink: &mut Sink<'_>) -> io::Result<&'a [u8]> {
        let mut rest = bytes;
        loop {
            let (read, written) = (self.raw.total_in(), self.raw.total_out());
            let status = self.raw.decompress(rest, &mut self.out, FlushDecompress::None)?;
            let taken = usize::try_from(self.raw.total_in() - read).unwrap_or(usize::MAX);
            let made = usize::try_from(self.raw.total_out() - written).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            sink(self.out.get(..made).unwrap_or_default())?;
            if status == Status::StreamEnd {
                self.part = match self.part {
                    Part::Body => Part::Trailer(TRAILER),
                    _ => Part::Ended,
                };
                return Ok(rest);
            }
            let is_drained = made < self.out.len();
            if is_drained && rest.is_empty() {
                return Ok(rest);
            }
            if taken == 0 && made == 0 {
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }
}

/// Adds bytes to a gzip header; returns what follows it once it is whole.
fn header<'a>(came: &mut Vec<u8>, bytes: &'a [u8]) -> io::Result<Option<&'a [u8]>> {
    let before = came.len();
    let room = HEADER_MAX.saturating_sub(before);
    came.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    match header_length(came) {
        Some(Ok(length)) => Ok(bytes.get(length.saturating_sub(before)..)),
        Some(Err(error)) => Err(error.into()),
        None if came.len() >= HEADER_MAX => Err(ErrorKind::InvalidData.into()),
        None => Ok(None),
    }
}

/// The length of the header (RFC 1952, 2.3), if it is all there.
fn header_length(bytes: &[u8]) -> Option<Result<usize, ErrorKind>> {
    let expected = [0x1f, 0x8b, 8];
    if bytes.iter().zip(expected).any(|(byte, want)| *byte != want) {
        return Some(Err(ErrorKind::InvalidData));
    }
    let (fixed, mut rest) = bytes.split_at_checked(10)?;
    let flags = *fixed.get(3)?;
    if flags & 0b100 != 0 {
        let (length, after) = rest.split_at_checked(2)?;
        let length = u16::from_le_bytes(length.try_into().ok()?);
        rest = after.get(usize::from(length)..)?;
    }
    for text in [0b1000, 0b1_0000] {
        if flags & text != 0 {
            let end = memchr::memchr(0, rest)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & 0b10 != 0 {
        rest = rest.get(2..)?;
    }
    Some(Ok(bytes.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn headers_and_members_are_stepped_over() {
        let member = |text: &[u8]| {
            let mut encoder = flate2::GzBuilder::new()
                .filename("name")
                .comment("a comment")
                .extra(vec![7; 300])
                .write(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let stream = [member(b"one "), member(b""), member(b"two")].concat();
        for size in [1, 2, 7, 100, 5000] {
            let mut inflater = Inflater::gzip();
            let mut out = Vec::new();
            for chunk in stream.chunks(size) {
                inflater
                    .push(chunk, &mut |bytes| {
                        out.extend_from_slice(bytes);
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(out, b"one two", "by {size}");
        }
    }

    #[test]
    fn endless_headers_are_refused() {
        let mut inflater = Inflater::gzip();
        inflater
            .push(&[0x1f, 0x8b, 8, 0b1000, 0, 0, 0, 0, 0, 0], &mut |_| Ok(()))
            .unwrap();
        let results: Vec<bool> = (0..20)
            .map(|_| inflater.push(&[b'x'; 1000], &mut |_| Ok(())).is_ok())
            .collect();
        assert!(results.contains(&false));
    }
}
