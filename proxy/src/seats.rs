//! Evicts an idle client connection when the limit is reached: the one that has been waiting longest for a complete request head.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Context,
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::clock;

/// The most connections with a request in flight that are skipped in the search for an idle one.
const MAX_PASSED_OVER: usize = 64;

/// The client connections of a server, ordered by the time of their last complete head.
#[derive(Debug)]
pub(crate) struct Seats {
    began: Instant,
    /// By time and number. A connection is not moved at each of its requests, but only when it would be evicted.
    by_age: Mutex<BTreeMap<(u64, u64), Arc<Seat>>>,
    next: AtomicU64,
}

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Seat {
    began: Instant,
    number: u64,
    /// The time under which it is listed.
    listed: AtomicU64,
    /// When its last head was complete, or when it was accepted if it had none. In nanoseconds since the server was created.
    whole: AtomicU64,
    /// Whether it is idle: it waits for the client's next request head.
    owes: AtomicBool,
    cut: AtomicBool,
    waker: AtomicWaker,
}

impl Default for Seats {
    fn default() -> Self {
        Self { began: Instant::now(), by_age: Mutex::default(), next: AtomicU64::new(0) }
    }
}

impl Seats {
    /// Adds a connection.
    pub(crate) fn enter(&self) -> Arc<Seat> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now = since(self.began);
        let seat = Arc::new(Seat {
            began: self.began,
            number,
            listed: AtomicU64::new(now),
            whole: AtomicU64::new(now),
            owes: AtomicBool::new(true),
            cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        self.by_age.lock().insert((now, number), seat.clone());
        seat
    }

    /// Removes a connection that has ended.
    pub(crate) fn leave(&self, seat: &Seat) {
        let mut by_age = self.by_age.lock();
        by_age.remove(&(seat.listed.load(Ordering::Relaxed), seat.number));
    }

    /// Evicts the connection that has been idle longest. False if there is none.
    pub(crate) fn make_room(&self) -> bool {
        let mut by_age = self.by_age.lock();
        let mut busy = Vec::new();
        let mut found = false;
        while let Some(((listed, number), seat)) = by_age.pop_first() {
            let whole = seat.whole.load(Ordering::Relaxed);
            if whole != listed {
                // It has had a request since it was listed: list it under its current time.
                seat.listed.store(whole, Ordering::Relaxed);
                by_age.insert((whole, number), seat);
            } else if !seat.owes.load(Ordering::Acquire) || seat.is_cut() {
                busy.push(seat);
                if busy.len() == MAX_PASSED_OVER {
                    break;
                }
            } else {
                seat.cut.store(true, Ordering::Release);
                seat.waker.wake();
                found = true;
                busy.push(seat);
                break;
            }
        }
        by_age.extend(busy.into_iter().map(|seat| ((seat.listed.load(Ordering::Relaxed), seat.number), seat)));
        found
    }
}

impl Seat {
    /// Marks it as idle: it waits for the next request head.
    pub(crate) fn owes(&self) {
        self.owes.store(true, Ordering::Release);
    }

    /// Marks it as busy: the head of its request is complete, or refused.
    pub(crate) fn paid(&self) {
        self.whole.store(since(self.began), Ordering::Relaxed);
        self.owes.store(false, Ordering::Release);
    }

    /// Whether it was evicted.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Registers this task to be woken on eviction.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

fn since(began: Instant) -> u64 {
    // Good for 584 years.
    u64::try_from(clock::now().saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats<const N: usize>() -> (Seats, [Arc<Seat>; N]) {
        let seats = Seats::default();
        let each = std::array::from_fn(|_| seats.enter());
        (seats, each)
    }

    fn cut(each: &[Arc<Seat>]) -> Vec<usize> {
        (0..each.len()).filter(|n| each[*n].is_cut()).collect()
    }

    #[test]
    fn the_one_longest_without_a_whole_request_goes_and_none_that_is_being_answered() {
        let (seats, each) = seats::<4>();
        // The first is being answered, the second has been.
        each[0].paid();
        each[1].paid();
        each[1].owes();
        assert!(seats.make_room());
        assert_eq!(cut(&each), [2]);
        assert!(seats.make_room());
        assert_eq!(cut(&each), [2, 3]);
        assert!(seats.make_room());
        assert_eq!(cut(&each), [1, 2, 3]);
        assert!(!seats.make_room(), "what is being answered is not cut");
        each[0].owes();
        assert!(seats.make_room());
        for seat in &each {
            seats.leave(seat);
        }
        assert!(seats.by_age.lock().is_empty());
        assert!(!seats.make_room());
    }

    #[test]
    fn the_search_among_busy_ones_is_bounded_and_loses_none() {
        let (seats, each) = seats::<200>();
        each[..199].iter().for_each(|seat| seat.paid());
        assert!(seats.make_room(), "the only one that owes is the oldest");
        assert_eq!(cut(&each), [199]);
        assert!(!seats.make_room());
        assert_eq!(seats.by_age.lock().len(), 200);
        each.iter().for_each(|seat| seats.leave(seat));
        assert!(seats.by_age.lock().is_empty());
    }
}
