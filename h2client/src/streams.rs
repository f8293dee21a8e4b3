//! The streams of a connection, by number and by place, and those that were reset while the peer may still send on them.

use std::collections::VecDeque;

use crate::frame::MAX_31_BITS;

/// The place of a stream, until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u32);

impl Key {
    /// As an index: places are small numbers that are used again.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How much of a response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Its head is still to come.
    Head,
    /// Its head has come.
    Body,
    /// It is complete, or cut.
    Over,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// Whether more may be sent.
    pub(crate) is_sending: bool,
    pub(crate) receiving: Receiving,
    /// Whether it was reset, by either side.
    pub(crate) is_reset: bool,
    /// Whether the request is a HEAD.
    pub(crate) to_head: bool,
    /// Bytes of the body that are still to come, where the head said how many there are.
    pub(crate) expected: Option<u64>,
    /// Bytes that may be sent.
    pub(crate) send_window: i64,
    /// Bytes of the connection's window that are set aside for it.
    pub(crate) granted: i64,
    /// Whether it waits for some of those, and how many it has asked for.
    pub(crate) wanted: i64,
    /// Whether whoever sends waits for room.
    pub(crate) is_blocked: bool,
    /// Bytes of data that wait to be sent.
    pub(crate) queued: usize,
    /// Bytes that the peer may send.
    pub(crate) receive_window: i64,
    /// Bytes that were taken and have not been given back to it.
    pub(crate) uncredited: u32,
    /// Where the head of its request ends, among all bytes of the connection.
    pub(crate) head_end: u64,
}

/// A stream that was reset here. The peer may not know yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remains {
    id: u32,
    /// Bytes that it may still send: it gets no more credit.
    pub(crate) receive_window: i64,
    /// Blocks of fields that it may still send.
    pub(crate) blocks: u8,
}

/// What is known of the stream with a number.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// It is there.
    There(Key, &'a mut Stream),
    /// It was reset here.
    Reset(&'a mut Remains),
    /// It has ended.
    Ended,
    /// Nobody has opened it.
    Idle,
}

/// So many streams that were reset here are remembered. A peer that still sends on an older one has had the time of a thousand
/// requests to learn of its end.
const MAX_REMAINS: usize = 1_024;

/// Blocks of fields that may come on a stream after it was reset here.
const LATE_BLOCKS: u8 = 16;

/// All streams of a connection.
#[derive(Debug)]
pub(crate) struct Streams {
    places: Vec<Option<Stream>>,
    free: Vec<Key>,
    /// Numbers and places, in the order of the numbers.
    by_id: Vec<(u32, Key)>,
    /// The place that was found last: frames of one stream often come behind each other.
    found: Key,
    next_id: u32,
    /// Streams that have not ended.
    open: usize,
    /// In the order of their numbers.
    remains: VecDeque<Remains>,
}

impl Stream {
    /// Whether both sides are done with it.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_sending && self.receiving == Receiving::Over
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_id: Vec::new(),
            found: Key(0),
            next_id: 1,
            open: 0,
            remains: VecDeque::new(),
        }
    }
}

impl Streams {
    /// Opens the next stream; none where all numbers are used up.
    pub(crate) fn open(&mut self, is_sending: bool, to_head: bool, windows: (i64, i64)) -> Option<Key> {
        let id = self.next_id;
        if id > MAX_31_BITS {
            return None;
        }
        self.next_id += 2;
        let stream = Stream {
            id,
            is_sending,
            receiving: Receiving::Head,
            is_reset: false,
            to_head,
            expected: None,
            send_window: windows.0,
            granted: 0,
            wanted: 0,
            is_blocked: false,
            queued: 0,
            receive_window: windows.1,
            uncredited: 0,
            head_end: 0,
        };
        let key = match self.free.pop() {
            Some(key) => key,
            None => {
                self.places.push(None);
                Key(self.places.len() as u32 - 1)
            }
        };
        self.places[key.index()] = Some(stream);
        self.by_id.push((id, key));
        self.open += 1;
        Some(key)
    }

    /// Whether numbers are left.
    pub(crate) fn has_ids(&self) -> bool {
        self.next_id <= MAX_31_BITS
    }

    /// Streams that have not ended.
    pub(crate) fn open_count(&self) -> usize {
        self.open
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Stream> {
        self.places.get(key.index())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        self.places.get_mut(key.index())?.as_mut()
    }

    /// The stream with this number.
    pub(crate) fn find(&mut self, id: u32) -> Found<'_> {
        if id.is_multiple_of(2) || id >= self.next_id {
            return Found::Idle;
        }
        let key = match self.get(self.found) {
            Some(stream) if stream.id == id => Some(self.found),
            _ => self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok().map(|place| self.by_id[place].1),
        };
        if let Some(key) = key.filter(|key| self.get(*key).is_some_and(|stream| !stream.is_reset)) {
            self.found = key;
            return match self.get_mut(key) {
                Some(stream) => Found::There(key, stream),
                None => Found::Ended,
            };
        }
        self.remains_of(id)
    }

    fn remains_of(&mut self, id: u32) -> Found<'_> {
        match self.remains.iter().position(|remains| remains.id == id) {
            Some(place) => Found::Reset(&mut self.remains[place]),
            None => Found::Ended,
        }
    }

    /// Ends what is left of a stream; `by_us` says that the peer may not know yet.
    pub(crate) fn reset(&mut self, key: Key, by_us: bool) {
        let Some(stream) = self.get_mut(key) else { return };
        let was_open = !stream.is_over();
        (stream.is_sending, stream.receiving, stream.is_reset) = (false, Receiving::Over, true);
        let remains = Remains { id: stream.id, receive_window: stream.receive_window, blocks: LATE_BLOCKS };
        self.open -= usize::from(was_open);
        if by_us {
            if self.remains.len() == MAX_REMAINS {
                self.remains.pop_front();
            }
            self.remains.push_back(remains);
        }
    }

    /// One side is done with it; call it once for each.
    pub(crate) fn ended(&mut self, key: Key) {
        if self.get(key).is_some_and(|stream| stream.is_over() && !stream.is_reset) {
            self.open -= 1;
        }
    }

    /// Forgets a stream that has ended.
    pub(crate) fn remove(&mut self, key: Key) {
        let Some(id) = self.get(key).map(|stream| stream.id) else { return };
        if let Ok(place) = self.by_id.binary_search_by_key(&id, |(id, _)| *id) {
            self.by_id.remove(place);
        }
        self.places[key.index()] = None;
        self.free.push(key);
    }

    /// All that are there.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Stream)> {
        let there = self.places.iter_mut().enumerate();
        there.filter_map(|(place, stream)| Some((Key(place as u32), stream.as_mut()?)))
    }

    /// The places of all that are there.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (u32, Key)> + '_ {
        self.by_id.iter().copied()
    }
}
