//! The body window: the part of a request body in memory, which all legs send from.
//!
//! It holds the body itself, free of framing. Every leg has a [`Cursor`] into it, and frames what it sends as its connection wants
//! it ([`Coding`]). Reading from the client stops while the window is full; pieces that every live leg has sent are dropped only
//! when room is needed, so that an attempt can begin again while the whole body fits. A body that may have to be redelivered is
//! [kept](Window::keep) beyond that: pieces that all legs have sent then take no room.

use std::{collections::VecDeque, hint::cold_path, io::IoSlice};

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
            cold_path();
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
mod tests;
