//! Which client connection makes room where there is none for another: the one that has been longest without a whole request head, if it
//! owes one.

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

/// Connections with a request that are passed over at most in search of one without.
const MAX_PASSED_OVER: usize = 64;

/// The client connections of a server, by when each was last known to have had a whole head.
#[derive(Debug)]
pub(crate) struct Seats {
    began: Instant,
    /// In time and number. A connection does not move with each of its requests, but when its turn to go would have come.
    by_age: Mutex<BTreeMap<(u64, u64), Arc<Seat>>>,
    next: AtomicU64,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Seat {
    began: Instant,
    number: u64,
    /// The time by which it is found among the others.
    listed: AtomicU64,
    /// When its last head was whole; before the first one, when it came. In nanoseconds since the beginning.
    whole: AtomicU64,
    /// Whether it is the client's turn: nothing is being answered.
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
    /// Another connection.
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

    /// It has ended.
    pub(crate) fn leave(&self, seat: &Seat) {
        let mut by_age = self.by_age.lock();
        by_age.remove(&(seat.listed.load(Ordering::Relaxed), seat.number));
    }

    /// Tells the connection to go that owes a request and has been longest without a whole one. False where none is found.
    pub(crate) fn make_room(&self) -> bool {
        let mut by_age = self.by_age.lock();
        let mut busy = Vec::new();
        let mut found = false;
        while let Some(((listed, number), seat)) = by_age.pop_first() {
            let whole = seat.whole.load(Ordering::Relaxed);
            if whole != listed {
                // It has had a request since: its turn is later.
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
    /// Its next request is awaited.
    pub(crate) fn owes(&self) {
        self.owes.store(true, Ordering::Release);
    }

    /// The head of its request is whole, or refused.
    pub(crate) fn paid(&self) {
        self.whole.store(since(self.began), Ordering::Relaxed);
        self.owes.store(false, Ordering::Release);
    }

    /// Whether it was told to go.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Lets this task be woken when it is told to go.
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
