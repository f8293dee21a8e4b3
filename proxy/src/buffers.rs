//! Read buffers that wait for their next use, a list for each thread: a connection has one only while there is
//! something in it.
//!
//! A connection that waits costs no buffer, and the buffer that is used next is the one that was used last, which the
//! processor still has at hand.

use std::cell::RefCell;

use bytes::BytesMut;

/// Room for one read: more than most heads have.
pub(crate) const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Buffers that a thread keeps at most.
const MAX_SPARE_BUFFERS: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, one that was used before if there is one.
#[must_use]
pub(crate) fn take() -> BytesMut {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back, with what is in it; none is left behind.
///
/// Parts of it that have been split off and are still in use keep its memory from being used again until they go. A
/// buffer that has grown is not kept, and neither is one that never was any.
pub(crate) fn give(buffer: &mut BytesMut) {
    let mut buffer = std::mem::take(buffer);
    if (1..=READ_BUFFER_BYTES).contains(&buffer.capacity()) {
        buffer.clear();
        // There is no list any more where the thread is about to end.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MAX_SPARE_BUFFERS {
                spare.push(buffer);
            }
        });
    }
}

/// Lets go of all that this thread keeps.
pub(crate) fn forget() {
    SPARE.take();
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
        let mut large = BytesMut::with_capacity(16 * READ_BUFFER_BYTES);
        give(&mut large);
        assert_eq!(take().capacity(), 0, "a large one is not kept");
    }
}
