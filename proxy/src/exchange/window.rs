//! The body window: the part of a request body in memory, which all legs send from.
//!
//! It holds the body itself, free of framing. Every leg has a [`Cursor`] into it, and frames what it sends as its connection wants
//! it ([`Coding`]). Reading from the client stops while the window is full; pieces that every live leg has sent are dropped only
//! when room is needed, so that an attempt can begin again while the whole body fits. A body that may have to be redelivered is
//! [kept](Window::keep) beyond that: pieces that all legs have sent then take no room.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Bytes, BytesMut};

use super::spare::SPARE_LIST_ENTRIES;
use crate::http::chunked::{self, ChunkHead};

/// The least cost of a piece in bytes, which is the overhead of keeping it.
pub const MIN_PIECE_COST: usize = 256;

/// The longest piece that is copied if it would pin a much larger read buffer.
const MAX_SMALL_PIECE: usize = 4 * 1024;

/// The part of a request body that is in memory.
#[derive(Debug, Default)]
pub struct Window {
    pieces: VecDeque<WindowPiece>,
    /// The number of pieces dropped before the first.
    base: u64,
    cost: usize,
    limit: usize,
    finished: bool,
    /// The lines of the trailers, once the body is complete.
    trailers: Bytes,
    /// Bytes of body that came in, framing not counted.
    received: u64,
    /// The number of last pieces that may be parts of read buffers.
    loose: usize,
    /// The longest body that is kept whole; `None` if data that all legs have passed may be freed.
    keep: Option<u64>,
    /// How many bytes beyond its limit may arrive before the legs begin.
    extra: usize,
    /// The number of first pieces that are kept although all legs have passed them, and their cost.
    passed: usize,
    passed_cost: usize,
}

#[derive(Debug)]
struct WindowPiece {
    /// The chunk line in front of it, for chunked coding.
    head: ChunkHead,
    data: Bytes,
}

/// The framing of a leg's request body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// Unframed: the head has its length, or HTTP/2 frames carry it.
    #[default]
    Identity,
    /// The chunked coding of HTTP/1.1: a chunk for each piece, and one that says where the body ends.
    Chunked,
}

/// The position of a leg: a piece, and an offset into the bytes that are sent for it. After the last piece the offset counts the
/// bytes of the last chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    piece: u64,
    offset: usize,
}

impl WindowPiece {
    /// The bytes that are sent for this piece, in order.
    fn parts(&self, coding: Coding) -> [&[u8]; 3] {
        match coding {
            Coding::Identity => [b"", &self.data, b""],
            Coding::Chunked => [self.head.as_bytes(), &self.data, b"\r\n"],
        }
    }

    fn sent_len(&self, coding: Coding) -> usize {
        self.parts(coding).iter().map(|part| part.len()).sum()
    }

    fn cost(&self) -> usize {
        self.data.len().max(MIN_PIECE_COST)
    }
}

impl Window {
    /// Resets it to an empty window of `limit` bytes, reusing its memory.
    pub fn reset(&mut self, limit: usize) {
        self.clear();
        (self.base, self.cost, self.received, self.loose) = (0, 0, 0, 0);
        (self.limit, self.finished) = (limit, false);
        (self.keep, self.extra, self.passed, self.passed_cost) = (None, 0, 0, 0);
    }

    /// Keeps the whole body, unless it turns out to be longer than this, or to cost much more in small pieces.
    pub fn keep(&mut self, longest: u64) {
        self.keep = Some(longest);
    }

    /// Makes room for a complete body that is kept, before the legs begin.
    pub fn widen(&mut self) {
        self.extra = self.keep.map_or(0, |longest| usize::try_from(longest).unwrap_or(usize::MAX));
    }

    /// Frees data that all legs have passed from now on.
    pub fn keep_no_longer(&mut self) {
        (self.keep, self.extra, self.passed, self.passed_cost) = (None, 0, 0, 0);
    }

    /// Whether the body is kept, as far as it has come in.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.keep.is_some()
    }

    /// Clears it, but keeps reusable memory.
    pub fn clear(&mut self) {
        if !self.pieces.is_empty() {
            self.pieces.clear();
        }
        self.trailers.clear();
        if self.pieces.capacity() > SPARE_LIST_ENTRIES {
            self.pieces.shrink_to(SPARE_LIST_ENTRIES);
        }
    }

    /// Appends a piece of the body, which must not be empty.
    pub fn push(&mut self, data: Bytes) {
        self.received += data.len() as u64;
        self.loose += 1;
        self.append(data);
        if let Some(longest) = self.keep {
            let most = usize::try_from(longest).unwrap_or(usize::MAX).saturating_add(self.limit);
            if self.received > longest || self.cost > most {
                self.keep_no_longer();
            }
        }
    }

    fn append(&mut self, data: Bytes) {
        let piece = WindowPiece { head: ChunkHead::of(data.len()), data };
        self.cost += piece.cost();
        self.pieces.push_back(piece);
    }

    /// Merges the small pieces at the end, so that their cost is their size. To be called only while no leg has a cursor into the
    /// window and the body is not complete.
    pub fn compact(&mut self) {
        if std::mem::take(&mut self.loose) == 0 {
            return;
        }
        let from = self.pieces.iter().rposition(|piece| piece.data.len() >= MAX_SMALL_PIECE).map_or(0, |last| last + 1);
        let small = self.pieces.range(from..);
        let mut together = BytesMut::with_capacity(small.map(|piece| piece.data.len()).sum());
        for piece in self.pieces.drain(from..) {
            self.cost -= piece.cost();
            together.extend_from_slice(&piece.data);
        }
        while !together.is_empty() {
            let piece = together.split_to(together.len().min(MAX_SMALL_PIECE));
            self.append(piece.freeze());
        }
    }

    /// Copies small last pieces out of their read buffers: a client that sends a few bytes at a time would otherwise pin a whole
    /// buffer with each of them.
    pub fn unpin(&mut self) {
        let last = self.pieces.len().saturating_sub(std::mem::take(&mut self.loose));
        for piece in self.pieces.range_mut(last..).filter(|piece| piece.data.len() < MAX_SMALL_PIECE) {
            piece.data = Bytes::copy_from_slice(&piece.data);
        }
    }

    /// Marks the body as complete. Only from here on can copies look complete to an endpoint.
    pub fn finish(&mut self) {
        self.finish_with(Bytes::new());
    }

    /// The same, with the lines of its trailers, which go to endpoints that speak HTTP/2.
    pub fn finish_with(&mut self, trailers: Bytes) {
        self.trailers = trailers;
        self.finished = true;
    }

    /// The lines of the trailers.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Whether the whole body has come in.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether another piece may be read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.ahead() < self.limit.saturating_add(self.extra)
    }

    /// The cost of the data that some leg has yet to pass, as far as it is known.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.cost - self.passed_cost
    }

    /// Whether it has no pieces.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Its cost in bytes.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Bytes of body that came in so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether a leg may begin again from the start of the body.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.base == 0
    }

    /// A copy of the whole body, if none of it was dropped.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        if !self.finished || !self.is_replayable() {
            return None;
        }
        if let (Some(only), 1) = (self.pieces.front(), self.pieces.len()) {
            // A copy, because a piece may be a small part of a large buffer.
            return Some(Bytes::copy_from_slice(&only.data));
        }
        let mut whole = BytesMut::with_capacity(self.pieces.iter().map(|piece| piece.data.len()).sum());
        self.pieces.iter().for_each(|piece| whole.extend_from_slice(&piece.data));
        Some(whole.freeze())
    }

    /// Drops pieces that the slowest live leg has sent.
    pub fn trim(&mut self, slowest: Cursor) {
        if self.is_kept() {
            return self.note_passed(slowest);
        }
        while self.base < slowest.piece {
            let Some(piece) = self.pieces.pop_front() else { break };
            self.cost -= piece.cost();
            self.base += 1;
        }
    }

    /// Records the position of the slowest live leg, which goes back if a leg begins again.
    fn note_passed(&mut self, slowest: Cursor) {
        let passed = self.place(slowest).min(self.pieces.len());
        let cost = |pieces: std::ops::Range<usize>| self.pieces.range(pieces).map(WindowPiece::cost).sum::<usize>();
        if passed >= self.passed {
            self.passed_cost += cost(self.passed..passed);
        } else {
            self.passed_cost -= cost(passed..self.passed);
        }
        self.passed = passed;
    }

    /// Drops all pieces, because no leg needs them.
    pub fn trim_all(&mut self) {
        self.trim(Cursor { piece: u64::MAX, offset: 0 });
    }

    /// Whether a leg has sent everything so far, including the end of a complete body.
    #[must_use]
    pub fn is_passed(&self, cursor: Cursor, coding: Coding) -> bool {
        cursor.piece >= self.end() && cursor.offset >= self.last(coding).len()
    }

    /// Fills `slices` from `used` on with the next bytes of a leg. Returns how many are filled.
    pub fn fill<'a>(&'a self, cursor: Cursor, coding: Coding, slices: &mut [IoSlice<'a>], mut used: usize) -> usize {
        let mut skip = cursor.offset;
        let parts = self.pieces.iter().skip(self.place(cursor)).flat_map(|piece| piece.parts(coding));
        for part in parts.chain([self.last(coding)]) {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let part = &part[skipped..];
            if part.is_empty() {
                continue;
            }
            let Some(slot) = slices.get_mut(used) else { return used };
            *slot = IoSlice::new(part);
            used += 1;
        }
        used
    }

    /// The rest of the current piece, for a leg without framing.
    #[must_use]
    pub fn piece(&self, cursor: Cursor) -> Option<Bytes> {
        let piece = self.pieces.get(self.place(cursor))?;
        Some(piece.data.slice(cursor.offset..))
    }

    /// Moves a cursor over bytes that were sent.
    pub fn advance(&self, cursor: &mut Cursor, coding: Coding, mut sent: usize) {
        for piece in self.pieces.iter().skip(self.place(*cursor)) {
            let left = piece.sent_len(coding) - cursor.offset;
            if sent < left {
                break;
            }
            sent -= left;
            *cursor = Cursor { piece: cursor.piece + 1, offset: 0 };
        }
        cursor.offset += sent;
    }

    /// The index of a cursor's piece.
    fn place(&self, cursor: Cursor) -> usize {
        usize::try_from(cursor.piece.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    /// The total number of pieces so far.
    fn end(&self) -> u64 {
        self.base + self.pieces.len() as u64
    }

    /// The bytes that are sent after the last piece.
    fn last(&self, coding: Coding) -> &'static [u8] {
        if self.finished && coding == Coding::Chunked { chunked::LAST_CHUNK } else { b"" }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a leg that writes `step` bytes at a time has written when nothing is left.
    fn drain(window: &Window, cursor: &mut Cursor, coding: Coding, step: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        while !window.is_passed(*cursor, coding) {
            let mut slices = [IoSlice::new(b""); 4];
            let used = window.fill(*cursor, coding, &mut slices, 0);
            let bytes: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).take(step).collect();
            assert!(!bytes.is_empty());
            window.advance(cursor, coding, bytes.len());
            wire.extend(bytes);
        }
        wire
    }

    fn window(limit: usize) -> Window {
        let mut window = Window::default();
        window.reset(limit);
        window
    }

    #[test]
    fn a_known_length_passes_as_it_is_and_an_unknown_one_in_chunks() {
        let chunks = "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";
        for (coding, want) in [(Coding::Identity, "helloworld"), (Coding::Chunked, chunks)] {
            let mut window = window(1 << 20);
            window.push(Bytes::from_static(b"hello"));
            let mut cursor = Cursor::default();
            let before = drain(&window, &mut cursor, coding, 3);
            assert!(!before.ends_with(chunked::LAST_CHUNK), "not complete before it is");
            window.push(Bytes::from_static(b"world"));
            window.finish();
            let all = [before, drain(&window, &mut cursor, coding, 3)].concat();
            assert_eq!(String::from_utf8(all).unwrap(), want);
        }
    }

    #[test]
    fn a_small_piece_counts_as_256_bytes() {
        let mut window = window(1024);
        for _ in 0..3 {
            window.push(Bytes::from_static(b"x"));
        }
        assert!(window.has_room());
        window.push(Bytes::from_static(b"x"));
        assert!(!window.has_room() && window.cost() == 1024);
    }

    #[test]
    fn the_slowest_leg_holds_the_window_until_it_moves() {
        let mut window = window(2000);
        window.push(Bytes::from(vec![1; 1000]));
        window.push(Bytes::from(vec![2; 1000]));
        assert!(!window.has_room());
        let mut cursor = Cursor::default();
        window.advance(&mut cursor, Coding::Identity, 999);
        window.trim(cursor);
        assert!(!window.has_room() && window.is_replayable());
        window.advance(&mut cursor, Coding::Identity, 1);
        window.trim(cursor);
        assert!(window.has_room() && !window.is_replayable());
    }

    #[test]
    fn small_pieces_put_together_cost_what_they_hold_and_are_the_same_bytes() {
        for coding in [Coding::Identity, Coding::Chunked] {
            let mut window = window(64 << 10);
            let mut body = Vec::new();
            let mut put = |window: &mut Window, length: usize, byte| {
                window.push(Bytes::from(vec![byte; length]));
                body.extend(vec![byte; length]);
            };
            put(&mut window, 5000, 1);
            for n in 0..3000 {
                put(&mut window, 3, (n % 251) as u8);
                if n % 7 == 0 {
                    window.compact();
                }
            }
            window.compact();
            assert!(window.cost() <= body.len() + MIN_PIECE_COST, "{} for {}", window.cost(), body.len());
            assert_eq!(window.received(), body.len() as u64);
            window.finish();
            let wire = drain(&window, &mut Cursor::default(), coding, 1000);
            if coding == Coding::Chunked {
                let mut decoded = Vec::new();
                let (mut decoder, mut buffer) = (chunked::Decoder::default(), BytesMut::from(&wire[..]));
                while let chunked::Decoded::Data(data) = decoder.decode(&mut buffer).unwrap() {
                    decoded.extend_from_slice(&data);
                }
                assert_eq!(decoded, body);
            } else {
                assert_eq!(wire, body);
            }
            window.trim_all();
            assert_eq!(window.cost(), 0);
        }
    }

    #[test]
    fn a_small_piece_does_not_keep_the_buffer_that_it_was_read_into() {
        for compact in [true, false] {
            let mut window = window(1 << 20);
            let mut buffer = BytesMut::with_capacity(1 << 16);
            let place = buffer.as_ptr();
            buffer.extend_from_slice(b"ab");
            window.push(buffer.split_to(1).freeze());
            window.push(buffer.split_to(1).freeze());
            if compact {
                window.compact();
            } else {
                window.unpin();
            }
            buffer.reserve(1 << 16);
            assert_eq!(buffer.as_ptr(), place, "nobody else has a part of it");
            assert_eq!(drain(&window, &mut Cursor::default(), Coding::Identity, 9), b"ab");
        }
    }

    #[test]
    fn kept_data_need_no_room_in_the_window_up_to_the_limit() {
        let mut window = window(1_000);
        window.keep(3_000);
        let mut cursor = Cursor::default();
        let mut pass = |window: &mut Window| {
            drain(window, &mut cursor, Coding::Identity, usize::MAX);
            window.trim(cursor);
            cursor
        };
        for _ in 0..3 {
            assert!(window.has_room());
            window.push(vec![1; 1_000].into());
            assert!(!window.has_room(), "nobody has passed it");
            pass(&mut window);
        }
        assert!(window.has_room() && window.is_kept() && window.cost() == 3_000);
        window.trim(Cursor::default());
        assert_eq!((window.has_room(), window.ahead()), (false, 3_000), "one begins again");
        pass(&mut window);
        window.push(Bytes::from_static(b"x"));
        assert!(!window.is_kept() && !window.has_room() && window.is_replayable());
        pass(&mut window);
        assert!(window.is_empty() && window.has_room() && window.whole().is_none());
    }

    #[test]
    fn a_body_that_is_kept_is_there_as_a_whole() {
        let mut window = window(300);
        window.keep(1_000);
        for piece in ["a", "bc", "d"] {
            window.push(piece.into());
            window.trim_all();
        }
        assert_eq!(window.whole(), None, "it may go on");
        window.finish();
        assert_eq!(window.whole().unwrap(), "abcd");
        let mut pieces = 0;
        while window.is_kept() {
            window.push("x".into());
            pieces += 1;
        }
        assert_eq!(pieces, 3, "pieces of one byte cost more than they hold");
    }

    proptest! {
        #[test]
        fn every_leg_sends_the_whole_body_whatever_its_pace_and_its_framing(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 1..20),
            legs in prop::collection::vec((1..40_usize, any::<bool>()), 1..5),
        ) {
            let coding = |leg: usize| if legs[leg].1 { Coding::Chunked } else { Coding::Identity };
            let mut window = window(usize::MAX);
            let mut cursors = vec![Cursor::default(); legs.len()];
            let mut wires = vec![Vec::new(); legs.len()];
            for (i, piece) in pieces.iter().enumerate() {
                window.push(Bytes::copy_from_slice(piece));
                // Legs take turns in catching up, and what all have passed is let go.
                let leg = i % legs.len();
                let wire = drain(&window, &mut cursors[leg], coding(leg), legs[leg].0);
                wires[leg].extend(wire);
                window.trim(*cursors.iter().min().unwrap());
            }
            window.finish();
            for leg in 0..legs.len() {
                let wire = drain(&window, &mut cursors[leg], coding(leg), legs[leg].0);
                wires[leg].extend(wire);
                let chunks = || pieces.iter().flat_map(|p| [format!("{:x}\r\n", p.len()).into_bytes(), p.clone(), b"\r\n".to_vec()]);
                let want = match coding(leg) {
                    Coding::Identity => pieces.concat(),
                    Coding::Chunked => chunks().chain([chunked::LAST_CHUNK.to_vec()]).collect::<Vec<_>>().concat(),
                };
                prop_assert_eq!(&wires[leg], &want);
            }
            window.trim(*cursors.iter().min().unwrap());
            prop_assert!(window.is_empty() && window.cost() == 0);
        }
    }
}
