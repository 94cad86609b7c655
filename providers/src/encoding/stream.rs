//! Decoding a reply as it passes by.
//!
//! What a chunk yields is written on at once, in small pieces, so a bomb costs time in proportion to its cap and no
//! memory. Every push ends with a flush: a compressed frame is visible as soon as its bytes are there.

use std::fmt;
use std::io::{self, Write};
use std::mem;

use super::inflate::Inflater;
use super::{BUFFER, Coding, DecodeError, ZSTD_WINDOW_LOG, codings, is_zlib};

/// Undoes the content encoding of a stream, writing what it yields to `W`.
pub struct StreamDecoder<W: Write + Default> {
    stage: Stage<W>,
}

/// What the bytes go through.
enum Stage<W: Write + Default> {
    Plain(W),
    /// The first byte of a `deflate` body does not yet tell which of the two it is.
    Undecided(Capped<W>, Vec<u8>),
    Inflate(Capped<W>, Box<Inflater>),
    Brotli(Box<brotli::DecompressorWriter<Capped<W>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Capped<W>>>),
    /// Nothing more can be read.
    Failed(W),
}

impl<W: Write + Default> fmt::Debug for StreamDecoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Plain(_) => "Plain",
            Stage::Undecided(..) | Stage::Inflate(..) => "Inflate",
            Stage::Brotli(_) => "Brotli",
            Stage::Zstd(_) => "Zstd",
            Stage::Failed(_) => "Failed",
        };
        f.debug_tuple("StreamDecoder").field(&stage).finish()
    }
}

impl<W: Write + Default> StreamDecoder<W> {
    /// A decoder that yields at most `cap` bytes; of several stacked encodings it knows none.
    ///
    /// # Errors
    /// If the encoding is not supported; the sink is given back, for a decoder that reads nothing.
    pub fn new(content_encoding: Option<&str>, sink: W, cap: u64) -> Result<Self, (DecodeError, Self)> {
        let stage = match codings(content_encoding).as_deref() {
            Ok([]) => {
                return Ok(StreamDecoder {
                    stage: Stage::Plain(sink),
                });
            }
            Ok([coding]) => Stage::new(*coding, sink, cap),
            _ => Err(sink),
        };
        match stage {
            Ok(stage) => Ok(StreamDecoder { stage }),
            Err(sink) => Err((
                DecodeError::Unsupported,
                StreamDecoder {
                    stage: Stage::Failed(sink),
                },
            )),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Once, when the bytes are not in the encoding or yield more than the cap; later bytes are ignored.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        if let Stage::Undecided(sink, first) = &mut self.stage {
            first.extend_from_slice(bytes);
            if first.len() < 2 {
                return Ok(());
            }
            let (sink, first) = (mem::take(sink), mem::take(first));
            self.stage = Stage::Inflate(sink, Box::new(Inflater::deflate(is_zlib(&first))));
            return self.write(&first);
        }
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let written = match &mut self.stage {
            Stage::Plain(sink) => sink.write_all(bytes),
            Stage::Inflate(sink, inflater) => inflater.push(bytes, sink),
            Stage::Brotli(decoder) => write_through(decoder.as_mut(), bytes),
            Stage::Zstd(decoder) => write_through(decoder.as_mut(), bytes),
            Stage::Undecided(..) | Stage::Failed(_) => Ok(()),
        };
        written.map_err(|_| {
            let sink = mem::take(self.sink_mut());
            self.stage = Stage::Failed(sink);
            DecodeError::Corrupt
        })
    }

    /// The sink.
    pub fn sink(&self) -> &W {
        match &self.stage {
            Stage::Plain(sink) | Stage::Failed(sink) => sink,
            Stage::Undecided(sink, _) | Stage::Inflate(sink, _) => &sink.inner,
            Stage::Brotli(decoder) => &decoder.get_ref().inner,
            Stage::Zstd(decoder) => &decoder.get_ref().inner,
        }
    }

    /// The sink, to be changed or taken.
    pub fn sink_mut(&mut self) -> &mut W {
        match &mut self.stage {
            Stage::Plain(sink) | Stage::Failed(sink) => sink,
            Stage::Undecided(sink, _) | Stage::Inflate(sink, _) => &mut sink.inner,
            Stage::Brotli(decoder) => &mut decoder.get_mut().inner,
            Stage::Zstd(decoder) => &mut decoder.get_mut().inner,
        }
    }
}

impl<W: Write + Default> Stage<W> {
    fn new(coding: Coding, sink: W, left: u64) -> Result<Stage<W>, W> {
        let capped = Capped { inner: sink, left };
        Ok(match coding {
            Coding::Gzip => Stage::Inflate(capped, Box::new(Inflater::gzip())),
            Coding::Deflate => Stage::Undecided(capped, Vec::new()),
            Coding::Brotli => Stage::Brotli(Box::new(brotli::DecompressorWriter::new(capped, BUFFER))),
            Coding::Zstd => match zstd_decoder() {
                Ok(raw) => Stage::Zstd(Box::new(zstd::stream::write::Decoder::with_decoder(capped, raw))),
                Err(_) => return Err(capped.inner),
            },
        })
    }
}

fn zstd_decoder() -> io::Result<zstd::stream::raw::Decoder<'static>> {
    let mut raw = zstd::stream::raw::Decoder::new()?;
    raw.set_parameter(zstd::stream::raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(raw)
}

fn write_through(decoder: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    decoder.write_all(bytes)?;
    decoder.flush()
}

/// A sink that refuses more than a number of bytes.
#[derive(Debug, Default)]
struct Capped<W> {
    inner: W,
    left: u64,
}

impl<W: Write> Write for Capped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(length).ok_or(io::ErrorKind::FileTooLarge)?;
        self.inner.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
