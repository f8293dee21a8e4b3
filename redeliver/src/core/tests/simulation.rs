//! Seeded histories of clients, endpoints that come and go, a journal and crashes: after each step the indices agree, and
//! at the end every endpoint has what was acknowledged, in order.

use super::{START, last, missed, request, whom};
use crate::{
    JobId, Millis, Request, Stored,
    core::{Change, Copy, Core, Entry, Job, Leg, Member, Receipt, Reconciliation, RouteId, State, Verdict, Write},
    rules::{Limits, Order, Rules},
};

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

const ENDPOINTS: [&str; 3] = ["a", "b", "c"];
const STEPS: u32 = 150;

/// The random parameters of a run.
#[derive(Clone, Copy, Debug)]
struct Weather {
    seed: u64,
    crashes: bool,
    /// Whether commits of the journal sometimes fail.
    full_disk: bool,
    /// How long requests are kept.
    keep: Duration,
}

/// A request that has not been answered.
#[derive(Debug)]
struct Live {
    id: u64,
    route: RouteId,
    /// The endpoint, and how its leg ended: `None` while it runs.
    legs: Vec<(usize, Option<Leg>)>,
    delivered: usize,
}

/// The test's record of each request.
#[derive(Debug)]
struct Asked {
    request: Request,
    ordered: bool,
    arrived: usize,
    acknowledged: Option<usize>,
}

struct World {
    weather: Weather,
    rng: fastrand::Rng,
    core: Core,
    now: Millis,
    step: usize,
    next: u64,
    up: [bool; 3],
    present: [bool; 3],
    /// The contents of the disk.
    store: BTreeMap<u64, Stored>,
    unwritten: VecDeque<Write>,
    /// The journal cannot be written until it is opened again.
    broken: bool,
    live: Vec<Live>,
    /// Legs that run on though their request has been answered: the job and the endpoint.
    pending: Vec<(u64, usize)>,
    /// Copies in flight, and the owed deliveries of their endpoints at the start.
    sending: Vec<(Copy, Vec<u64>)>,
    asked: BTreeMap<u64, Asked>,
    /// The requests that each endpoint received, in order.
    received: [Vec<u64>; 3],
    /// Deliveries that another one stood for.
    carried: BTreeSet<(u64, usize)>,
    /// Deliveries that were merged at some time: what is for other targets may have gone first.
    postponed: BTreeSet<(u64, usize)>,
    expired: BTreeSet<(u64, usize)>,
}

fn core(weather: &Weather, seed: u64) -> Core {
    let backoff = (Duration::from_millis(100), Duration::from_secs(2));
    // Now and then a turn is over before everything is done.
    let per_turn = [1, 2, 500][usize::try_from(seed % 3).unwrap()];
    let limits = Limits { max_jobs: 12, concurrency: 3, backoff, per_turn, ..Limits::default() };
    let mut core = Core::new(limits, true, seed);
    core.route("ordered", Rules { keep: weather.keep, ..Rules::default() });
    core.route("unordered", Rules { keep: weather.keep, order: Order::None, ..Rules::default() });
    core
}

fn place(name: &str) -> usize {
    ENDPOINTS.iter().position(|endpoint| *endpoint == name).unwrap()
}

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Self::Put(_) => "put",
            Self::Tried { .. } => "tried",
            Self::Settled { .. } => "settled",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl World {
    fn new(weather: Weather) -> Self {
        let mut world = Self {
            weather,
            rng: fastrand::Rng::with_seed(weather.seed),
            core: core(&weather, weather.seed),
            now: START,
            step: 0,
            next: 0,
            up: [true; 3],
            present: [true; 3],
            store: BTreeMap::new(),
            unwritten: VecDeque::new(),
            broken: false,
            live: Vec::new(),
            pending: Vec::new(),
            sending: Vec::new(),
            asked: BTreeMap::new(),
            received: Default::default(),
            carried: BTreeSet::new(),
            postponed: BTreeSet::new(),
            expired: BTreeSet::new(),
        };
        world.tell_members();
        world
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            match self.rng.u32(0..100) {
                0..30 => self.arrival(),
                30..55 => self.progress(),
                55..70 => self.commit(),
                70..85 => self.send_and_end(),
                85..90 => self.now += self.rng.u64(0..3_000),
                90..95 => self.flap(),
                95..97 if self.weather.crashes => self.crash(),
                _ => {}
            }
            self.after();
        }
        self.settle_down();
        self.judge();
    }

    fn after(&mut self) {
        self.step += 1;
        self.core.tick(self.now);
        self.unwritten.extend(self.core.take_writes());
        self.core.take_events();
        self.core.check();
        for (id, job) in &self.core.jobs {
            for delivery in job.deliveries.iter().filter(|delivery| delivery.state == State::Expired) {
                assert!(self.now >= job.expires, "{id} was given up too early");
                self.expired.insert((id.get(), place(&delivery.whom.key)));
            }
            for delivery in job.deliveries.iter().filter(|delivery| delivery.state == State::Merged) {
                self.postponed.insert((id.get(), place(&delivery.whom.key)));
            }
        }
    }

    fn tell_members(&mut self) {
        let ready = ENDPOINTS.iter().zip(self.present).filter(|(_, present)| *present);
        let members =
            ready.map(|(name, _)| ((*name).into(), Member { address: format!("{name}:80").into(), ready: true }));
        self.core.members(self.now, Arc::new(members.collect()));
    }

    fn arrival(&mut self) {
        self.next += 1;
        let id = self.next;
        let target = ["/x", "/y"][self.rng.usize(0..2)];
        let request = if self.rng.u32(0..3) == 0 {
            request("PUT", target, &id.to_string())
        } else {
            let (id, key) = (format!("X-Request-Id: {id}"), self.rng.u32(0..4) / 3);
            Request { head: format!("{id}\r\nX-Key: {key}\r\n").into(), ..request("PURGE", target, "") }
        };
        let ordered = self.rng.u32(0..4) > 0;
        let route = RouteId(u32::from(!ordered));
        let legs = (0..3).map(|endpoint| {
            let behind = self.core.arrive(JobId::new(id), route, ENDPOINTS[endpoint]);
            (endpoint, behind.then_some(Leg::Behind))
        });
        let legs: Vec<_> = legs.collect();
        println!("{}: {id} arrives: {} {target} on {}, {legs:?}", self.step, request.method, route.0);
        self.live.push(Live { id, route, legs, delivered: 0 });
        self.asked.insert(id, Asked { request, ordered, arrived: self.step, acknowledged: None });
    }

    /// A leg of a live request ends, and with the last one the request is answered or taken as a job; now and then that is done
    /// while legs still run, as a policy that is content with some of them does.
    fn progress(&mut self) {
        if !self.pending.is_empty() && (self.live.is_empty() || self.rng.bool()) {
            return self.pending_ends();
        }
        if self.live.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.live.len());
        let early = self.live[index].delivered > 0 && self.rng.u32(0..3) == 0;
        let (fate, live) = (self.rng.u32(0..10), &mut self.live[index]);
        if !early && let Some(at) = live.legs.iter().position(|(_, leg)| leg.is_none()) {
            let endpoint = live.legs[at].0;
            let arrives = self.up[endpoint] && self.present[endpoint];
            if arrives {
                println!("{}: {endpoint} receives {} live", self.step, live.id);
                self.received[endpoint].push(live.id);
            }
            if arrives && fate > 0 {
                live.legs.remove(at);
                live.delivered += 1;
            } else {
                live.legs[at].1 = Some(Leg::Missed { last: last("reset", self.now), attempts: 1 });
            }
            return;
        }
        let live = self.live.swap_remove(index);
        if live.legs.is_empty() {
            self.asked.get_mut(&live.id).unwrap().acknowledged = Some(self.step);
            return;
        }
        let running = live.legs.iter().filter(|(_, leg)| leg.is_none());
        self.pending.extend(running.map(|(endpoint, _)| (live.id, *endpoint)));
        let legs = live.legs.into_iter();
        let legs = legs.map(|(endpoint, leg)| (whom(ENDPOINTS[endpoint]), leg.unwrap_or(Leg::Pending))).collect();
        let request = self.asked[&live.id].request.clone();
        let _ = self.core.defer(self.now, JobId::new(live.id), (live.route, self.now), request, legs);
    }

    /// The end of a leg whose request has been answered.
    fn pending_ends(&mut self) {
        let (id, endpoint) = self.pending.swap_remove(self.rng.usize(0..self.pending.len()));
        let arrives = self.up[endpoint] && self.present[endpoint];
        if arrives {
            self.receives(endpoint, id);
        }
        let end = match self.rng.u32(0..10) {
            0 => Verdict::Cancelled,
            1.. if arrives => Verdict::Delivered(last("ok", self.now)),
            _ => missed(),
        };
        println!("{}: the leg of {id} to {endpoint} ends: {end:?}", self.step);
        self.core.ended(self.now, JobId::new(id), ENDPOINTS[endpoint], 1, end);
    }

    /// The journal commits some of the pending writes, or fails.
    fn commit(&mut self) {
        let count = self.rng.usize(0..=self.unwritten.len());
        let fails = self.weather.full_disk && self.rng.u32(0..3) == 0;
        if self.broken && !fails {
            println!("{}: the journal is open again", self.step);
            self.broken = false;
            let mut with = Reconciliation::new(&self.on_disk());
            while !self.core.reconcile(&mut with) {}
            return;
        }
        // It is unknown whether a failed commit is on disk.
        let lands = !fails || (!self.broken && self.rng.bool());
        self.broken |= fails && count > 0;
        for write in self.unwritten.drain(..count).collect::<Vec<_>>() {
            if lands {
                self.apply(&write);
            }
            if let (Receipt::Job(id), true) = (write.receipt, !fails) {
                self.asked.get_mut(&id.get()).unwrap().acknowledged = Some(self.step);
            }
            self.core.written(self.now, write.receipt, !fails);
        }
    }

    fn on_disk(&self) -> Vec<Entry> {
        let entries = self.store.values().flat_map(|stored| {
            let entry = |(index, _, attempts): &_| Entry { job: stored.id, index: *index, attempts: *attempts };
            stored.owed.iter().map(entry)
        });
        entries.collect()
    }

    fn apply(&mut self, write: &Write) {
        println!("{}: on disk: {} {}", self.step, write.job, write.change.name());
        match &write.change {
            Change::Put(stored) => {
                self.store.insert(stored.id.get(), (**stored).clone());
            }
            Change::Tried { index, attempts, .. } => {
                if let Some(stored) = self.store.get_mut(&write.job.get()) {
                    stored.owed.iter_mut().filter(|(at, ..)| at == index).for_each(|owed| owed.2 = *attempts);
                }
            }
            Change::Withdrawn => {
                assert!(!self.core.job(write.job).is_some_and(Job::is_owed), "rule 1: {} is owed", write.job);
                self.store.remove(&write.job.get());
            }
            Change::Settled { index, last } => {
                let Some(stored) = self.store.get_mut(&write.job.get()) else { return };
                stored.owed.retain(|(at, ..)| at != index);
                // Those whose ends were not written are no longer owed either.
                assert!(*last || !stored.owed.is_empty(), "the last delivery of {} is named as such", write.job);
                if *last {
                    self.store.remove(&write.job.get());
                }
            }
        }
    }

    fn send_and_end(&mut self) {
        loop {
            let before = ENDPOINTS.map(|name| super::owed(&self.core, name));
            let Some(copy) = self.core.next(self.now) else { break };
            let endpoint = place(&copy.whom.key);
            assert!(self.present[endpoint], "nobody is there at {}", copy.address);
            assert_eq!(*copy.request, self.asked[&copy.job.get()].request, "what is sent is what was asked");
            assert!(self.store.contains_key(&copy.job.get()), "rule 1: {} is on disk", copy.job);
            self.sending.push((copy, before[endpoint].clone()));
        }
        if self.sending.is_empty() {
            return;
        }
        let (copy, before) = self.sending.swap_remove(self.rng.usize(0..self.sending.len()));
        let endpoint = place(&copy.whom.key);
        let arrives = self.up[endpoint];
        if arrives {
            self.receives(endpoint, copy.job.get());
        }
        if !arrives || self.rng.u32(0..10) == 0 {
            self.core.tried(self.now, copy.attempt, missed());
            return;
        }
        while !self.core.tick(self.now) {}
        let owed = |core: &Core| super::owed(core, ENDPOINTS[endpoint]);
        let then = owed(&self.core);
        self.core.tried(self.now, copy.attempt, Verdict::Delivered(last("ok", self.now)));
        self.core.check();
        while !self.core.tick(self.now) {
            self.core.check();
        }
        let after = owed(&self.core);
        let done: Vec<_> = then.into_iter().filter(|id| !after.contains(id)).collect();
        self.merged(copy.job.get(), endpoint, &before, &done);
    }

    /// Rule 4: the deliveries for which a copy stood were equal to it, with no other delivery for the same target in between.
    fn merged(&mut self, sent: u64, endpoint: usize, before: &[u64], done: &[u64]) {
        let equal = |id: &u64| {
            let key = |request: &Request| request.head.split(|byte| *byte == b'\n').nth(1).map(<[u8]>::to_vec);
            let (a, b) = (&self.asked[id].request, &self.asked[&sent].request);
            (&a.method, &a.host, &a.target, &a.body, key(a)) == (&b.method, &b.host, &b.target, &b.body, key(b))
        };
        for id in done.iter().filter(|id| **id != sent) {
            assert!(equal(id) && self.asked[id].request.body.is_empty() && *id < sent, "rule 4: {id} is not {sent}");
            let between = before.iter().filter(|other| (*id..sent).contains(other));
            let same_target = |other: &&u64| self.asked[other].request.target == self.asked[&sent].request.target;
            for other in between.filter(same_target) {
                assert!(equal(other), "rule 4: merging {id} into {sent} crossed {other}");
            }
            self.carried.insert((*id, endpoint));
        }
    }

    fn receives(&mut self, endpoint: usize, id: u64) {
        println!("{}: {endpoint} receives {id}", self.step);
        self.received[endpoint].push(id);
    }

    fn flap(&mut self) {
        let endpoint = self.rng.usize(0..3);
        if self.rng.bool() {
            self.up[endpoint] = !self.up[endpoint];
        } else {
            self.present[endpoint] = !self.present[endpoint];
        }
        self.tell_members();
    }

    /// Kills the process: unwritten data is lost, and writes in progress may have happened or not.
    fn crash(&mut self) {
        println!("{}: crash", self.step);
        let torn = self.rng.usize(0..=self.unwritten.len());
        for write in self.unwritten.drain(..).take(torn).collect::<Vec<_>>() {
            self.apply(&write);
        }
        for (copy, _) in std::mem::take(&mut self.sending) {
            let endpoint = place(&copy.whom.key);
            if self.up[endpoint] && self.rng.bool() {
                self.receives(endpoint, copy.job.get());
            }
        }
        for (id, endpoint) in std::mem::take(&mut self.pending) {
            if self.up[endpoint] && self.rng.bool() {
                self.receives(endpoint, id);
            }
        }
        self.broken = false;
        self.live.clear();
        self.core = core(&self.weather, self.rng.u64(..));
        let stored: Vec<_> = self.store.values().cloned().collect();
        let owed = stored
            .iter()
            .flat_map(|stored| stored.owed.iter().map(|(_, whom, _)| (stored.route.clone(), whom.clone())));
        let owed: Vec<_> = owed.collect();
        owed.iter().for_each(|(route, whom)| self.core.hold(route, whom.clone()));
        self.tell_members();
        for stored in stored {
            self.core.recover(self.now, stored);
            self.core.check();
            let before = ENDPOINTS.map(|name| super::owed(&self.core, name));
            if let Some(copy) = self.core.next(self.now) {
                assert_eq!(&*copy.route, "unordered", "rule 2: nothing goes before all are there");
                self.sending.push((copy.clone(), before[place(&copy.whom.key)].clone()));
            }
        }
        owed.iter().for_each(|(route, whom)| self.core.let_go(route, &whom.key));
    }

    /// Makes all endpoints ready, and runs until everything is delivered.
    fn settle_down(&mut self) {
        (self.up, self.present) = ([true; 3], [true; 3]);
        self.tell_members();
        for _ in 0..10_000 {
            self.progress();
            self.commit();
            self.send_and_end();
            self.now += 50;
            self.after();
            if self.core.is_clear() && self.live.is_empty() && self.unwritten.is_empty() && !self.broken {
                assert!(self.store.is_empty(), "nothing is left on disk: {:?}", self.store.keys());
                return;
            }
        }
        panic!("something is owed for ever: {:#?}", self.core);
    }

    fn judge(&self) {
        for (id, asked) in self.asked.iter().filter(|(_, asked)| asked.acknowledged.is_some()) {
            for (endpoint, received) in self.received.iter().enumerate() {
                let has = received.contains(id) || self.carried.contains(&(*id, endpoint));
                assert!(
                    has || self.expired.contains(&(*id, endpoint)),
                    "rule 1: {id} never reached {endpoint}: {asked:?}"
                );
            }
        }
        if !self.weather.full_disk {
            self.judge_order();
        }
    }

    /// Rule 2: where a request was acknowledged before another one arrived, an endpoint has the other one last.
    fn judge_order(&self) {
        for (endpoint, received) in self.received.iter().enumerate() {
            let last = |id: u64| received.iter().rposition(|other| *other == id);
            for (a, first) in self.asked.iter().filter(|(_, asked)| asked.ordered) {
                for (b, second) in self.asked.range(a + 1..).filter(|(_, asked)| asked.ordered) {
                    let follows = first.acknowledged.is_some_and(|at| at < second.arrived);
                    let same = first.request.target == second.request.target;
                    let free =
                        self.carried.contains(&(*b, endpoint)) || (!same && self.postponed.contains(&(*a, endpoint)));
                    if let (true, false, Some(at), Some(then)) = (follows, free, last(*a), last(*b)) {
                        assert!(at < then, "rule 2: {endpoint} received {a} after {b}: {received:?}");
                    }
                }
            }
        }
    }
}

fn all(name: &str, weather: impl Fn(u64) -> Weather) {
    let seed = testkit::seed::random();
    for run in 0..400 {
        let weather = weather(seed.wrapping_add(run));
        println!("{name}: {weather:?}");
        World::new(weather).run();
    }
}

const LONG: Duration = Duration::from_secs(86_400);

#[test]
fn rules_1_to_5_hold_in_fair_weather() {
    all("fair", |seed| Weather { seed, crashes: false, full_disk: false, keep: LONG });
}

#[test]
fn rules_1_to_5_hold_over_crashes() {
    all("crashes", |seed| Weather { seed, crashes: true, full_disk: false, keep: LONG });
}

#[test]
fn rules_1_4_and_5_hold_over_crashes_while_the_disk_is_full_now_and_then() {
    all("full disk", |seed| Weather { seed, crashes: true, full_disk: true, keep: LONG });
}

#[test]
fn rules_1_to_5_hold_over_crashes_while_requests_expire() {
    all("expiry", |seed| Weather { seed, crashes: true, full_disk: false, keep: Duration::from_secs(20) });
}
