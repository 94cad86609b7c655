//! Bytes both ways between two streams. Between bytes nothing is held: thousands of tunnels are idle at any time.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Chunks in a row, before the other direction has its turn.
const BURST: usize = 32;

/// Copies both ways until both streams have ended. The end of one is passed on to the other at once, and the
/// other direction goes on.
///
/// # Errors
/// Either stream broke.
pub async fn both_ways<A, B>(one: &mut A, other: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Direction::default(), Direction::default());
    poll_fn(|cx| {
        let there = there.poll(cx, one, other)?;
        let back = back.poll(cx, other, one)?;
        if there.is_ready() && back.is_ready() {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await
}

#[derive(Debug, Default)]
struct Direction {
    /// What was read and could not be written yet.
    held: Vec<u8>,
    /// How much of `held` has been written since.
    written: usize,
    unflushed: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The source has ended.
    Ending,
    /// The sink has been told.
    Ended,
}

impl Direction {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..BURST {
            ready!(self.write_held(cx, to))?;
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.stage = Stage::Ended;
                }
                Stage::Open => {
                    if self.pass(cx, from, to)?.is_pending() {
                        return self.flush(cx, to);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, into a buffer that lives only for this call, and writes what the sink takes.
    fn pass<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut memory = [const { MaybeUninit::uninit() }; CHUNK];
        let mut chunk = ReadBuf::uninit(&mut memory);
        if Pin::new(from).poll_read(cx, &mut chunk)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let chunk = chunk.filled();
        if chunk.is_empty() {
            self.stage = Stage::Ending;
            return Ok(Poll::Ready(()));
        }
        let count = match Pin::new(to).poll_write(cx, chunk)? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(count) => count,
            Poll::Pending => 0,
        };
        self.unflushed = true;
        if let Some(rest @ [_, ..]) = chunk.get(count..) {
            self.held = rest.to_vec();
        }
        Ok(Poll::Ready(()))
    }

    fn write_held<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.held.get(self.written..) {
            match ready!(Pin::new(&mut *to).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        if self.written > 0 {
            (self.held, self.written) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more to read for now: what a TLS or HTTP/2 stream keeps back must go out. Pending either way.
    fn flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn bytes(count: u32) -> Vec<u8> {
        (0..count)
            .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect()
    }

    #[tokio::test]
    async fn everything_arrives_through_any_narrow_place() {
        for (left, right) in [
            (1, 1),
            (7, 65_536),
            (65_536, 7),
            (20_000, 3_000),
            (65_536, 65_536),
        ] {
            let ((mut client, mut near), (mut far, mut server)) = (duplex(left), duplex(right));
            let (up, down) = (bytes(20_000), bytes(30_001));
            let (want_up, want_down) = (up.clone(), down.clone());
            let client = async move {
                let (mut reading, mut writing) = tokio::io::split(&mut client);
                let mut got = Vec::new();
                let write = async {
                    writing.write_all(&up).await.unwrap();
                    writing.shutdown().await.unwrap();
                };
                let ((), read) = tokio::join!(write, reading.read_to_end(&mut got));
                read.unwrap();
                got
            };
            // Answers only after the client's half has ended.
            let server = async move {
                let mut got = Vec::new();
                server.read_to_end(&mut got).await.unwrap();
                server.write_all(&down).await.unwrap();
                server.shutdown().await.unwrap();
                got
            };
            let (got_down, got_up, spliced) = tokio::join!(client, server, both_ways(&mut near, &mut far));
            spliced.unwrap();
            assert!(got_up == want_up && got_down == want_down, "{left} and {right}");
        }
    }

    #[tokio::test]
    async fn a_broken_side_ends_both() {
        let ((client, mut near), (mut far, mut server)) = (duplex(64), duplex(64));
        drop(client);
        let writer = async move {
            // Until nobody takes any more.
            while server.write_all(&[0; 64]).await.is_ok() {}
        };
        let spliced = async {
            let ended = both_ways(&mut near, &mut far).await;
            drop((near, far));
            ended
        };
        let (ended, ()) = tokio::join!(spliced, writer);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
