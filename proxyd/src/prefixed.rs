//! A stream some of whose bytes have been read already: they come first, then the stream goes on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `io` with `prefix` before what it still has to say.
#[derive(Debug)]
pub(crate) struct Prefixed<IO> {
    prefix: Bytes,
    io: IO,
}

impl<IO> Prefixed<IO> {
    pub(crate) fn new(prefix: Bytes, io: IO) -> Prefixed<IO> {
        // An empty rest of a buffer would keep the whole buffer.
        let prefix = if prefix.is_empty() { Bytes::new() } else { prefix };
        Prefixed { prefix, io }
    }

    /// Whether the bytes that have been read begin with `byte`.
    pub(crate) fn begins_with(&self, byte: u8) -> bool {
        self.prefix.first() == Some(&byte)
    }

    /// Puts `bytes` back before everything else.
    pub(crate) fn unread(self, bytes: Bytes) -> Prefixed<IO> {
        // Even an empty one may keep a large buffer alive.
        if bytes.is_empty() {
            return self;
        }
        if self.prefix.is_empty() {
            return Prefixed::new(bytes, self.io);
        }
        let mut prefix = BytesMut::from(bytes);
        prefix.extend_from_slice(&self.prefix);
        Prefixed::new(prefix.freeze(), self.io)
    }
}

impl<IO> From<IO> for Prefixed<IO> {
    fn from(io: IO) -> Prefixed<IO> {
        Prefixed::new(Bytes::new(), io)
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
