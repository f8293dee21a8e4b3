//! Pools of read buffers, one for each thread: a connection has a buffer only while there is data in it.
//!
//! An idle connection needs no buffer, and the buffer that was used last, which is still in the CPU's cache, is used next.

use std::cell::RefCell;

use bytes::BytesMut;

/// The size of one read, in bytes: more than most heads have.
pub(crate) const READ_BUFFER_BYTES: usize = 4 * 1024;

/// The most free buffers of a thread.
const MAX_SPARE_BUFFERS: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, if possible from the pool.
#[must_use]
pub(crate) fn take() -> BytesMut {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
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
