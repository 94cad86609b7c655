//! A connection after its CONNECT, whatever it came in on or goes out on: TCP, TLS or a stream of HTTP/2.
//!
//! Bytes that were read along with the CONNECT's head, or with the answer to one, come first.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bridged::prefixed::Prefixed;
use bridged::wire::Guarded;
use bytes::Bytes;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A stream of bytes both ways.
pub(crate) enum Wire {
    /// A plain connection.
    Tcp(Prefixed<TcpStream>),
    /// A connection to a TLS proxy, ours or the organisation's.
    Tls(Box<Prefixed<TlsStream<TcpStream>>>),
    /// One CONNECT of an HTTP/2 connection.
    Http2(Prefixed<TokioIo<Upgraded>>),
}

impl Wire {
    /// What a CONNECT has left of the connection that it came in on.
    pub(crate) fn from_upgraded(upgraded: Upgraded) -> Wire {
        let upgraded = match upgraded.downcast::<TokioIo<Guarded<TcpStream>>>() {
            Ok(parts) => return Wire::Tcp(unguarded(parts)),
            Err(upgraded) => upgraded,
        };
        match upgraded.downcast::<TokioIo<Guarded<TlsStream<TcpStream>>>>() {
            Ok(parts) => Wire::Tls(Box::new(unguarded(parts))),
            Err(upgraded) => Wire::Http2(TokioIo::new(upgraded).into()),
        }
    }

    /// Puts back what was read too far.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        match self {
            Wire::Tcp(io) => io.unread(bytes),
            Wire::Tls(io) => io.unread(bytes),
            Wire::Http2(io) => io.unread(bytes),
        }
    }

    fn io(&mut self) -> Pin<&mut dyn Duplex> {
        match self {
            Wire::Tcp(io) => Pin::new(io),
            Wire::Tls(io) => Pin::new(&mut **io),
            Wire::Http2(io) => Pin::new(io),
        }
    }
}

/// What a connection was before HTTP was spoken on it, with what HTTP has read too far.
fn unguarded<IO>(parts: Parts<TokioIo<Guarded<IO>>>) -> Prefixed<IO> {
    let mut io = parts.io.into_inner().into_inner();
    io.unread(parts.read_buf);
    io
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<IO: AsyncRead + AsyncWrite + Unpin> Duplex for IO {}

impl From<TcpStream> for Wire {
    fn from(tcp: TcpStream) -> Wire {
        Wire::Tcp(tcp.into())
    }
}

impl From<TlsStream<TcpStream>> for Wire {
    fn from(tls: TlsStream<TcpStream>) -> Wire {
        Wire::Tls(Box::new(tls.into()))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wire::Tcp(_) => "Tcp",
            Wire::Tls(_) => "Tls",
            Wire::Http2(_) => "Http2",
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Wire::Tcp(io) => io.is_write_vectored(),
            Wire::Tls(io) => io.is_write_vectored(),
            Wire::Http2(io) => io.is_write_vectored(),
        }
    }
}
