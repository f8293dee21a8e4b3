//! Arrivals of requests: legs that wait behind owed deliveries, and failed legs that become deliveries.

use super::{
    Change, Core, EndpointId, Receipt, RouteId, State, Verdict, Write,
    job::{Delivery, Job},
};
use crate::{
    JobId, Last, Millis, Request, Stored, Whom, fields, millis,
    rules::{Gone, Order},
};

use std::{hash::BuildHasher, sync::Arc};

/// The state of a leg when its request becomes a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leg {
    /// It was held back, because its endpoint has owed deliveries.
    Behind,
    /// It failed.
    Missed {
        /// How its last try ended.
        last: Last,
        /// How often it was tried; 0: it could not even be sent.
        attempts: u32,
    },
    /// It is still running.
    Pending,
}

/// A request was not accepted as a job, and its legs keep their outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not deferred: {0}")]
pub struct Refused(pub Why);

/// Why a request was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// `--redeliver-max-body`.
    #[error("the body is longer than --redeliver-max-body")]
    Body,
    /// `--redeliver-max-bytes`.
    #[error("pending deliveries have reached --redeliver-max-bytes")]
    Bytes,
    /// `--redeliver-max-jobs`.
    #[error("pending jobs have reached --redeliver-max-jobs")]
    Jobs,
    /// The journal could not be written.
    #[error("the journal cannot be written")]
    Journal,
    /// Some of the request was not there, or not any more.
    #[error("the request is not there as a whole")]
    Incomplete,
}

impl Why {
    /// Every reason.
    pub(crate) const ALL: [Self; 5] = [Self::Body, Self::Bytes, Self::Jobs, Self::Journal, Self::Incomplete];

    /// Its name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Body => "max_body",
            Self::Bytes => "max_bytes",
            Self::Jobs => "max_jobs",
            Self::Journal => "journal",
            Self::Incomplete => "incomplete",
        }
    }
}

impl Core {
    /// Whether a new request must wait at an endpoint. If so it has a place in the queue there, until [`Core::defer`] accepts it as
    /// a job or [`Core::leave`] gives the place up.
    pub fn arrive(&mut self, id: JobId, route: RouteId, key: &str) -> bool {
        if self.rules(route).order == Order::None {
            return false;
        }
        let Some(endpoint) = self.endpoint_ids.get(key).copied() else { return false };
        let Some(endpoint) = self.endpoint_mut(endpoint) else { return false };
        let Some(queue) = endpoint.queue_mut(route).filter(|queue| !queue.is_clear()) else { return false };
        queue.places.insert(id);
        true
    }

    /// Has new requests wait at an endpoint, and sends it nothing, because jobs of the journal are about to be recovered that it is
    /// owed: they come one turn after the other, and nothing may be sent between them. It ends with [`Core::let_go`].
    pub fn hold(&mut self, route: &str, whom: Whom) {
        let (route, whom) = (self.route_named(route), self.strings.whom(whom));
        let endpoint = self.endpoint_for(&whom);
        if let Some(endpoint) = self.endpoint_mut(endpoint) {
            endpoint.queue_for(route).places.insert(JobId::FIRST);
        }
    }

    /// All jobs are recovered that this endpoint is owed.
    pub fn let_go(&mut self, route: &str, key: &str) {
        let route = self.route_named(route);
        self.leave(JobId::FIRST, route, key);
    }

    /// Gives up the place of a request that does not become a job.
    pub fn leave(&mut self, id: JobId, route: RouteId, key: &str) {
        let Some(endpoint) = self.endpoint_ids.get(key).copied() else { return };
        if self.delivery(id, endpoint).is_some() {
            return;
        }
        if let Some(queue) = self.queue_mut(endpoint, route) {
            queue.places.remove(&id);
        }
        self.wake(endpoint);
        self.forget_if_idle(endpoint);
    }

    /// Accepts a request as a job. It may be acknowledged when its receipt was [written](Core::written), or at once without a
    /// journal. If it is refused, its places are given up.
    pub fn defer(
        &mut self,
        now: Millis,
        id: JobId,
        (route, arrived): (RouteId, Millis),
        request: Request,
        legs: Vec<(Whom, Leg)>,
    ) -> Result<(), Refused> {
        let size = request.size();
        let why = if request.body.len() > self.rules(route).max_body {
            Some(Why::Body)
        } else if self.owed_jobs >= self.limits.max_jobs {
            Some(Why::Jobs)
        } else if self.owed_bytes.saturating_add(size) > self.limits.max_bytes {
            Some(Why::Bytes)
        } else {
            None
        };
        if let Some(why) = why {
            for (whom, _) in &legs {
                self.leave(id, route, &whom.key);
            }
            return Err(Refused(why));
        }
        let job = self.new_job((route, arrived), request, legs);
        self.insert(now, id, job);
        if self.journalled {
            let Some(job) = self.jobs.get(&id) else { return Ok(()) };
            let stored = job.stored(id, &self.routes[route.0 as usize].name);
            self.writes.push(Write { job: id, change: Change::Put(Box::new(stored)), receipt: Receipt::Job(id) });
        } else {
            self.release_job(now, id);
        }
        Ok(())
    }

    /// Handles the end of a live leg, after this number of attempts, whose request was accepted as a job.
    pub fn ended(&mut self, now: Millis, id: JobId, key: &str, attempts: u32, end: Verdict) {
        let Some(endpoint) = self.endpoint_ids.get(key).copied() else { return };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let committed = job.committed;
        let Some(index) = job.index_of(endpoint) else { return };
        let delivery = &mut job.deliveries[index];
        if delivery.state != State::Pending {
            return;
        }
        delivery.attempts = delivery.attempts.max(attempts);
        let (settled, missed, last) = match end {
            Verdict::Delivered(last) => (Some(State::Delivered), false, Some(last)),
            Verdict::Refused(last) => (Some(State::Refused), false, Some(last)),
            Verdict::Missed(last) => (None, true, Some(last)),
            // It is unknown whether the endpoint has it.
            Verdict::Cancelled => (None, false, None),
        };
        delivery.last = last.map(Box::new);
        if let Some(state) = settled {
            return self.settle(now, id, endpoint, state);
        }
        delivery.state = State::Held;
        if committed {
            self.release(now, id, endpoint);
        }
        if missed {
            self.failed(now, endpoint);
        }
    }

    fn new_job(&mut self, (route, arrived): (RouteId, Millis), mut request: Request, legs: Vec<(Whom, Leg)>) -> Job {
        request.method = self.strings.text(request.method);
        request.host = self.strings.text(request.host);
        let keep = millis(self.rules(route).keep);
        let mut deliveries: Vec<Delivery> = Vec::with_capacity(legs.len());
        for (whom, leg) in legs {
            let whom = self.strings.whom(whom);
            let endpoint = self.endpoint_for(&whom);
            if deliveries.iter().any(|delivery| delivery.endpoint == endpoint) {
                continue;
            }
            let (attempts, state, last) = match leg {
                Leg::Behind => (0, State::Held, None),
                Leg::Missed { last, attempts } => (attempts, State::Held, Some(Box::new(last))),
                Leg::Pending => (1, State::Pending, None),
            };
            let index = u32::try_from(deliveries.len()).unwrap_or(u32::MAX);
            deliveries.push(Delivery { whom, endpoint, index, attempts, state, last });
        }
        Job {
            route,
            arrived,
            expires: arrived.saturating_add(keep),
            resource: self.hasher.hash_one((&request.host, &request.target)),
            fields: fields::hash(&self.hasher, &request.head),
            owed: u32::try_from(deliveries.len()).unwrap_or(u32::MAX),
            size: u32::try_from(request.size()).unwrap_or(u32::MAX),
            request: Arc::new(request),
            deliveries: deliveries.into(),
            committed: false,
        }
    }

    /// Builds a job of the journal. Legs that were running count as failed, because their outcomes are unknown.
    pub(super) fn job_of(&mut self, stored: Stored, route: RouteId) -> Job {
        let mut job = self.new_job((route, stored.arrived), Arc::unwrap_or_clone(stored.request), Vec::new());
        let mut deliveries = Vec::with_capacity(stored.owed.len());
        for (index, whom, attempts) in stored.owed {
            let whom = self.strings.whom(whom);
            let endpoint = self.endpoint_for(&whom);
            deliveries.push(Delivery { whom, endpoint, index, attempts, state: State::Held, last: None });
        }
        job.expires = stored.expires;
        job.owed = u32::try_from(deliveries.len()).unwrap_or(u32::MAX);
        job.deliveries = deliveries.into();
        job
    }

    /// Adds the deliveries of a new job to the queues.
    pub(super) fn insert(&mut self, now: Millis, id: JobId, job: Job) {
        let route = job.route;
        let deliveries: Vec<_> = job.deliveries.iter().map(|one| (one.endpoint, one.last.is_some())).collect();
        self.owed_jobs += 1;
        self.owed_bytes += job.size as usize;
        self.expiry.insert((job.expires, id));
        self.jobs.insert(id, job);
        for (endpoint, missed) in deliveries {
            if let Some(endpoint) = self.endpoint_mut(endpoint) {
                endpoint.owed += 1;
                endpoint.queue_for(route).places.insert(id);
            }
            self.link(endpoint, id);
            if missed {
                self.failed(now, endpoint);
            }
        }
    }

    /// Queues the deliveries of a job that the journal has, or at once without a journal.
    pub(super) fn release_job(&mut self, now: Millis, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.committed = true;
        let held = job.deliveries.iter().filter(|delivery| delivery.state == State::Held);
        for endpoint in held.map(|delivery| delivery.endpoint).collect::<Vec<_>>() {
            self.release(now, id, endpoint);
        }
    }

    /// Queues a delivery, unless it is settled.
    pub(super) fn release(&mut self, now: Millis, id: JobId, endpoint: EndpointId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (route, expires) = (job.route, job.expires);
        let Some(index) = job.index_of(endpoint) else { return };
        job.deliveries[index].state = State::Waiting;
        if let Some(queue) = self.queue_mut(endpoint, route) {
            queue.places.remove(&id);
        }
        let left =
            self.members.is_some() && self.endpoint(endpoint).is_some_and(|it| self.member(&it.whom.key).is_none());
        if expires <= now {
            self.settle(now, id, endpoint, State::Expired);
        } else if left && self.rules(route).gone == Gone::Drop {
            self.settle(now, id, endpoint, State::Dropped);
        } else {
            self.link(endpoint, id);
            self.wake(endpoint);
        }
    }

    /// Drops a job that the journal could not write; its request is answered as a failure.
    pub(super) fn withdraw(&mut self, id: JobId) {
        if !self.jobs.get(&id).is_some_and(Job::is_owed) {
            return;
        }
        let Some(job) = self.jobs.remove(&id) else { return };
        self.owes_no_more(id, job.expires, job.size);
        for delivery in job.deliveries.iter().filter(|delivery| delivery.state.is_owed()) {
            if let Some(endpoint) = self.endpoint_mut(delivery.endpoint) {
                endpoint.owed -= 1;
            }
            self.unlink(id, delivery.endpoint, job.route, job.resource);
        }
    }
}
