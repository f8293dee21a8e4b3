//! Pools of read buffers, one for each thread: a connection has a buffer only while there is data in it.
//!
//! An idle connection needs no buffer. What was read last is mostly still in use when its buffer is returned: the head of a request
//! until its end, that of an answer until it is passed on. Such a buffer waits until nobody has a part of it any more. One that is
//! free is used first, because it is still in the CPU's cache.

use std::{cell::RefCell, collections::VecDeque};

use bytes::BytesMut;

/// The size of one read, in bytes: more than most heads have.
pub(crate) const READ_BUFFER_BYTES: usize = 4 * 1024;

/// The most free buffers of a thread.
const MAX_SPARE_BUFFERS: usize = 256;

/// The buffers of a thread that no connection has.
#[derive(Debug)]
struct Spare {
    free: Vec<BytesMut>,
    /// Those of which somebody had a part when they were returned, the oldest first.
    in_use: VecDeque<BytesMut>,
}

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { free: Vec::new(), in_use: VecDeque::new() }) };
}

impl Spare {
    fn take(&mut self) -> Option<BytesMut> {
        self.free.pop().or_else(|| {
            let mut oldest = self.in_use.pop_front()?;
            if oldest.try_reclaim(READ_BUFFER_BYTES) {
                return Some(oldest);
            }
            // The next one may be free by the time that it is wanted: this one may stay in use for long.
            self.in_use.push_back(oldest);
            None
        })
    }

    fn give(&mut self, mut buffer: BytesMut) {
        if self.free.len() + self.in_use.len() >= MAX_SPARE_BUFFERS {
            return;
        }
        if buffer.try_reclaim(READ_BUFFER_BYTES) {
            self.free.push(buffer);
        } else {
            self.in_use.push_back(buffer);
        }
    }
}

/// An empty buffer, if possible from the pool.
#[must_use]
pub(crate) fn take() -> BytesMut {
    SPARE.with_borrow_mut(Spare::take).unwrap_or_default()
}

/// Returns a buffer to the pool, and discards its contents.
///
/// Its memory is not reused while parts that were split off are still in use. A buffer that has grown, or that has no memory, is
/// not kept.
pub(crate) fn give(buffer: &mut BytesMut) {
    let mut buffer = std::mem::take(buffer);
    if (1..=READ_BUFFER_BYTES).contains(&buffer.capacity()) {
        buffer.clear();
        // There is no list any more where the thread is about to end.
        let _ = SPARE.try_with(|spare| spare.borrow_mut().give(buffer));
    }
}

/// Lets go of all that this thread keeps.
pub(crate) fn forget() {
    SPARE.with_borrow_mut(|spare| *spare = Spare { free: Vec::new(), in_use: VecDeque::new() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_nobody_has_a_part_of_it() {
        let mut buffer = take();
        buffer.reserve(READ_BUFFER_BYTES);
        let place = buffer.as_ptr();
        buffer.extend_from_slice(b"head");
        let head = buffer.split_to(4).freeze();
        give(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        drop(head);
        let mut again = take();
        again.reserve(READ_BUFFER_BYTES);
        assert_eq!(again.as_ptr(), place);
        drop(again);
        let mut large = BytesMut::with_capacity(16 * READ_BUFFER_BYTES);
        give(&mut large);
        assert_eq!(take().capacity(), 0, "a large one is not kept");
    }

    #[test]
    fn a_buffer_whose_part_is_still_in_use_is_passed_over_and_used_once_it_is_free() {
        forget();
        let used = |byte: u8| {
            let mut buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
            let place = buffer.as_ptr();
            buffer.extend_from_slice(&[byte; 9]);
            let part = buffer.split_to(9).freeze();
            give(&mut buffer);
            (place, part)
        };
        let ((first, long), (second, short)) = (used(1), used(2));
        drop(short);
        assert_eq!(take().capacity(), 0, "the oldest is in use, and goes behind the other one");
        let mut taken = take();
        assert_eq!((taken.as_ptr(), taken.capacity()), (second, READ_BUFFER_BYTES));
        assert_eq!(take().capacity(), 0);
        assert_eq!(&long[..], [1; 9], "nobody has written over it");
        drop(long);
        assert_eq!(take().as_ptr(), first);
        give(&mut taken);
        assert_eq!(take().as_ptr(), second, "free at once");
    }
}
