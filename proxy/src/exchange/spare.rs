//! Exchanges that have served their time and wait for another request on the same thread, with all their memory: legs
//! and their lists, wakers, window, heads. So a request allocates nothing for its legs once there have been some.

use std::cell::RefCell;

use super::Exchange;
use crate::buffers;

/// Exchanges that a thread keeps at most.
const MOST: usize = 64;

/// Legs of an exchange that are kept at most: requests to more endpoints are rare, and large.
pub(super) const LEGS: usize = 64;

/// Entries that a list keeps room for while it is not used.
pub(super) const ENTRIES: usize = 32;

thread_local! {
    // Boxed, because that is how they come and go: moving one costs more than what is saved here.
    #[expect(clippy::vec_box, reason = "an exchange is put aside without being moved")]
    static SPARE: RefCell<Vec<Box<Exchange>>> = const { RefCell::new(Vec::new()) };
}

/// The one that was put aside last: the processor may still have it at hand.
pub(super) fn take() -> Option<Box<Exchange>> {
    SPARE.with_borrow_mut(Vec::pop)
}

/// Puts an empty one aside.
pub(super) fn give(exchange: Box<Exchange>) {
    // There is no list any more where the thread is about to end.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < MOST {
            spare.push(exchange);
        }
    });
}

/// Lets go of all that this thread has put aside, also of buffers. To be called from time to time: what is put aside
/// keeps its last route and targets from going, and a peak should not be paid for for ever.
pub fn forget() {
    let forgotten = SPARE.take();
    drop(forgotten);
    buffers::forget();
}
