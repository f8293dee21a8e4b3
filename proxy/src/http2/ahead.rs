//! What clients may send ahead on HTTP/2 connections, of which no request has taken anything yet.
//!
//! A connection begins with room for two streams. For each further request with a body that is open at the same time it is granted
//! more, so that one which is not taken starves no other. All that is granted, over all connections and workers, is under
//! `limits.buffered` together with what requests keep; a connection that gets no more shares what it has. A grant lasts as long as its
//! connection: credit that a client has cannot be taken back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{MAX_STREAMS, STREAM_WINDOW};
use crate::exchange::budget::Budget;

/// Streams for which a connection has room from the start.
const FIRST_STREAMS: usize = 2;

/// What a client's connection may bring before it was granted more.
pub(crate) const FIRST_WINDOW: u32 = FIRST_STREAMS as u32 * STREAM_WINDOW;

/// What each further stream adds to the window of its connection. It is half as much again as the stream may use, because `h2`
/// returns credit only once that is at least half of what the client still has: a client that keeps the credit of all its other
/// streams for them, and sends nothing on them, would otherwise get none for the one that goes on.
const STREAM_GRANT: u32 = STREAM_WINDOW + STREAM_WINDOW / 2;

/// What was granted to all connections.
#[derive(Debug)]
pub(crate) struct SendAhead {
    granted: AtomicUsize,
    cap: usize,
    /// What requests keep of bodies.
    kept: Arc<Budget>,
}

/// What was granted to one connection; given back when that ends.
#[derive(Debug)]
pub(crate) struct Grant {
    all: Arc<SendAhead>,
    /// Streams beyond the first ones.
    streams: usize,
}

// === impl SendAhead ===

impl SendAhead {
    /// Grants so many bytes at most, less what requests keep.
    pub(crate) fn new(cap: usize, kept: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { granted: AtomicUsize::new(0), cap, kept })
    }

    /// Takes so many bytes, if there are as many.
    fn take(&self, bytes: usize) -> bool {
        let most = self.cap.saturating_sub(self.kept.used());
        let more = |granted: usize| granted.checked_add(bytes).filter(|all| *all <= most);
        self.granted.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

// === impl Grant ===

impl Grant {
    /// A connection that has room for the first streams.
    pub(crate) fn new(all: Arc<SendAhead>) -> Self {
        Self { all, streams: 0 }
    }

    /// So many requests are open, the last of which has a body: tells the window of the connection where that changes.
    pub(crate) fn widen(&mut self, open: usize) -> Option<u32> {
        let wanted = open.min(MAX_STREAMS as usize).saturating_sub(FIRST_STREAMS);
        let more = wanted.checked_sub(self.streams).filter(|more| *more > 0)?;
        if !self.all.take(more * STREAM_GRANT as usize) {
            return None;
        }
        self.streams = wanted;
        u32::try_from(wanted).ok().map(|streams| FIRST_WINDOW + streams * STREAM_GRANT)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.all.granted.fetch_sub(self.streams * STREAM_GRANT as usize, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::budget::Share;

    const GRANT: usize = STREAM_GRANT as usize;

    /// The window of a connection that was granted more for so many streams.
    fn window(streams: u32) -> Option<u32> {
        Some(FIRST_WINDOW + streams * STREAM_GRANT)
    }

    #[test]
    fn a_connection_grows_with_its_uploads_and_all_of_them_stay_within_the_limit() {
        let kept = Budget::new(10 * GRANT);
        let all = SendAhead::new(10 * GRANT, kept.clone());
        let (mut a, mut b) = (Grant::new(all.clone()), Grant::new(all.clone()));
        assert_eq!(a.widen(2), None, "the first streams have room");
        assert_eq!(a.widen(5), window(3));
        assert_eq!((a.widen(5), a.widen(3)), (None, None), "credit stays");
        assert_eq!((b.widen(10), b.widen(9)), (None, window(7)));
        assert_eq!(a.widen(6), None, "there is no more");
        drop(b);
        let mut share = Share::of(&kept);
        share.set(6 * GRANT);
        assert_eq!((a.widen(7), a.widen(6)), (None, window(4)), "less what is kept");
        drop(a);
        assert_eq!(all.granted.load(Ordering::Acquire), 0);
    }

    #[test]
    fn no_connection_is_granted_more_than_its_streams() {
        let all = SendAhead::new(1 << 40, Budget::new(1 << 40));
        assert_eq!(Grant::new(all).widen(1_000), window(98));
    }

    #[test]
    fn credit_comes_back_however_much_of_it_is_kept_for_other_streams() {
        for others in 1..MAX_STREAMS {
            let window = FIRST_WINDOW + (others + 1 - FIRST_STREAMS as u32) * STREAM_GRANT;
            let kept = others * STREAM_WINDOW;
            assert!(window - kept > kept / 2, "{others} other streams");
        }
    }
}
