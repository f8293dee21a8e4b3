//! Events for subscribers: requests whose last leg has ended, and endpoints that have changed.
//!
//! Without subscribers, a request costs one relaxed load. With subscribers, a bounded number of requests a second is sent, and the
//! number of omitted ones. All subscribers read the same bounded ring at their own pace; a slow one learns how many events it missed.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use runtime::drain::DrainWatch;
use serde::Serialize;
use tokio::{
    sync::broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    time::{Instant, Interval, MissedTickBehavior},
};

use crate::{
    access_log::{LogRecord, timestamp},
    clock,
    metrics::RequestResult,
    outcome::Outcome,
    report::{self, LegReport},
    table::Table,
    target::Target,
};

/// The maximum number of subscribers.
pub const MAX_WATCHERS: usize = 16;

/// The capacity of the ring, in events.
const RING_EVENTS: usize = 512;

/// Requests that are sent in a second.
const REQUESTS_PER_SECOND: u32 = 100;

/// Further requests in a second with a result other than `ok`.
const FAILURES_PER_SECOND: u32 = 50;

/// Changes of endpoints that are sent for one new table.
const CHANGES_AT_ONCE: usize = 200;

/// Legs in the event of a request, failed ones first.
const LEGS_PER_REQUEST: usize = 32;

/// The interval of `sampled` events.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    /// `request`, `endpoint`, `sampled` or `dropped`.
    pub name: &'static str,
    /// A JSON object in one line.
    pub data: Arc<str>,
}

/// The subscribers and their ring of events.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    watchers: AtomicUsize,
    began: Instant,
    /// A second, and the number of requests that were sent in it.
    told: AtomicU64,
    /// Requests and changes that were omitted.
    left_out: AtomicU64,
}

/// A subscription, which ends when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    events: Arc<Events>,
    receiver: broadcast::Receiver<Event>,
    tick: Interval,
    /// The number of omitted events at the last `sampled` event.
    left_out: u64,
    drain: DrainWatch,
}

/// The maximum number of subscribers is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WATCHERS} clients follow the events already, which is the limit: close one of them, or try again later")]
pub struct TooManyWatchers;

/// A request whose last leg has ended.
#[derive(Serialize)]
struct RequestEvent<'a> {
    time: String,
    id: &'a str,
    method: &'a str,
    host: &'a str,
    target: &'a str,
    route: &'a str,
    status: u16,
    result: &'static str,
    completed: &'static str,
    #[serde(rename = "ms", serialize_with = "report::as_millis")]
    took: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    divergent: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    legs: Vec<LegEvent<'a>>,
    /// The number of legs that are not in the list.
    #[serde(skip_serializing_if = "is_zero")]
    more_legs: usize,
}

#[derive(Serialize)]
struct LegEvent<'a> {
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    outcome: Option<Outcome>,
    status: Option<u16>,
    #[serde(rename = "ms", serialize_with = "report::as_millis")]
    took: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
}

/// An endpoint that has changed.
#[derive(Serialize)]
struct EndpointEvent<'a> {
    time: &'a str,
    route: &'a str,
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    /// The new state: `ready`, `not_ready` or `gone`.
    state: &'static str,
}

#[derive(Serialize)]
struct LeftOut {
    left_out: u64,
}

#[derive(Serialize)]
struct Missed {
    missed: u64,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

// === impl Event ===

impl Event {
    fn new(name: &'static str, data: &impl Serialize) -> Self {
        // Texts and numbers always serialise, and JSON has no line end in it.
        Self { name, data: serde_json::to_string(data).unwrap_or_default().into() }
    }
}

// === impl LegEvent ===

impl<'a> LegEvent<'a> {
    fn new(leg: &LegReport<'a>) -> Self {
        let LegReport { endpoint, pod, outcome, status, took, .. } = *leg;
        Self { endpoint, pod, outcome, status, took, error: leg.error.clone() }
    }
}

// === impl Events ===

impl Events {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            sender: broadcast::Sender::new(RING_EVENTS),
            watchers: AtomicUsize::new(0),
            began: Instant::now(),
            told: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        })
    }

    fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// Subscribes until `drain` begins.
    ///
    /// # Errors
    /// The maximum number of subscribers is reached.
    pub(crate) fn watch(self: &Arc<Self>, drain: DrainWatch) -> Result<Watcher, TooManyWatchers> {
        if self.watchers.fetch_add(1, Ordering::Relaxed) >= MAX_WATCHERS {
            self.watchers.fetch_sub(1, Ordering::Relaxed);
            return Err(TooManyWatchers);
        }
        let mut tick = tokio::time::interval(TELL_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let left_out = self.left_out.load(Ordering::Relaxed);
        Ok(Watcher { receiver: self.sender.subscribe(), events: self.clone(), tick, left_out, drain })
    }

    /// Whether a request with this result is sent: there is a subscriber, and the limit of this second is not reached.
    pub(crate) fn takes(&self, result: RequestResult) -> bool {
        if !self.is_watched() {
            return false;
        }
        let now = clock::now().saturating_duration_since(self.began).as_secs();
        let room = if result == RequestResult::Ok { 0 } else { FAILURES_PER_SECOND };
        let takes = take_turn(&self.told, now, REQUESTS_PER_SECOND + room);
        if !takes {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        takes
    }

    /// Sends a request.
    pub(crate) fn request<'a>(
        &self,
        record: &LogRecord,
        route: &str,
        completed: RequestResult,
        divergent: Option<usize>,
        legs: impl Iterator<Item = LegReport<'a>>,
    ) {
        let (ok, mut legs): (Vec<_>, Vec<_>) = legs.partition(|leg| leg.outcome == Some(Outcome::Ok));
        legs.extend(ok);
        let event = RequestEvent {
            time: timestamp(record.time),
            id: record.texts.id(),
            method: record.texts.method(),
            host: record.texts.host(),
            target: record.texts.target(),
            route,
            status: record.status,
            result: record.result.as_str(),
            completed: completed.as_str(),
            took: record.took,
            divergent,
            reason: record.reason.as_deref(),
            more_legs: legs.len().saturating_sub(LEGS_PER_REQUEST),
            legs: legs.iter().take(LEGS_PER_REQUEST).map(LegEvent::new).collect(),
        };
        self.tell(Event::new("request", &event));
    }

    /// Sends the endpoints that differ in the next table.
    pub(crate) fn table(&self, before: &Table, next: &Table) {
        if !self.is_watched() {
            return;
        }
        let mut known: HashMap<(&str, &str), &Target> = HashMap::new();
        // A route that both tables share has not changed.
        let pointers = |table: &Table| table.routes().map(Arc::as_ptr).collect::<HashSet<_>>();
        let (was, is) = (pointers(before), pointers(next));
        for route in before.routes().filter(|route| !is.contains(&Arc::as_ptr(route))) {
            known.extend(route.known.iter().map(|target| ((&*route.config.name, &**target.authority()), &**target)));
        }
        let (mut changes, time) = (Vec::new(), timestamp(SystemTime::now()));
        for route in next.routes().filter(|route| !was.contains(&Arc::as_ptr(route))) {
            for target in &route.known {
                let was = known.remove(&(&*route.config.name, &**target.authority()));
                if was.is_none_or(|was| state(was) != state(target)) {
                    changes.push((&*route.config.name, &**target, state(target)));
                }
            }
        }
        changes.extend(known.iter().map(|((route, _), target)| (*route, *target, "gone")));
        let left_out = changes.len().saturating_sub(CHANGES_AT_ONCE);
        self.left_out.fetch_add(left_out as u64, Ordering::Relaxed);
        for (route, target, state) in changes.into_iter().take(CHANGES_AT_ONCE) {
            let endpoint = &target.endpoint;
            self.tell(Event::new(
                "endpoint",
                &EndpointEvent {
                    time: &time,
                    route,
                    endpoint: target.authority(),
                    pod: endpoint.pod.as_ref().map(|pod| &*pod.name),
                    node: endpoint.node.as_deref(),
                    zone: endpoint.zone.as_deref(),
                    state,
                },
            ));
        }
    }

    fn tell(&self, event: Event) {
        // There may be no subscriber any more.
        let _ = self.sender.send(event);
    }
}

/// The state of an endpoint in a table.
fn state(target: &Target) -> &'static str {
    if target.endpoint.conditions.ready { "ready" } else { "not_ready" }
}

/// Takes one of `limit` turns of this second, and returns whether there was one. `told` has the second in its upper half, the number of
/// taken turns in its lower.
fn take_turn(told: &AtomicU64, second: u64, limit: u32) -> bool {
    let turn = |told: u64| {
        let (of, count) = (told >> 32, told & u64::from(u32::MAX));
        // The clocks of two threads may differ by a moment.
        match second > of {
            true => Some(second << 32 | 1),
            false => (count < u64::from(limit)).then_some(told + 1),
        }
    };
    told.fetch_update(Ordering::Relaxed, Ordering::Relaxed, turn).is_ok()
}

// === impl Watcher ===

impl Watcher {
    /// The next event; none once the drain has begun and all earlier events were returned.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                biased;
                () = self.drain.wait() => return match self.receiver.try_recv() {
                    Ok(event) => Some(event),
                    Err(TryRecvError::Lagged(missed)) => Some(Event::new("dropped", &Missed { missed })),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => None,
                },
                _ = self.tick.tick() => if let Some(event) = self.sampled() {
                    return Some(event);
                },
                event = self.receiver.recv() => return match event {
                    Ok(event) => Some(event),
                    Err(RecvError::Lagged(missed)) => Some(Event::new("dropped", &Missed { missed })),
                    Err(RecvError::Closed) => None,
                },
            }
        }
    }

    /// The number of events that were omitted since the last call, if any.
    fn sampled(&mut self) -> Option<Event> {
        let before = std::mem::replace(&mut self.left_out, self.events.left_out.load(Ordering::Relaxed));
        let left_out = self.left_out.wrapping_sub(before);
        (left_out > 0).then(|| Event::new("sampled", &LeftOut { left_out }))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.events.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_turns_and_the_next_one_has_them_again() {
        let told = AtomicU64::new(0);
        let taken = |second, limit| (0..20).filter(|_| take_turn(&told, second, limit)).count();
        assert_eq!((taken(1, 10), taken(1, 10), taken(1, 15)), (10, 0, 5));
        assert_eq!(taken(0, 10), 0, "a clock that is behind begins no second of its own");
        assert_eq!(taken(7, 10), 10);
    }

    #[test]
    fn while_nobody_watches_nothing_is_taken_and_nothing_counted() {
        let events = Events::new();
        assert!(!events.takes(RequestResult::Ok));
        assert_eq!((events.told.load(Ordering::Relaxed), events.left_out.load(Ordering::Relaxed)), (0, 0));
    }
}
