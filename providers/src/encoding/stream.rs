//! Decoding a reply as it passes by.
//!
//! Bytes go through one layer for each coding, the last applied first. What a chunk yields is handed on at once, in
//! small pieces, so a bomb costs time in proportion to its cap and no memory. A compressed frame is visible as soon
//! as its bytes are there.

use std::fmt;
use std::io;

use brotli::writer::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::inflate::Inflater;
use super::{BUFFER, Coding, DecodeError, ZSTD_WINDOW_LOG, codings, is_zlib};

/// Where decoded bytes go; an error ends the decoding.
pub(super) type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Undoes the content encodings of a stream.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    /// The first gets the bytes as they came; without any they pass as they are.
    layers: Vec<Layer>,
    failed: bool,
}

/// One coding.
#[derive(Debug)]
struct Layer {
    stage: Stage,
    /// Bytes that it may still yield.
    left: u64,
}

/// What the bytes go through.
enum Stage {
    /// The first byte of a `deflate` body does not yet tell which of the two it is.
    Undecided(Vec<u8>),
    Inflate(Box<Inflater>),
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

impl StreamDecoder {
    /// A decoder whose every coding yields at most `cap` bytes.
    ///
    /// # Errors
    /// If a coding is not supported, or there are too many of them.
    pub fn new(content_encoding: Option<&str>, cap: u64) -> Result<StreamDecoder, DecodeError> {
        let mut layers = Vec::new();
        for coding in codings(content_encoding)?.into_iter().rev() {
            let stage = Stage::new(coding)?;
            layers.push(Layer { stage, left: cap });
        }
        Ok(StreamDecoder {
            layers,
            failed: false,
        })
    }

    /// Takes the next bytes and hands on what they yield.
    ///
    /// # Errors
    /// Once, when the bytes are not in the encoding or yield more than the cap; later bytes are ignored.
    #[inline]
    pub fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(&[u8])) -> Result<(), DecodeError> {
        if self.layers.is_empty() {
            sink(bytes);
            return Ok(());
        }
        if self.failed {
            return Ok(());
        }
        let mut sink = |bytes: &[u8]| {
            sink(bytes);
            Ok(())
        };
        through(&mut self.layers, bytes, &mut sink).map_err(|_| {
            self.failed = true;
            DecodeError::Corrupt
        })
    }
}

/// Sends bytes through the layers into the sink.
fn through(layers: &mut [Layer], bytes: &[u8], sink: &mut Sink<'_>) -> io::Result<()> {
    match layers.split_first_mut() {
        None => sink(bytes),
        Some((layer, rest)) => layer.push(bytes, &mut |bytes| through(rest, bytes, sink)),
    }
}

impl Layer {
    fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> io::Result<()> {
        let left = &mut self.left;
        let mut capped = |bytes: &[u8]| {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            *left = left.checked_sub(length).ok_or(io::ErrorKind::FileTooLarge)?;
            if bytes.is_empty() { Ok(()) } else { sink(bytes) }
        };
        if let Stage::Undecided(first) = &mut self.stage {
            first.extend_from_slice(bytes);
            if first.len() < 2 {
                return Ok(());
            }
            let first = std::mem::take(first);
            let mut inflater = Box::new(Inflater::deflate(is_zlib(&first)));
            let decoded = inflater.push(&first, &mut capped);
            self.stage = Stage::Inflate(inflater);
            return decoded;
        }
        match &mut self.stage {
            Stage::Undecided(_) => Ok(()),
            Stage::Inflate(inflater) => inflater.push(bytes, &mut capped),
            Stage::Brotli(brotli) => brotli.push(bytes, &mut capped),
            Stage::Zstd(zstd) => zstd.push(bytes, &mut capped),
        }
    }
}

impl Stage {
    fn new(coding: Coding) -> Result<Stage, DecodeError> {
        Ok(match coding {
            Coding::Gzip => Stage::Inflate(Box::new(Inflater::gzip())),
            Coding::Deflate => Stage::Undecided(Vec::new()),
            Coding::Brotli => Stage::Brotli(Box::new(Brotli::new())),
            Coding::Zstd => Stage::Zstd(Box::new(Zstd::new().map_err(|_| DecodeError::Unsupported)?)),
        })
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Undecided(_) | Stage::Inflate(_) => "Inflate",
            Stage::Brotli(_) => "Brotli",
            Stage::Zstd(_) => "Zstd",
        })
    }
}

fn buffer() -> Box<[u8]> {
    vec![0; BUFFER].into_boxed_slice()
}

struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    out: Box<[u8]>,
    ended: bool,
}

impl Brotli {
    fn new() -> Brotli {
        Brotli {
            state: BrotliState::new(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ),
            out: buffer(),
            ended: false,
        }
    }

    /// What follows the end of the stream means nothing.
    fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> io::Result<()> {
        let (mut left, mut read, mut total) = (bytes.len(), 0, 0);
        while !self.ended {
            let (mut room, mut made) = (self.out.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                bytes,
                &mut room,
                &mut made,
                &mut self.out,
                &mut total,
                &mut self.state,
            );
            sink(self.out.get(..made).unwrap_or_default())?;
            match result {
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => return Ok(()),
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(())
    }
}

struct Zstd {
    raw: Decoder<'static>,
    out: Box<[u8]>,
}

impl Zstd {
    fn new() -> io::Result<Zstd> {
        let mut raw = Decoder::new()?;
        raw.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
        Ok(Zstd { raw, out: buffer() })
    }

    /// Frames may follow one another.
    fn push(&mut self, bytes: &[u8], sink: &mut Sink<'_>) -> io::Result<()> {
        let mut input = InBuffer::around(bytes);
        loop {
            let room = self.out.len();
            let before = input.pos();
            let mut output = OutBuffer::around(&mut *self.out);
            self.raw.run(&mut input, &mut output)?;
            let made = output.pos();
            sink(self.out.get(..made).unwrap_or_default())?;
            let is_drained = made < room;
            if is_drained && input.pos() >= bytes.len() {
                return Ok(());
            }
            if made == 0 && input.pos() == before {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}
