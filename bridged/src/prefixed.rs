//! A stream some of whose bytes have been read already: they come first, then the stream goes on.
//!
//! Whoever must know what a stream begins with reads ahead here; whoever reads afterwards misses nothing.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read ahead at once: the head of a usual request.
const CHUNK: usize = 1 << 10;

/// `io` with `prefix` before what it still has to say.
#[derive(Debug)]
pub struct Prefixed<IO> {
    prefix: Bytes,
    io: IO,
}

impl<IO> Prefixed<IO> {
    /// What has been read ahead and not yet been taken.
    pub fn ahead(&self) -> &[u8] {
        &self.prefix
    }

    /// Puts `bytes` back before everything else.
    pub fn unread(&mut self, bytes: Bytes) {
        // Even an empty one may keep a large buffer alive.
        if !bytes.is_empty() {
            self.prefix = joined(bytes, &self.prefix);
        }
    }
}

fn joined(one: Bytes, other: &[u8]) -> Bytes {
    if other.is_empty() {
        return one;
    }
    let mut both = BytesMut::from(one);
    both.extend_from_slice(other);
    both.freeze()
}

impl<IO: AsyncRead + Unpin> Prefixed<IO> {
    /// Reads more ahead; holds no memory while there is nothing. Gives the number of bytes, 0 at the end.
    ///
    /// # Errors
    /// The stream broke.
    pub fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut memory = [const { MaybeUninit::uninit() }; CHUNK];
        let mut chunk = ReadBuf::uninit(&mut memory);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))?;
        let chunk = chunk.filled();
        self.prefix = joined(std::mem::take(&mut self.prefix), chunk);
        Poll::Ready(Ok(chunk.len()))
    }
}

impl<IO> From<IO> for Prefixed<IO> {
    fn from(io: IO) -> Prefixed<IO> {
        Prefixed {
            prefix: Bytes::new(),
            io,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, into);
        }
        let count = self.prefix.len().min(into.remaining());
        into.put_slice(&self.prefix.split_to(count));
        if self.prefix.is_empty() {
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
