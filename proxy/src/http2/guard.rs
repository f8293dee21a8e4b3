//! Watches the frames that a peer sends, as they are read, for what costs the peer nothing and this process much: frames
//! that move nothing (CVE-2019-9512 to 9518), streams that are reset as soon as they are open (CVE-2023-44487), and
//! header blocks that do not end (CVE-2024-27316).
//!
//! Nothing is decoded: a frame says its length, type, flags and stream in nine bytes. No I/O and no clock in here.

use access::token_bucket::{TokenBucket, nanoseconds};
use tokio::time::Instant;

/// Bytes before the payload of every frame (RFC 9113 section 4.1).
const HEADER: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// So many frames may come at once that are one too many, and so many more each second. An honest peer resets a stream now
/// and then, and updates windows as often as it takes data.
const FRAMES: TokenBucket = TokenBucket::per_second(20, 200);

/// The same for frames of windows, pings and priorities, of which more come before anything else.
const CONTROL_FRAMES: TokenBucket = TokenBucket::per_second(20, 1_000);

/// Frames of windows, pings and priorities that each frame of headers or data is worth, as no honest peer needs more of them.
const WORTH: u32 = 8;

/// Bytes written to an endpoint that are worth one control frame of it: it has to give credit for what it takes, and answers
/// nothing else to a long upload. What is written in answer to its own frames is worth less than these have cost it.
const WRITTEN_WORTH: usize = 32;

/// Frames into which one header block may be cut.
const MAX_CONTINUATIONS: u32 = 8;

/// What a peer is doing that it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Abuse {
    /// It opens streams only to reset them.
    #[error("it resets streams as fast as it opens them")]
    Resets,
    /// The same, as seen over all connections of its address.
    #[error("its address resets streams on many connections")]
    AddressResets,
    /// The first frame of an endpoint is no SETTINGS (RFC 9113 section 3.4).
    #[error("it does not speak HTTP/2")]
    OtherProtocol,
    /// Many frames of DATA with nothing in them.
    #[error("it sends empty frames")]
    Empty,
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE and unknown ones, out of proportion to requests and data.
    #[error("it sends control frames out of proportion")]
    Control,
    /// A header block in many frames.
    #[error("it cuts a header block into many frames")]
    Continuation,
}

/// An allowance of frames, which is used up and comes back with time.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    bucket: TokenBucket,
    /// When it will be full.
    full_at: u64,
}

/// Whose frames are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Client,
    Endpoint,
}

/// Follows the frames of one connection.
#[derive(Debug)]
pub struct FrameGuard {
    peer: Peer,
    /// Bytes of the preface that are still to come.
    preface: usize,
    header: [u8; HEADER],
    /// How much of that has come.
    has: usize,
    /// Bytes of payload that are still to come.
    payload: usize,
    resets: Allowance,
    /// Resets that have come since they were last asked for.
    new_resets: u32,
    empty: Allowance,
    control: Allowance,
    continuations: u32,
    /// Since when a header block is not complete.
    block: Option<Instant>,
    /// When the first frame came.
    began: Option<Instant>,
    /// Bytes that were written and have not been worth anything yet.
    written: usize,
}

// === impl Allowance ===

impl Allowance {
    fn new(bucket: TokenBucket) -> Self {
        Self { bucket, full_at: 0 }
    }

    /// Takes one frame; false where none is left.
    fn take(&mut self, now: u64) -> bool {
        self.bucket.take(self.full_at, now).map(|full_at| self.full_at = full_at).is_ok()
    }

    fn give(&mut self, frames: u32) {
        self.full_at = self.bucket.give(self.full_at, frames);
    }
}

// === impl FrameGuard ===

impl FrameGuard {
    /// The guard of a client's connection, on which `preface` bytes come before the first frame.
    #[must_use]
    pub fn new(preface: usize) -> Self {
        Self {
            peer: Peer::Client,
            preface,
            header: [0; HEADER],
            has: 0,
            payload: 0,
            resets: Allowance::new(FRAMES),
            new_resets: 0,
            empty: Allowance::new(FRAMES),
            control: Allowance::new(CONTROL_FRAMES),
            continuations: 0,
            block: None,
            began: None,
            written: 0,
        }
    }

    /// The guard of a connection to an endpoint.
    #[must_use]
    pub fn of_endpoint() -> Self {
        Self { peer: Peer::Endpoint, ..Self::new(0) }
    }

    /// So many bytes were written to the endpoint.
    pub fn sent(&mut self, bytes: usize) {
        self.written += bytes;
        self.control.give(u32::try_from(self.written / WRITTEN_WORTH).unwrap_or(u32::MAX));
        self.written %= WRITTEN_WORTH;
    }

    /// These bytes have come.
    ///
    /// # Errors
    /// [`Abuse`], where the connection is to be closed.
    pub fn see(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Abuse> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            if self.has == 0
                && let Some((header, rest)) = bytes.split_first_chunk()
            {
                // The usual case: it has come as a whole.
                self.frame(header, now)?;
                bytes = rest;
                continue;
            }
            let taken = (HEADER - self.has).min(bytes.len());
            self.header[self.has..self.has + taken].copy_from_slice(&bytes[..taken]);
            self.has += taken;
            bytes = &bytes[taken..];
            if self.has == HEADER {
                self.has = 0;
                let header = self.header;
                self.frame(&header, now)?;
            }
        }
        Ok(())
    }

    /// Since when a header block has not been complete.
    #[must_use]
    pub fn unfinished_block(&self) -> Option<Instant> {
        self.block
    }

    /// How many resets have come since this was last called.
    pub(crate) fn take_resets(&mut self) -> u32 {
        std::mem::take(&mut self.new_resets)
    }

    /// The header of a frame is complete.
    fn frame(&mut self, header: &[u8; HEADER], now: Instant) -> Result<(), Abuse> {
        let [l2, l1, l0, kind, flags, ..] = *header;
        self.payload = usize::from(l2) << 16 | usize::from(l1) << 8 | usize::from(l0);
        if self.peer == Peer::Endpoint && self.began.is_none() && kind != SETTINGS {
            return Err(Abuse::OtherProtocol);
        }
        let began = *self.began.get_or_insert(now);
        let since_began = || nanoseconds(now.saturating_duration_since(began));
        let enough = |enough: bool, abuse| if enough { Ok(()) } else { Err(abuse) };
        match kind {
            HEADERS | CONTINUATION => {
                self.continuations = if kind == HEADERS { 0 } else { self.continuations + 1 };
                self.block = if flags & END_HEADERS == 0 { self.block.or(Some(now)) } else { None };
                self.control.give(WORTH);
                enough(self.continuations <= MAX_CONTINUATIONS, Abuse::Continuation)
            }
            DATA if self.payload == 0 && flags & END_STREAM == 0 => {
                enough(self.empty.take(since_began()), Abuse::Empty)
            }
            DATA => {
                self.control.give(WORTH);
                Ok(())
            }
            // An endpoint can reset no stream that it was not given.
            RST_STREAM if self.peer == Peer::Client => {
                self.new_resets += 1;
                enough(self.resets.take(since_began()), Abuse::Resets)
            }
            _ => enough(self.control.take(since_began()), Abuse::Control),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + length];
        bytes[..3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        (bytes[3], bytes[4], bytes[8]) = (kind, flags, 1);
        bytes
    }

    /// How many such frames pass one after the other, of so many that come evenly in a second.
    fn passed(bytes: &[u8], per_second: u32) -> (u32, Option<Abuse>) {
        let (mut guard, start) = (FrameGuard::new(0), Instant::now());
        for n in 0..10_000 {
            let now = start + Duration::from_secs(1) * n / per_second;
            // However it is cut.
            let at = n as usize % bytes.len();
            let seen = guard.see(&bytes[..at], now).and_then(|()| guard.see(&bytes[at..], now));
            if let Err(abuse) = seen {
                return (n, Some(abuse));
            }
        }
        (10_000, None)
    }

    #[test]
    fn what_costs_a_peer_nothing_is_bounded_at_once_and_over_time() {
        let opened_and_reset = [frame(HEADERS, END_HEADERS | END_STREAM, 40), frame(RST_STREAM, 0, 4)].concat();
        for per_second in [1_000_000, 5_000, 200] {
            let (passed, abuse) = passed(&opened_and_reset, per_second);
            assert!(passed < 260 && abuse == Some(Abuse::Resets), "{passed} at {per_second} a second");
        }
        let pings = passed(&frame(6, 0, 8), 100_000);
        assert!(pings.0 <= 1_020 && pings.1 == Some(Abuse::Control), "{pings:?}");
        assert_eq!(passed(&frame(DATA, 0, 0), 100_000).1, Some(Abuse::Empty));
        assert_eq!(passed(&frame(CONTINUATION, 0, 10), 100_000), (8, Some(Abuse::Continuation)));
        assert_eq!(passed(&frame(77, 0, 10), 100_000).1, Some(Abuse::Control), "a frame of an unknown kind");
    }

    #[test]
    fn an_honest_peer_is_not_in_the_way() {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, 40);
        assert_eq!(passed(&request, 1_000_000), (10_000, None));
        let upload = [frame(DATA, 0, 16_384), frame(8, 0, 4), frame(8, 0, 4)].concat();
        assert_eq!(passed(&upload, 1_000_000), (10_000, None));
        assert_eq!(passed(&frame(6, 0, 8), 10), (10_000, None), "a ping every tenth of a second");
        assert_eq!(passed(&frame(RST_STREAM, 0, 4), 15), (10_000, None), "a client that gives up now and then");
    }

    #[test]
    fn an_endpoint_may_give_credit_for_what_it_gets_and_reset_what_it_does_not_want() {
        let (mut guard, now) = (FrameGuard::of_endpoint(), Instant::now());
        guard.see(&frame(SETTINGS, 0, 6), now).unwrap();
        let credit = [frame(8, 0, 4), frame(8, 0, 4)].concat();
        for _ in 0..100_000 {
            guard.sent(HEADER + 1_000);
            guard.see(&credit, now).unwrap();
        }
        for _ in 0..10_000 {
            guard.sent(100);
            guard.see(&frame(RST_STREAM, 0, 4), now).unwrap();
        }
        // A ping is answered by one as long.
        let pings = (0..10_000).take_while(|_| {
            guard.sent(HEADER + 8);
            guard.see(&frame(6, 0, 8), now).is_ok()
        });
        assert!(pings.count() < 2_200);
        let mut guard = FrameGuard::of_endpoint();
        assert_eq!(guard.see(b"HTTP/1.1 400 Bad Request\r\n", now), Err(Abuse::OtherProtocol));
    }

    #[test]
    fn a_header_block_is_timed_until_it_ends() {
        let (mut guard, start) = (FrameGuard::new(24), Instant::now());
        guard.see(&[b'x'; 24], start).unwrap();
        guard.see(&frame(HEADERS, 0, 10), start).unwrap();
        guard.see(&frame(CONTINUATION, 0, 10), start + Duration::from_secs(1)).unwrap();
        assert_eq!(guard.unfinished_block(), Some(start));
        guard.see(&frame(CONTINUATION, END_HEADERS, 10), start + Duration::from_secs(2)).unwrap();
        assert_eq!(guard.unfinished_block(), None);
    }
}
