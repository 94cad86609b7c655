//! HTTP/2 frames, followed only as far as their lengths and types: counts those that cost a client nothing.
//!
//! The h2 crate bounds streams, header blocks and resets of streams not yet accepted, but takes SETTINGS and PING
//! frames as long as they come, and resets too if each stream was accepted first. Here they are counted, with the
//! other frames that no honest client sends in numbers, and the connection ends when they come faster than
//! `Allowance` has room for. Flow control and header blocks are left to h2.

use tokio::time::Instant;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(crate) struct Follower {
    /// What is left of the client's preface (RFC 9113 section 3.4).
    preface: usize,
    header: [u8; HEADER],
    /// How much of the header is here.
    filled: usize,
    /// What is left of the payload.
    payload: usize,
}

const PREFACE: usize = 24;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// END_STREAM on DATA, ACK on SETTINGS and PING.
const FLAG: u8 = 1;

impl Follower {
    pub(crate) fn new() -> Follower {
        Follower {
            preface: PREFACE,
            header: [0; HEADER],
            filled: 0,
            payload: 0,
        }
    }

    /// Whether the client has not even sent its preface.
    pub(crate) fn in_preface(&self) -> bool {
        self.preface > 0
    }

    /// Reads the next portion and says how many idle frames begin in it.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> u32 {
        let mut idle = 0;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.preface > 0 {
                rest = skip(rest, &mut self.preface);
            } else if self.payload > 0 {
                rest = skip(rest, &mut self.payload);
            } else {
                rest = self.fill(rest);
                if self.filled == HEADER {
                    self.filled = 0;
                    idle += u32::from(self.begin());
                }
            }
        }
        idle
    }

    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = self.header.get_mut(self.filled..).unwrap_or_default();
        let count = room.len().min(bytes.len());
        let (now, later) = bytes.split_at(count);
        for (place, byte) in room.iter_mut().zip(now) {
            *place = *byte;
        }
        self.filled += count;
        later
    }

    /// Begins a frame; true if it is an idle one.
    fn begin(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.payload = u32::from_be_bytes([0, high, middle, low]) as usize;
        match kind {
            DATA => self.payload == 0 && flags & FLAG == 0,
            HEADERS | WINDOW_UPDATE | CONTINUATION => false,
            PRIORITY | RST_STREAM => true,
            // SETTINGS, PING and what nobody knows; their acknowledgements answer us.
            _ => flags & FLAG == 0,
        }
    }
}

fn skip<'a>(bytes: &'a [u8], left: &mut usize) -> &'a [u8] {
    let count = bytes.len().min(*left);
    *left -= count;
    bytes.get(count..).unwrap_or_default()
}

/// How many idle frames a client may send: a burst, and a rate that refills it.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: f64,
    filled: Instant,
}

/// Idle frames at once. Real clients send a handful, and reset at most the streams that they may have open.
const BURST: f64 = 2_000.0;
/// Idle frames a second in the long run. Clients that probe the bandwidth with PINGs send about ten.
const RATE: f64 = 200.0;

impl Allowance {
    pub(crate) fn full(now: Instant) -> Allowance {
        Allowance {
            left: BURST,
            filled: now,
        }
    }

    /// Takes so many from what is left; false if there is too little.
    pub(crate) fn take(&mut self, count: u32, now: Instant) -> bool {
        let refill = now.duration_since(self.filled).as_secs_f64() * RATE;
        self.left = (self.left + refill).min(BURST) - f64::from(count);
        self.filled = now;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_that_cost_nothing_are_counted_however_they_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, &[0; 12]));
        bytes.extend(frame(4, 1, b""));
        bytes.extend(frame(HEADERS, 4, &[6; 40]));
        bytes.extend(frame(6, 0, &[6; 8]));
        bytes.extend(frame(6, 1, &[6; 8]));
        bytes.extend(frame(DATA, 0, b"body"));
        bytes.extend(frame(DATA, 0, b""));
        bytes.extend(frame(DATA, 1, b""));
        bytes.extend(frame(WINDOW_UPDATE, 0, &[0; 4]));
        bytes.extend(frame(PRIORITY, 0, &[0; 5]));
        bytes.extend(frame(RST_STREAM, 0, &[0; 4]));
        bytes.extend(frame(77, 0, b"?"));
        for size in 1..=bytes.len() {
            let mut follower = Follower::new();
            let idle: u32 = bytes.chunks(size).map(|part| follower.follow(part)).sum();
            assert_eq!(idle, 6, "in portions of {size}");
            assert!(!follower.in_preface());
        }
    }

    #[test]
    fn an_allowance_ends_and_comes_back() {
        let start = Instant::now();
        let mut allowance = Allowance::full(start);
        assert!(allowance.take(2_000, start));
        assert!(allowance.take(200, start + Duration::from_secs(1)));
        assert!(!allowance.take(10, start + Duration::from_secs(1)));
        assert!(allowance.take(2_000, start + Duration::from_secs(3_600)));
    }
}
