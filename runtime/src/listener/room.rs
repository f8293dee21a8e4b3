//! Who may stay: how many connections a listener has, which of them wait for something to happen, and which one makes room for another.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use axum::http::{StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Limits;

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    began: Instant,
    seats: Mutex<HashMap<u64, Arc<Seat>>>,
    next: AtomicU64,
    /// For the loop that accepts: somebody has left, waits now, or may be asked to leave.
    may_fit: Notify,
    waiting: Arc<Semaphore>,
    closing: AtomicBool,
    /// No connection comes any more.
    closed: AtomicBool,
    /// For whoever waits for the beginning of the end, and for the end.
    changed: Notify,
}

/// A connection's place; dropping it is leaving.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    id: u64,
    seat: Arc<Seat>,
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct Seat {
    /// Requests being handled now.
    handling: AtomicUsize,
    /// Of these, requests whose body has not come in yet.
    unfinished: AtomicUsize,
    /// Of these, requests that wait for something to happen.
    waiting: AtomicUsize,
    /// Requests ever begun; it wraps around, only a difference counts.
    begun: AtomicUsize,
    /// When the last whole request was there (before the first: when the connection came), in nanoseconds since the room began.
    whole: AtomicU64,
    /// Told to go.
    cut: AtomicBool,
    waker: AtomicWaker,
}

/// What a request's handling knows of its connection.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    room: Arc<Room>,
    seat: Arc<Seat>,
}

/// Counts a request as being handled for as long as it lives.
pub(super) struct Handling(Visit);

/// Counts a request's body as not there yet for as long as it lives.
pub(super) struct Unfinished(Visit);

/// Where requests that wait for something to happen say so: an extension of every request. They have a bound of their own
/// ([`Limits::waiting`]), so that no number of them keeps others out.
#[derive(Debug, Clone)]
pub struct WaitingRoom(pub(super) Visit);

/// A request that waits; it ends with this.
#[must_use = "dropping it ends the waiting"]
pub struct Waiter {
    visit: Visit,
    _permit: OwnedSemaphorePermit,
}

/// As many requests wait as may. As a response: 503, to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

// === impl Room ===

impl Room {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            began: Instant::now(),
            seats: Mutex::default(),
            next: AtomicU64::new(0),
            may_fit: Notify::new(),
            waiting: Arc::new(Semaphore::new(limits.waiting)),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// A place for a connection. Where all are taken, the one that has been longest without a whole request goes; where each of
    /// them is being answered, this waits until one is. Those that wait are not counted, so there are at most as many connections
    /// as may be of both kinds.
    pub(super) async fn enter(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_enter() {
                return place;
            }
            self.may_fit.notified().await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let mut seats = self.seats.lock();
        let counted = || seats.values().filter(|seat| !seat.is_waiting() && !seat.is_cut());
        if counted().count() >= self.limits.connections {
            let oldest =
                counted().filter(|seat| seat.may_go()).min_by_key(|seat| seat.whole.load(Ordering::Relaxed))?;
            oldest.cut.store(true, Ordering::Release);
            oldest.waker.wake();
        }
        let (id, seat) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(Seat::default()));
        seat.whole.store(self.now(), Ordering::Relaxed);
        seats.insert(id, seat.clone());
        drop(seats);
        Some(Place { room: self.clone(), id, seat })
    }

    /// From now on answers end their connections, and idle connections end by themselves.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.changed.notify_waiters();
        self.seats.lock().values().for_each(|seat| seat.waker.wake());
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits until it closes.
    pub(super) async fn closing(&self) {
        self.changed_to(|| self.is_closing()).await;
    }

    /// No connection comes any more.
    pub(super) fn closed(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until it is closed and nobody is here.
    pub(super) async fn empty(&self) {
        self.changed_to(|| self.closed.load(Ordering::Acquire) && self.seats.lock().is_empty()).await;
    }

    async fn changed_to(&self, state: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Listen before looking, so that a change in between is not lost.
            changed.as_mut().enable();
            if state() {
                return;
            }
            changed.await;
        }
    }

    fn now(&self) -> u64 {
        // Good for 584 years.
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

// === impl Place ===

impl Place {
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Whether this connection has to make room for another one; the task that asks last is woken when it has to, and when the
    /// room closes.
    pub(super) fn is_cut(&self, cx: &std::task::Context<'_>) -> bool {
        self.seat.waker.register(cx.waker());
        self.seat.is_cut()
    }

    /// How many requests are being handled, and how many were ever begun.
    pub(super) fn requests(&self) -> (usize, usize) {
        (self.seat.handling.load(Ordering::Acquire), self.seat.begun.load(Ordering::Acquire))
    }

    pub(super) fn visit(&self) -> Visit {
        Visit { room: self.room.clone(), seat: self.seat.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.seats.lock().remove(&self.id);
        self.room.may_fit.notify_one();
        self.room.changed.notify_waiters();
    }
}

// === impl Seat ===

impl Seat {
    fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Nobody waits for an answer to a whole request here.
    fn may_go(&self) -> bool {
        self.handling.load(Ordering::Acquire) <= self.unfinished.load(Ordering::Acquire)
    }
}

// === impl Visit ===

impl Visit {
    pub(super) fn is_closing(&self) -> bool {
        self.room.is_closing()
    }

    /// A request has come in, with all of its body or without.
    pub(super) fn begin(&self, whole: bool) -> (Handling, Option<Unfinished>) {
        let unfinished = (!whole).then(|| {
            self.seat.unfinished.fetch_add(1, Ordering::AcqRel);
            Unfinished(self.clone())
        });
        if whole {
            self.whole();
        }
        self.seat.begun.fetch_add(1, Ordering::AcqRel);
        self.seat.handling.fetch_add(1, Ordering::AcqRel);
        (Handling(self.clone()), unfinished)
    }

    /// A request that was on its way when its connection was told to go is answered all the same.
    fn whole(&self) {
        self.seat.cut.store(false, Ordering::Release);
        self.seat.whole.store(self.room.now(), Ordering::Relaxed);
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.seat.handling.fetch_sub(1, Ordering::AcqRel);
        // The time of an idle connection begins now, and whoever ended an answer that was streamed need not look at the connection again.
        self.0.seat.waker.wake();
        self.0.room.may_fit.notify_one();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.whole();
        self.0.seat.unfinished.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl WaitingRoom ===

impl WaitingRoom {
    /// From now on the request waits, until the waiter is dropped. Responses whose length is not known are taken for waiting
    /// without being told.
    ///
    /// # Errors
    /// As many wait already as may.
    pub fn enter(&self) -> Result<Waiter, Full> {
        let permit = Arc::clone(&self.0.room.waiting).try_acquire_owned().map_err(|_| Full)?;
        self.0.seat.waiting.fetch_add(1, Ordering::AcqRel);
        self.0.room.may_fit.notify_one();
        Ok(Waiter { visit: self.0.clone(), _permit: permit })
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.visit.seat.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").finish_non_exhaustive()
    }
}

// === impl Full ===

impl IntoResponse for Full {
    fn into_response(self) -> Response {
        let why = "as many clients wait here as may: ask without waiting, or try again later\n";
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_on_its_way_when_its_connection_was_told_to_go_is_answered() {
        let room = Room::new(Limits { connections: 2, ..Limits::default() });
        let [asks, silent] = [(); 2].map(|()| room.try_enter().expect("there is room"));
        let others = [(); 2].map(|()| room.try_enter().expect("one of the first two makes room"));
        assert!(asks.seat.is_cut() && silent.seat.is_cut() && others.iter().all(|other| !other.seat.is_cut()));
        let (handling, unfinished) = asks.visit().begin(false);
        assert!(asks.seat.is_cut(), "it is not whole yet");
        drop(unfinished);
        assert!(!asks.seat.is_cut());
        drop(handling);
        assert!(silent.seat.is_cut());
    }
}
