//! Remembers the response head that came last: endpoints that get copies of a request mostly give the same answer, and the same
//! bytes need not be parsed again.

use bytes::Bytes;

use super::{Bounds, response::ResponseHead};

/// The longest head that is remembered, in bytes.
const MAX_BYTES: usize = 1024;

/// Where this many heads in a row were different ones, only each of so many is remembered: they may all differ.
const MAX_LEARNED_IN_A_ROW: u32 = 4;
const LEARNED_AFTER: u32 = 16;

/// A head that was parsed and checked, and its bytes.
#[derive(Debug, Default)]
pub struct LastHead {
    bytes: Vec<u8>,
    /// What they say, without the bytes.
    head: ResponseHead,
    /// The bounds that it was checked against.
    bounds: Bounds,
    /// How many other heads have come since it was last repeated.
    misses: u32,
}

// === impl LastHead ===

impl LastHead {
    /// The length of the head if the buffer begins with it. Whatever follows, a parser would find the same head there, because
    /// it reads no further than the empty line at its end.
    pub(super) fn is_at_front(&mut self, buffer: &[u8], bounds: &Bounds) -> Option<usize> {
        if self.bytes.is_empty() || !buffer.starts_with(&self.bytes) || self.bounds != *bounds {
            return None;
        }
        self.misses = 0;
        Some(self.bytes.len())
    }

    pub(super) fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Remembers this head, unless it is unusually long.
    pub(super) fn learn(&mut self, head: &ResponseHead, bounds: &Bounds) {
        self.misses = self.misses.wrapping_add(1);
        if self.misses > MAX_LEARNED_IN_A_ROW && !self.misses.is_multiple_of(LEARNED_AFTER) {
            return;
        }
        let bytes = head.fields.bytes();
        self.bytes.clear();
        if bytes.len() <= MAX_BYTES {
            self.bytes.extend_from_slice(bytes);
            self.head.become_same(head, Bytes::new());
            self.bounds = *bounds;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { first_line: 99, bytes: 2048, fields: 9 };

    /// What a head that remembers `last` makes of the input, and what it leaves of it.
    fn taken(input: &[u8], bounds: &Bounds, last: &mut LastHead) -> (String, BytesMut) {
        let (mut buffer, mut head) = (BytesMut::from(input), ResponseHead::default());
        let taken = head.take(&mut buffer, bounds, last).map(|taken| taken.map(|()| head));
        (format!("{taken:?}"), buffer)
    }

    fn taken_alone(input: &[u8], bounds: &Bounds) -> (String, BytesMut) {
        taken(input, bounds, &mut LastHead::default())
    }

    #[test]
    fn the_same_bytes_are_the_same_head_and_other_bytes_are_not() {
        let mut last = LastHead::default();
        let same = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc".as_slice();
        for (input, repeats) in [
            (same, false),
            (same, true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nHTTP/1.1 5".as_slice(), true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n", false),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\nX: y\r\n\r\nabc", false),
            (same, false),
        ] {
            assert_eq!(last.is_at_front(input, &BOUNDS).is_some(), repeats, "{}", input.escape_ascii());
            assert_eq!(taken(input, &BOUNDS, &mut last), taken_alone(input, &BOUNDS));
        }
        let narrow = Bounds { fields: 1, ..BOUNDS };
        assert_eq!(taken(same, &narrow, &mut last), taken_alone(same, &narrow), "other bounds");
    }

    #[test]
    fn a_long_head_is_not_remembered() {
        let mut last = LastHead::default();
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_BYTES));
        taken(long.as_bytes(), &BOUNDS, &mut last);
        assert!(last.is_at_front(long.as_bytes(), &BOUNDS).is_none() && last.bytes.capacity() == 0);
    }

    #[test]
    fn heads_that_all_differ_are_rarely_remembered() {
        let mut last = LastHead::default();
        let head = |number: usize| format!("HTTP/1.1 200 OK\r\nX: {number}\r\n\r\n");
        let learned = (0..160).filter(|number| {
            let text = head(*number);
            assert_eq!(taken(text.as_bytes(), &BOUNDS, &mut last), taken_alone(text.as_bytes(), &BOUNDS));
            last.bytes == text.as_bytes()
        });
        assert_eq!(learned.count(), 4 + 10);
        let text = head(159);
        assert!(last.is_at_front(text.as_bytes(), &BOUNDS).is_some() && last.misses == 0);
    }

    proptest! {
        /// Whatever came before: a head means what it means alone.
        #[test]
        fn what_came_before_changes_nothing(
            heads in prop::collection::vec("HTTP/1\\.[01] (200|204|099)( OK)?\r\n((Content-Length: [0-9]|Connection: close|Transfer-Encoding: chunked|A:b ?)\r?\n){0,2}\r\n(HT)?", 2..6),
        ) {
            let mut last = LastHead::default();
            for head in heads.iter().chain(&heads) {
                prop_assert_eq!(taken(head.as_bytes(), &BOUNDS, &mut last), taken_alone(head.as_bytes(), &BOUNDS));
            }
        }
    }
}
