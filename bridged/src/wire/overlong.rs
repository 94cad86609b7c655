//! A request whose target is too long: what is left of its head is read away, then it is told so.
//!
//! hyper refuses what it cannot read with a bare status and at once, so that a client which is still sending may
//! never read it. Here the head is read to its end first, within bounds, and hyper's refusal, which comes after the
//! replies to the requests before it, is exchanged for one with a body (RFC 9110 section 15.5.15, RFC 9457).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use super::http1::TARGET;

/// What hyper writes when a head cannot be read.
const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// The end of a head.
const END: &[u8; 4] = b"\r\n\r\n";
/// Most bytes of a head that are read away.
const MOST: usize = 4 << 20;

/// What becomes of such a request.
#[derive(Debug)]
pub(super) struct Overlong {
    /// How much of `END` has been seen last.
    seen: usize,
    /// How much may still be read away.
    left: usize,
    reply: Bytes,
}

impl Overlong {
    pub(super) fn new() -> Overlong {
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"URI Too Long\",\"status\":414,\
             \"detail\":\"at most {TARGET} bytes of path and query\",\"field\":\"query\"}}"
        );
        let reply = format!(
            "HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        Overlong {
            seen: 0,
            left: MOST,
            reply: reply.into(),
        }
    }

    /// Takes more of the head; whether that is enough of it.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.seen = match END.get(self.seen) {
                Some(next) if next == byte => self.seen + 1,
                _ => usize::from(*byte == b'\r'),
            };
            if self.seen == END.len() {
                return true;
            }
        }
        self.left = self.left.saturating_sub(bytes.len());
        self.left == 0
    }

    /// Writes what hyper writes, but for its refusal.
    pub(super) fn poll_write<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let before = match from.strip_suffix(BARE) {
            Some([]) => {
                while self.reply.has_remaining() {
                    let count = ready!(Pin::new(&mut *io).poll_write(cx, &self.reply))?;
                    self.reply.advance(count);
                }
                return Poll::Ready(Ok(from.len()));
            }
            Some(before) => before,
            None => from,
        };
        Pin::new(io).poll_write(cx, before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_away_to_its_end_however_it_comes() {
        let head = b"aaa HTTP/1.1\r\nHost: a\r\r\n\r\n";
        for size in 1..head.len() {
            let mut overlong = Overlong::new();
            let portions: Vec<bool> = head.chunks(size).map(|portion| overlong.skip(portion)).collect();
            assert_eq!(
                portions.iter().position(|over| *over),
                Some(portions.len() - 1),
                "{size}"
            );
        }
        let mut overlong = Overlong::new();
        let portion = vec![b'a'; 1 << 20];
        assert_eq!(
            [(); 4].map(|()| overlong.skip(&portion)),
            [false, false, false, true]
        );
    }
}
