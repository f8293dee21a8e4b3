//! What is sent next, and what becomes of it.

use super::{Change, Core, EndpointId, Receipt, RouteId, State, Write};
use crate::{JobId, Last, Millis, Request, Whom, millis};

use std::sync::Arc;

/// Names a copy on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u64);

/// A copy to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Comes back with [`Core::tried`].
    pub attempt: AttemptId,
    /// Its job.
    pub job: JobId,
    /// The name of its route.
    pub route: Arc<str>,
    /// Where its endpoint is now.
    pub address: Arc<str>,
    /// Whom it is owed to.
    pub whom: Arc<Whom>,
    /// The request.
    pub request: Arc<Request>,
    /// Which try this is, the live one counted.
    pub number: u32,
    /// How old the request is.
    pub age: Millis,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint has it.
    Delivered(Last),
    /// The endpoint answered, and sending it again would change nothing.
    Refused(Last),
    /// It is tried again.
    Missed(Last),
    /// It was given up on this side, which says nothing about the endpoint.
    Cancelled,
}

/// A copy on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    job: JobId,
    endpoint: EndpointId,
    route: RouteId,
}

impl Core {
    /// A copy to send now, if there is one. Whoever sends it tells with [`Core::tried`] how that ended.
    pub fn next(&mut self, now: Millis) -> Option<Copy> {
        self.tick(now);
        while self.attempts.len() < self.limits.concurrency {
            let id = self.turn.pop_front()?;
            if let Some(endpoint) = self.endpoint_mut(id) {
                endpoint.queued = false;
            }
            if let Some((route, job)) = self.pick(now, id)
                && let Some(copy) = self.begin(now, id, route, job)
            {
                self.wake(id);
                return Some(copy);
            }
        }
        None
    }

    /// Copies on their way.
    #[must_use]
    pub fn sending(&self) -> usize {
        self.attempts.len()
    }

    /// A try has ended.
    pub fn tried(&mut self, now: Millis, attempt: AttemptId, verdict: Verdict) {
        let Some(Attempt { job, endpoint: at, route }) = self.attempts.remove(&attempt) else { return };
        if let Some(endpoint) = self.endpoint_mut(at) {
            endpoint.sending -= 1;
            if let Some(queue) = endpoint.queue_mut(route) {
                queue.sending -= 1;
            }
        }
        let still = self.delivery(job, at).is_some_and(|delivery| delivery.state == State::Sending);
        match verdict {
            Verdict::Delivered(last) => self.answered(now, (job, at), State::Delivered, last),
            Verdict::Refused(last) => self.answered(now, (job, at), State::Refused, last),
            Verdict::Missed(last) => {
                self.failed(now, at);
                self.stand_no_more(at, job);
                if still {
                    self.missed(now, job, at, last);
                }
            }
            Verdict::Cancelled => {
                self.stand_no_more(at, job);
                if still {
                    self.release(now, job, at);
                }
            }
        }
        self.wake(at);
        self.forget_if_idle(at);
    }

    /// Gives an endpoint its turn, if it has something to send.
    pub(super) fn wake(&mut self, id: EndpointId) {
        let routes = &self.routes;
        let Some(endpoint) = self.endpoints.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let mut queues = endpoint.queues.iter();
        let any = queues.any(|(route, queue)| queue.head(routes[route.0 as usize].rules.order).is_some());
        if any && !endpoint.queued {
            endpoint.queued = true;
            self.turn.push_back(id);
        }
    }

    /// An endpoint did not do what it should: it is left alone for a while. Many failures at once count as one.
    pub(super) fn failed(&mut self, now: Millis, id: EndpointId) {
        let Some(endpoint) = self.endpoint(id) else { return };
        if endpoint.failures > 0 && now < endpoint.not_before {
            return;
        }
        let (before, failures) = (endpoint.not_before, endpoint.failures.saturating_add(1));
        let until = now.saturating_add(self.pause(failures));
        self.probes.remove(&(before, id));
        self.probes.insert((until, id));
        if let Some(endpoint) = self.endpoint_mut(id) {
            (endpoint.failures, endpoint.not_before) = (failures, until);
        }
    }

    /// Which delivery an endpoint gets now: the first of the next of its queues that can go on.
    fn pick(&mut self, now: Millis, id: EndpointId) -> Option<(RouteId, JobId)> {
        self.ready_member(id)?;
        let endpoint = self.endpoint(id)?;
        if endpoint.failures > 0 && (endpoint.sending > 0 || now < endpoint.not_before) {
            return None;
        }
        let queues = endpoint.queues.len();
        let found = (0..queues).map(|step| (endpoint.next_queue + step) % queues).find_map(|index| {
            let (route, queue) = &endpoint.queues[index];
            queue.head(self.rules(*route).order).map(|job| (index, *route, job))
        });
        let (index, route, job) = found?;
        self.endpoint_mut(id)?.next_queue = index + 1;
        Some((route, job))
    }

    fn begin(&mut self, now: Millis, at: EndpointId, route: RouteId, id: JobId) -> Option<Copy> {
        let address = self.ready_member(at)?.address.clone();
        let delivery = self.delivery_mut(id, at)?;
        delivery.state = State::Sending;
        let (whom, number) = (delivery.whom.clone(), delivery.attempts.saturating_add(1));
        let endpoint = self.endpoint_mut(at)?;
        endpoint.sending += 1;
        let queue = endpoint.queue_mut(route)?;
        queue.waiting.remove(&id);
        queue.sending += 1;
        self.next_attempt += 1;
        let attempt = AttemptId(self.next_attempt);
        self.attempts.insert(attempt, Attempt { job: id, endpoint: at, route });
        let job = self.jobs.get(&id)?;
        let (request, age) = (job.request.clone(), now.saturating_sub(job.arrived));
        self.stand(at, id);
        let route = self.routes[route.0 as usize].name.clone();
        Some(Copy { attempt, job: id, route, address, whom, request, number, age })
    }

    /// The endpoint has answered, so it is there again. What was merged into the delivery ends like it.
    fn answered(&mut self, now: Millis, (job, at): (JobId, EndpointId), state: State, last: Last) {
        if let Some(endpoint) = self.endpoint_mut(at) {
            endpoint.failures = 0;
            let before = std::mem::take(&mut endpoint.not_before);
            self.probes.remove(&(before, at));
        }
        let mut done = self.stood_for(at, job);
        if self.delivery(job, at).is_some_and(|delivery| delivery.state == State::Sending) {
            done.push(job);
        }
        for id in done {
            if let Some(delivery) = self.delivery_mut(id, at) {
                delivery.last = Some(Box::new(last.clone()));
                if id == job {
                    delivery.attempts = delivery.attempts.saturating_add(1);
                }
            }
            self.settle(now, id, at, state);
        }
    }

    fn missed(&mut self, now: Millis, id: JobId, at: EndpointId, last: Last) {
        let journalled = self.journalled;
        let Some(delivery) = self.delivery_mut(id, at) else { return };
        delivery.attempts = delivery.attempts.saturating_add(1);
        delivery.last = Some(Box::new(last));
        let change = Change::Tried { index: delivery.index, whom: delivery.whom.clone(), attempts: delivery.attempts };
        if journalled {
            self.writes.push(Write { job: id, change, receipt: Receipt::None });
        }
        self.release(now, id, at);
    }

    /// How long an endpoint is left alone, with jitter.
    fn pause(&mut self, failures: u32) -> Millis {
        let (least, most) = (millis(self.limits.backoff.0), millis(self.limits.backoff.1));
        let plain = least.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
        let jittered = plain - plain / 4 + self.rng.u64(0..=plain / 2);
        jittered.clamp(least.min(most), most)
    }
}
