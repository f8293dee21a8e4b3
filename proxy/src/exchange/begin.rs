//! The beginning of an exchange: it is set up for a request, in the memory of an earlier one, and its legs begin. At the end it is
//! put aside for reuse.

use std::{hint::cold_path, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Exchange, Leg, Outgoing,
    budget::{Budget, Share},
    choice::Choice,
    compare::Keeping,
    deferred,
    gather::Waits,
    leg::{MAX_HELD_BYTES, Own, Terms},
    legs::Legs,
    quorum::Quorum,
    spare,
    wake::Wakers,
    waves::Progress,
    window::{Coding, Window},
};
use crate::{
    buffers, clock,
    config::{Compare, Limits, Policy},
    http::LastHead,
    table::RouteEntry,
    target::Target,
    traces::{self, Parents},
};

/// The window for a body that is kept for waves: the whole body plus the cost of its pieces.
fn kept_window(policy: &Policy) -> usize {
    let kept = usize::try_from(policy.max_kept_body).unwrap_or(usize::MAX / 2);
    kept.saturating_add(policy.window)
}

/// How much of the body of an answer is held until the decision.
fn held_bytes(policy: &Policy, is_grpc: bool) -> usize {
    let held = if is_grpc { policy.grpc_max_message } else { MAX_HELD_BYTES };
    // What the answer says about the others waits for all of it that is compared.
    if policy.compare == Compare::Body { held.max(Compare::MAX_BODY) } else { held }
}

/// The properties of a request that its legs need.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Whether it is idempotent.
    pub is_idempotent: bool,
    /// How the legs frame the body.
    pub coding: Coding,
    /// Whether there is a body at all.
    pub has_body: bool,
    /// Whether the client asked for the report.
    pub wants_report: bool,
    /// How many bytes of the start of every answer's body the report shows.
    pub excerpt: usize,
    /// The worker that serves it.
    pub worker: usize,
    /// Whether it is a gRPC request.
    pub is_grpc: bool,
    /// The client's time-out, from now on.
    pub time_left: Option<Duration>,
}

// === impl Exchange ===

impl Exchange {
    /// An exchange for `route` without legs, if possible a reused one of this thread.
    #[must_use]
    pub fn new(route: &Arc<RouteEntry>, request: &Request<'_>, budget: &Arc<Budget>, config: &Limits) -> Box<Self> {
        let mut exchange = spare::take().unwrap_or_else(|| Box::new(Self::blank(route, budget)));
        exchange.reset(route, request, budget, config);
        exchange
    }

    fn blank(route: &Arc<RouteEntry>, budget: &Arc<Budget>) -> Self {
        Self {
            route: route.clone(),
            legs: Legs::default(),
            resting: Vec::new(),
            window: Window::default(),
            quorum: Quorum::default(),
            choice: Choice::default(),
            outgoing: Outgoing::default(),
            head: Vec::new(),
            shared_head: Default::default(),
            method: Vec::new(),
            last_head: LastHead::default(),
            wants_report: false,
            wakers: Wakers::default(),
            terms: Terms::default(),
            coding: Coding::default(),
            waves: Progress::default(),
            trace: None,
            owing: deferred::Owing::default(),
            cap: 0,
            total: Duration::ZERO,
            gives_up: None,
            deadline: None,
            next_expiry: None,
            share: Share::of(budget),
            waits: Waits::default(),
        }
    }

    /// Sets it up for this request. Fields that are not set here were cleared when it was put aside.
    fn reset(&mut self, route: &Arc<RouteEntry>, request: &Request<'_>, budget: &Arc<Budget>, config: &Limits) {
        // Usually the route is the same, which avoids changing reference counts.
        if !Arc::ptr_eq(&self.route, route) {
            cold_path();
            self.route = route.clone();
        }
        self.share.be_of(budget);
        let policy = &route.config.policy;
        self.window.reset(if policy.waves.is_some() { kept_window(policy) } else { policy.window });
        if !request.has_body {
            self.window.finish();
        }
        self.quorum = Quorum::new(policy.require, route.members.len());
        self.choice = Choice::new(request.wants_report, request.is_grpc, &self.quorum);
        self.method.extend_from_slice(request.method);
        self.wants_report = request.wants_report;
        self.terms = Terms {
            worker: request.worker,
            is_head: request.method == b"HEAD",
            is_idempotent: request.is_idempotent,
            retries: policy.retries,
            connect: policy.timeouts.connect,
            first_byte: policy.timeouts.first_byte,
            pool: config.pool,
            pool_idle: config.pool_idle,
            grpc: request.is_grpc.then(|| policy.success.grpc()),
            hold: held_bytes(policy, request.is_grpc),
            keeping: Keeping::new(policy, request.excerpt, route.members.len()),
        };
        self.total = policy.timeouts.total;
        self.gives_up = request.time_left.map(|left| clock::now() + left);
        (self.coding, self.cap) = (request.coding, config.inflight_per_endpoint);
        (self.deadline, self.next_expiry, self.trace) = (None, None, None);
        self.waits = Waits::default();
    }

    /// Clears it and puts it aside for reuse. Legs that still run are ended.
    pub fn put_aside(mut self: Box<Self>) {
        let mut legs = self.legs.end();
        if legs.len() > spare::MAX_SPARE_LEGS {
            cold_path();
            legs.truncate(spare::MAX_SPARE_LEGS);
            self.wakers = Wakers::default();
        }
        if !legs.is_empty() {
            legs.iter_mut().for_each(Leg::clear);
            self.resting = legs;
        }
        self.window.clear();
        self.owing.clear();
        self.outgoing.clear();
        self.shared_head.clear();
        self.share.set(0);
        for bytes in [&mut self.head, &mut self.method] {
            bytes.clear();
            bytes.shrink_to(buffers::READ_BUFFER_BYTES);
        }
        spare::give(self);
    }

    /// Begins every leg with the head that `put_head` writes.
    pub fn begin(&mut self, put_head: impl FnOnce(&mut Vec<u8>)) {
        put_head(&mut self.head);
        let parents = self.trace.and_then(|trace| Parents::in_head(&self.head, trace));
        self.begin_legs(|index, _| parents.map(|parents| Own::Parent(parents.of(index))));
    }

    /// Begins every leg with a head of its own from `head_for`.
    pub fn begin_each(&mut self, head_for: impl Fn(&Target) -> Bytes) {
        let trace = self.trace;
        self.begin_legs(|index, target| {
            let head = head_for(target);
            Some(Own::Head(match trace {
                Some(trace) => traces::with_parent(head.into(), trace, trace.leg_span(index)),
                None => head,
            }))
        });
    }

    fn begin_legs(&mut self, own: impl Fn(usize, &Target) -> Option<Own>) {
        let (now, total) = (clock::now(), self.route.members.len());
        self.waves = Progress::new(self.route.config.policy.waves, total);
        // The time spent waiting for the client's body does not count.
        self.total = self.time_left(now);
        self.deadline = Some(now + self.total);
        let mut legs = std::mem::take(&mut self.resting);
        self.wakers.reset(total);
        legs.truncate(total);
        legs.reserve(total - legs.len());
        for (index, member) in self.route.members.iter().enumerate() {
            match legs.get_mut(index) {
                Some(leg) => leg.reset(member, &self.terms, now),
                None => {
                    cold_path();
                    legs.push(Leg::new(member.clone(), &self.terms, now));
                }
            }
            // Also of one that is not sent now: it may be sent later.
            legs[index].wait_for_turn(own(index, member));
            if self.owing.holds_back(index) {
                cold_path();
                let (outcome, error) = deferred::held_back();
                legs[index].end_with(outcome, error, now);
            } else if member.is_ready {
                if self.waves.is_first(index) {
                    legs[index].start(&self.terms, self.cap, now);
                }
            } else {
                cold_path();
                let (outcome, error) = member.unavailable();
                legs[index].end_with(outcome, error, now);
            }
        }
        self.legs = Legs::begin(legs);
    }

    /// Starts the time of the legs anew. They have begun, but were not polled while the request waited for something else.
    pub fn restart_time(&mut self) {
        let now = clock::now();
        self.deadline = Some(now + self.total);
        for index in 0..self.legs.len() {
            self.legs.get_mut(index).restart_time(&self.terms, now);
        }
    }
}
