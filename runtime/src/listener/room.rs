//! The limits of a listener: how many connections it has, which of them are long polls or event streams, and which one gives way to a
//! new one.

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
pub(super) struct Connections {
    limits: Limits,
    began: Instant,
    seats: Mutex<HashMap<u64, Arc<ConnectionState>>>,
    next: AtomicU64,
    /// Wakes the accept loop when a connection has ended, has become a long poll, or may be closed.
    slot_available: Notify,
    waiting: Arc<Semaphore>,
    closing: AtomicBool,
    /// Whether no further connection is accepted.
    closed: AtomicBool,
    /// Wakes tasks that wait for `closing`, or for the last connection to end.
    changed: Notify,
}

/// The slot that a connection takes; dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Slot {
    room: Arc<Connections>,
    id: u64,
    seat: Arc<ConnectionState>,
}

/// The state of a connection.
#[derive(Debug, Default)]
struct ConnectionState {
    /// Requests being handled now.
    handling: AtomicUsize,
    /// Of these, requests whose body has not come in yet.
    unfinished: AtomicUsize,
    /// Of these, requests that wait for something to happen.
    waiting: AtomicUsize,
    /// Requests ever begun; it wraps around, only a difference counts.
    begun: AtomicUsize,
    /// When the last whole request had arrived (before the first: when the connection was accepted), in nanoseconds since `began`.
    whole: AtomicU64,
    /// Whether it is to be closed for another one.
    cut: AtomicBool,
    waker: AtomicWaker,
}

/// The connection of a request that is being handled.
#[derive(Debug, Clone)]
pub(super) struct ConnectionHandle {
    room: Arc<Connections>,
    seat: Arc<ConnectionState>,
}

/// Counts a request as being handled for as long as it lives.
pub(super) struct Handling(ConnectionHandle);

/// Counts a request's body as incomplete for as long as it lives.
pub(super) struct Unfinished(ConnectionHandle);

/// Where long polls and event streams register: an extension of every request. They have a limit of their own ([`Limits::waiting`]),
/// so that no number of them keeps others out.
#[derive(Debug, Clone)]
pub struct WaitingRoom(pub(super) ConnectionHandle);

/// A registered long poll or event stream; dropping it ends its registration.
#[must_use = "dropping it ends the waiting"]
pub struct Waiter {
    visit: ConnectionHandle,
    _permit: OwnedSemaphorePermit,
}

/// As many long polls and event streams as are allowed are open already. As a response: 503, to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

// === impl Connections ===

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            began: Instant::now(),
            seats: Mutex::default(),
            next: AtomicU64::new(0),
            slot_available: Notify::new(),
            waiting: Arc::new(Semaphore::new(limits.waiting)),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// A slot for a connection. Where all are taken, the connection that has been longest without a whole request is closed; where
    /// all are being answered, this waits until one has been. Long polls and event streams are not counted here.
    pub(super) async fn enter(self: &Arc<Self>) -> Slot {
        loop {
            if let Some(place) = self.try_enter() {
                return place;
            }
            self.slot_available.notified().await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Slot> {
        let mut seats = self.seats.lock();
        let counted = || seats.values().filter(|seat| !seat.is_waiting() && !seat.is_cut());
        if counted().count() >= self.limits.connections {
            let oldest =
                counted().filter(|seat| seat.may_go()).min_by_key(|seat| seat.whole.load(Ordering::Relaxed))?;
            oldest.cut.store(true, Ordering::Release);
            oldest.waker.wake();
        }
        let (id, seat) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::new(ConnectionState::default()));
        seat.whole.store(self.now(), Ordering::Relaxed);
        seats.insert(id, seat.clone());
        drop(seats);
        Some(Slot { room: self.clone(), id, seat })
    }

    /// Makes every answer the last of its connection, and lets idle connections end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.changed.notify_waiters();
        self.seats.lock().values().for_each(|seat| seat.waker.wake());
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits for [`close`](Self::close).
    pub(super) async fn closing(&self) {
        self.changed_to(|| self.is_closing()).await;
    }

    /// Notes that no further connection is accepted.
    pub(super) fn closed(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits until no further connection is accepted and the last has ended.
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

// === impl Slot ===

impl Slot {
    pub(super) fn room(&self) -> &Arc<Connections> {
        &self.room
    }

    /// Whether this connection has to give way to another one. The task that asked last is woken when it has to, and when the listener
    /// closes.
    pub(super) fn is_cut(&self, cx: &std::task::Context<'_>) -> bool {
        self.seat.waker.register(cx.waker());
        self.seat.is_cut()
    }

    /// How many requests are being handled, and how many were ever begun.
    pub(super) fn requests(&self) -> (usize, usize) {
        (self.seat.handling.load(Ordering::Acquire), self.seat.begun.load(Ordering::Acquire))
    }

    pub(super) fn visit(&self) -> ConnectionHandle {
        ConnectionHandle { room: self.room.clone(), seat: self.seat.clone() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.room.seats.lock().remove(&self.id);
        self.room.slot_available.notify_one();
        self.room.changed.notify_waiters();
    }
}

// === impl ConnectionState ===

impl ConnectionState {
    fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Whether it may be closed for another one: no whole request is being answered.
    fn may_go(&self) -> bool {
        self.handling.load(Ordering::Acquire) <= self.unfinished.load(Ordering::Acquire)
    }
}

// === impl ConnectionHandle ===

impl ConnectionHandle {
    pub(super) fn is_closing(&self) -> bool {
        self.room.is_closing()
    }

    /// Notes a request, whose body has arrived as a whole or not.
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

    /// Notes that a request has arrived as a whole. It is answered even if its connection was to be closed for another one.
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
        self.0.room.slot_available.notify_one();
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
    /// Registers the request as a long poll or event stream, until the waiter is dropped. Responses of unknown length register by
    /// themselves.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn enter(&self) -> Result<Waiter, Full> {
        let permit = Arc::clone(&self.0.room.waiting).try_acquire_owned().map_err(|_| Full)?;
        self.0.seat.waiting.fetch_add(1, Ordering::AcqRel);
        self.0.room.slot_available.notify_one();
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
        let why = "too many long polls and event streams are open: ask without waiting, or try again later\n";
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_on_its_way_when_its_connection_was_told_to_go_is_answered() {
        let room = Connections::new(Limits { connections: 2, ..Limits::default() });
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
