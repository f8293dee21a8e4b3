//! The queues of what is owed: arrivals, outcomes, readiness and the time go in; what to send and what to write come out.
//!
//! Nothing here waits, reads a clock or does I/O. Whoever drives it calls an input, then takes [`Core::take_writes`]
//! and [`Core::take_events`], and asks [`Core::next`] for copies to send until there is none.

mod arrive;
mod endpoint;
mod intern;
mod job;
mod merge;
mod operate;
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
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::RandomState,
    sync::Arc,
};

pub use arrive::{Leg, Refused, Why};
pub(crate) use job::Delivery;
pub use job::State;
pub use operate::Retry;
pub use send::{AttemptId, Copy, Verdict};

/// Everything that is owed, by all routes that share one journal.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    /// Whether a journal confirms what is written. Without one everything counts as written at once.
    journalled: bool,
    routes: Vec<Route>,
    route_ids: HashMap<Arc<str>, RouteId>,
    endpoints: Vec<Option<Endpoint>>,
    endpoint_ids: HashMap<Arc<str>, EndpointId>,
    vacant: Vec<EndpointId>,
    /// What the newest snapshot has. Absent before the first.
    members: Option<Arc<Members>>,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs by the time at which they are given up.
    expiry: BTreeSet<(Millis, JobId)>,
    /// Jobs that are done, by the time at which they are forgotten.
    done: BTreeSet<(Millis, JobId)>,
    owed_jobs: usize,
    owed_bytes: usize,
    /// Endpoints that may have something to send, in turn.
    turn: VecDeque<EndpointId>,
    /// Endpoints that are tried again at a time.
    probes: BTreeSet<(Millis, EndpointId)>,
    attempts: HashMap<AttemptId, send::Attempt>,
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

/// An endpoint that is owed something, by its number within one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndpointId(u32);

#[derive(Debug)]
struct Route {
    name: Arc<str>,
    rules: Rules,
}

/// The endpoints of a snapshot, by their keys.
pub type Members = HashMap<Arc<str>, Member>;

/// An endpoint of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is now.
    pub address: Arc<str>,
    /// Whether requests are sent to it.
    pub ready: bool,
}

/// Something for the journal. The order of writes is that in which they have to become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The job.
    pub job: JobId,
    /// What of it changes.
    pub change: Change,
    /// Comes back with [`Core::written`].
    pub receipt: Receipt,
}

/// What of a job changes in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The job is new.
    Put(Box<Stored>),
    /// A delivery was tried and failed.
    Tried {
        /// The index of the delivery within the job.
        index: u32,
        /// Whom it is owed to.
        whom: Arc<Whom>,
        /// How many tries there were.
        attempts: u32,
    },
    /// A delivery is no longer owed, and with the last one the whole job.
    Settled {
        /// The index of the delivery within the job.
        index: u32,
        /// Whether the job owes nothing any more.
        last: bool,
    },
    /// The job was never taken.
    Withdrawn,
}

/// What waits for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The job is acknowledged only then.
    Job(JobId),
    /// An endpoint is owed nothing on a route only then.
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

/// Something for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name of the route.
    pub route: Arc<str>,
    /// How a delivery ended.
    pub state: State,
    /// How old the request was then, in milliseconds.
    pub age: Millis,
}

impl Write {
    /// A job that nobody waits for.
    pub(crate) fn of_stored(stored: &Stored) -> Self {
        Self { job: stored.id, change: Change::Put(Box::new(stored.clone())), receipt: Receipt::None }
    }
}

impl Core {
    /// Nothing is owed yet. `seed` is for the jitter of pauses.
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
            next_attempt: 0,
            writes: Vec::new(),
            events: Vec::new(),
            strings: Strings::default(),
            hasher: RandomState::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// The number of a route, whose rules are these from now on.
    pub fn route(&mut self, name: &str, rules: Rules) -> RouteId {
        let id = self.route_named(name);
        self.routes[id.0 as usize].rules = rules;
        id
    }

    /// Takes other bounds. What is owed already stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What is to be written, in order.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// What has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Jobs that are owed, and the bytes of their requests.
    #[must_use]
    pub fn owed(&self) -> (usize, usize) {
        (self.owed_jobs, self.owed_bytes)
    }

    /// Deliveries that are owed to each endpoint, by its address.
    pub fn owed_by_endpoint(&self) -> impl Iterator<Item = (Arc<str>, usize)> {
        self.endpoints.iter().flatten().map(|endpoint| {
            let now_at = self.member(&endpoint.whom.key).map(|member| &member.address);
            (now_at.unwrap_or(&endpoint.whom.endpoint).clone(), endpoint.owed)
        })
    }

    /// Whether every request can be sent at once without asking.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.endpoint_ids.is_empty()
    }

    /// Lets time pass: what is too old is given up, what was done long ago is forgotten.
    pub fn tick(&mut self, now: Millis) {
        while let Some(&(at, id)) = self.expiry.first().filter(|(at, _)| *at <= now) {
            self.expiry.remove(&(at, id));
            self.expire(now, id);
        }
        self.forget_done(now);
        while let Some(&(at, endpoint)) = self.probes.first().filter(|(at, _)| *at <= now) {
            self.probes.remove(&(at, endpoint));
            self.wake(endpoint);
        }
    }

    /// When [`Core::tick`] has something to do next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Millis> {
        let expiry = self.expiry.first().map(|(at, _)| *at);
        let probe = self.probes.first().map(|(at, _)| *at);
        let forget = self.done.first().map(|(at, _)| *at);
        [expiry, probe, forget].into_iter().flatten().min()
    }

    /// Takes what a journal had. It comes before whatever has arrived since.
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

    /// From now on a journal confirms what is written. It gets what is owed already.
    pub fn use_journal(&mut self) {
        self.journalled = true;
        let puts = self.jobs.iter().filter(|(_, job)| job.is_owed() && job.committed);
        let puts = puts.map(|(id, job)| Write::of_stored(&job.stored(*id, &self.routes[job.route.0 as usize].name)));
        self.writes.extend(puts);
    }

    /// Whether a journal has to confirm what is written from now on.
    pub fn set_journalled(&mut self, journalled: bool) {
        self.journalled = journalled;
    }

    /// The journal has taken a write, or could not.
    pub fn written(&mut self, now: Millis, receipt: Receipt, ok: bool) {
        match receipt {
            Receipt::Job(id) if ok => self.release_job(now, id),
            Receipt::Job(id) => self.withdraw(id),
            // Where the journal fails, live requests go on: waiting for a disk would be an outage of its own. What is
            // written late may be sent once more after a crash.
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
        self.routes.push(Route { name: name.clone(), rules: Rules::default() });
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

    /// The endpoint with this key, which is known from now on.
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

    /// Forgets an endpoint that is owed nothing and that nothing waits for.
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
