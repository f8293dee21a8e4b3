//! The queues of owed deliveries: arrivals, outcomes, readiness and the time go in; copies to send and journal writes come out.
//!
//! Nothing here waits, reads a clock or does I/O. The driver calls an input, then takes [`Core::take_writes`]
//! and [`Core::take_events`], and asks [`Core::next`] for copies to send until there is none.

mod arrive;
mod endpoint;
mod intern;
mod job;
mod merge;
mod operate;
mod reconcile;
mod send;
mod settle;
#[cfg(test)]
mod tests;

use endpoint::{Endpoint, Queue};
use intern::Strings;
use job::Job;

use crate::{
    JobId, Millis, Stored, Whom,
    rules::{Limits, Rules},
};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::RandomState,
    sync::Arc,
};

pub use arrive::{Leg, Refused, Why};
pub(crate) use job::Delivery;
pub use job::State;
pub use operate::Retry;
pub use reconcile::{Entry, Reconciliation};
pub use send::{AttemptId, Copy, Verdict};

/// The owed deliveries of all routes that share one journal.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    /// Whether a journal confirms writes. Without one, writes count as done at once.
    journalled: bool,
    routes: Vec<Route>,
    route_ids: HashMap<Arc<str>, RouteId>,
    endpoints: Vec<Option<Endpoint>>,
    endpoint_ids: HashMap<Arc<str>, EndpointId>,
    vacant: Vec<EndpointId>,
    /// The endpoints of the newest snapshot; none before the first.
    members: Option<Arc<Members>>,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs by the time at which they expire.
    expiry: BTreeSet<(Millis, JobId)>,
    /// Finished jobs, by the time at which they are forgotten.
    done: BTreeSet<(Millis, JobId)>,
    owed_jobs: usize,
    owed_bytes: usize,
    /// Endpoints that may have something to send, for round robin.
    turn: VecDeque<EndpointId>,
    /// Endpoints by the time at which they are retried.
    probes: BTreeSet<(Millis, EndpointId)>,
    attempts: HashMap<AttemptId, send::Attempt>,
    /// Answered copies whose deliveries have yet to end.
    answers: VecDeque<send::Answer>,
    /// Endpoints whose deliveries have yet to be dropped.
    dropping: VecDeque<EndpointId>,
    next_attempt: u64,
    writes: Vec<Write>,
    events: Vec<Event>,
    strings: Strings,
    hasher: RandomState,
    rng: fastrand::Rng,
}

/// A route, by its number within one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(u32);

/// An endpoint with owed deliveries, by its number within one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndpointId(u32);

#[derive(Debug)]
struct Route {
    name: Arc<str>,
    rules: Rules,
    /// Whether the route exists now. The deliveries of a removed route wait.
    in_use: bool,
}

/// The endpoints of a snapshot, by their keys.
pub type Members = HashMap<Arc<str>, Member>;

/// An endpoint of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its current address.
    pub address: Arc<str>,
    /// Whether requests are sent to it.
    pub ready: bool,
}

/// A write for the journal. Writes must become durable in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The job.
    pub job: JobId,
    /// The change.
    pub change: Change,
    /// Comes back with [`Core::written`].
    pub receipt: Receipt,
}

/// A change of a job in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The job is new.
    Put(Box<Stored>),
    /// An attempt of a delivery failed.
    Tried {
        /// The index of the delivery within the job.
        index: u32,
        /// The endpoint.
        whom: Arc<Whom>,
        /// The number of attempts so far.
        attempts: u32,
    },
    /// A delivery is settled, and with the last one the whole job.
    Settled {
        /// The index of the delivery within the job.
        index: u32,
        /// Whether all deliveries of the job are settled.
        last: bool,
    },
    /// The job was not accepted.
    Withdrawn,
}

/// What depends on a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The acknowledgement of the job.
    Job(JobId),
    /// The settlement of a delivery, until which its endpoint counts as owed.
    Settled(#[doc(hidden)] SettledAt),
    /// Nothing.
    None,
}

/// The queue that a settled delivery was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledAt {
    endpoint: EndpointId,
    route: RouteId,
}

/// An event for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name of the route.
    pub route: Arc<str>,
    /// How a delivery ended.
    pub state: State,
    /// The age of the request at that time, in milliseconds.
    pub age: Millis,
}

impl Write {
    /// The write of a job that no request waits for.
    pub(crate) fn of_stored(stored: &Stored) -> Self {
        Self { job: stored.id, change: Change::Put(Box::new(stored.clone())), receipt: Receipt::None }
    }
}

impl Core {
    /// Empty queues. `seed` is for the jitter of retry delays.
    #[must_use]
    pub fn new(limits: Limits, journalled: bool, seed: u64) -> Self {
        Self {
            limits,
            journalled,
            routes: Vec::new(),
            route_ids: HashMap::new(),
            endpoints: Vec::new(),
            endpoint_ids: HashMap::new(),
            vacant: Vec::new(),
            members: None,
            jobs: BTreeMap::new(),
            expiry: BTreeSet::new(),
            done: BTreeSet::new(),
            owed_jobs: 0,
            owed_bytes: 0,
            turn: VecDeque::new(),
            probes: BTreeSet::new(),
            attempts: HashMap::new(),
            answers: VecDeque::new(),
            dropping: VecDeque::new(),
            next_attempt: 0,
            writes: Vec::new(),
            events: Vec::new(),
            strings: Strings::default(),
            hasher: RandomState::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Registers a route, or replaces its rules. Returns its number.
    pub fn route(&mut self, name: &str, rules: Rules) -> RouteId {
        let id = self.route_named(name);
        self.routes[id.0 as usize].rules = rules;
        let route = &mut self.routes[id.0 as usize];
        if !std::mem::replace(&mut route.in_use, true) {
            self.wake_all();
        }
        id
    }

    /// Only these routes exist from now on. The deliveries of others wait until they are too old, or the route is back.
    pub fn use_routes(&mut self, in_use: &HashSet<RouteId>) {
        for (number, route) in (0..).zip(&mut self.routes) {
            route.in_use = in_use.contains(&RouteId(number));
        }
        self.wake_all();
    }

    /// Replaces the bounds. Jobs that exist already stay.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the pending writes, in order.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The number of owed jobs, and the bytes of their requests.
    #[must_use]
    pub fn owed(&self) -> (usize, usize) {
        (self.owed_jobs, self.owed_bytes)
    }

    /// The number of owed deliveries of each endpoint, by its address.
    pub fn owed_by_endpoint(&self) -> impl Iterator<Item = (Arc<str>, usize)> {
        self.endpoints.iter().flatten().map(|endpoint| {
            let now_at = self.member(&endpoint.whom.key).map(|member| &member.address);
            (now_at.unwrap_or(&endpoint.whom.endpoint).clone(), endpoint.owed)
        })
    }

    /// Whether nothing is owed, so that every request can be sent without a check.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.endpoint_ids.is_empty()
    }

    /// Handles the passing of time: old jobs expire, and finished ones are forgotten. It does a bounded part of what there is to do
    /// ([`Limits::per_turn`]), and returns whether that was all.
    pub fn tick(&mut self, now: Millis) -> bool {
        let mut most = self.end_answered(now, self.limits.per_turn);
        most = self.drop_gone(now, most);
        while most > 0
            && let Some(&(at, id)) = self.expiry.first().filter(|(at, _)| *at <= now)
        {
            self.expiry.remove(&(at, id));
            most = most.saturating_sub(self.expire(now, id).max(1));
        }
        self.forget_done(now, self.limits.per_turn);
        while let Some(&(at, endpoint)) = self.probes.first().filter(|(at, _)| *at <= now) {
            self.probes.remove(&(at, endpoint));
            self.wake(endpoint);
        }
        !self.has_more_to_do(now)
    }

    /// Whether a turn has left something for the next one.
    fn has_more_to_do(&self, now: Millis) -> bool {
        let expires = self.expiry.first().is_some_and(|(at, _)| *at <= now);
        expires || !self.answers.is_empty() || !self.dropping.is_empty() || self.has_to_forget(now)
    }

    /// When [`Core::tick`] has something to do next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        if self.has_more_to_do(0) {
            return Some(0);
        }
        let expiry = self.expiry.first().map(|(at, _)| *at);
        let probe = self.probes.first().map(|(at, _)| *at);
        let forget = self.done.first().map(|(at, _)| *at);
        [expiry, probe, forget].into_iter().flatten().min()
    }

    /// Adds a job of the journal, in front of everything that has arrived since.
    pub fn recover(&mut self, now: Millis, stored: Stored) {
        if self.jobs.contains_key(&stored.id) || stored.owed.is_empty() {
            return;
        }
        let route = self.route_named(&stored.route);
        let id = stored.id;
        let job = self.job_of(stored, route);
        self.insert(now, id, job);
        self.release_job(now, id);
    }

    /// Sets whether a journal confirms writes from now on.
    pub fn set_journalled(&mut self, journalled: bool) {
        self.journalled = journalled;
    }

    /// Handles the result of a write of the journal.
    pub fn written(&mut self, now: Millis, receipt: Receipt, ok: bool) {
        match receipt {
            Receipt::Job(id) if ok => self.release_job(now, id),
            Receipt::Job(id) => self.withdraw(id),
            // If the journal fails, live requests continue, because waiting for a disk would be an outage. Deliveries that are
            // written late may be repeated after a crash.
            Receipt::Settled(at) => {
                if let Some(queue) = self.queue_mut(at.endpoint, at.route) {
                    queue.unsettled -= 1;
                }
                self.forget_if_idle(at.endpoint);
            }
            Receipt::None => {}
        }
    }

    fn route_named(&mut self, name: &str) -> RouteId {
        if let Some(id) = self.route_ids.get(name) {
            return *id;
        }
        let id = RouteId(u32::try_from(self.routes.len()).expect("a configuration has fewer routes"));
        let name: Arc<str> = name.into();
        self.routes.push(Route { name: name.clone(), rules: Rules::default(), in_use: false });
        self.route_ids.insert(name, id);
        id
    }

    fn rules(&self, route: RouteId) -> &Rules {
        &self.routes[route.0 as usize].rules
    }

    fn member(&self, key: &str) -> Option<&Member> {
        self.members.as_ref()?.get(key)
    }

    fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id.0 as usize)?.as_ref()
    }

    fn endpoint_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(id.0 as usize)?.as_mut()
    }

    fn queue_mut(&mut self, endpoint: EndpointId, route: RouteId) -> Option<&mut Queue> {
        self.endpoint_mut(endpoint)?.queue_mut(route)
    }

    /// The endpoint with this key, which is created if necessary.
    fn endpoint_for(&mut self, whom: &Arc<Whom>) -> EndpointId {
        if let Some(id) = self.endpoint_ids.get(&whom.key) {
            return *id;
        }
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.endpoints.push(None);
            EndpointId(u32::try_from(self.endpoints.len() - 1).expect("memory ends before"))
        });
        self.endpoints[id.0 as usize] = Some(Endpoint::new(whom.clone()));
        self.endpoint_ids.insert(whom.key.clone(), id);
        id
    }

    fn wake_all(&mut self) {
        for number in 0..self.endpoints.len() {
            self.wake(EndpointId(u32::try_from(number).expect("ids have 32 bits")));
        }
    }

    /// Forgets an endpoint without owed deliveries and without waiting requests.
    fn forget_if_idle(&mut self, id: EndpointId) {
        if !self.endpoint(id).is_some_and(Endpoint::is_idle) {
            return;
        }
        if let Some(endpoint) = self.endpoints[id.0 as usize].take() {
            self.probes.remove(&(endpoint.not_before, id));
            self.endpoint_ids.remove(&endpoint.whom.key);
            self.turn.retain(|waiting| *waiting != id);
            self.vacant.push(id);
        }
    }
}
