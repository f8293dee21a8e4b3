//! The choice of the next copy, and the handling of its outcome.

use super::{Change, Core, EndpointId, Receipt, RouteId, State, Write};
use crate::{JobId, Last, Millis, Request, Whom, millis};

use std::sync::Arc;

/// The id of a copy in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u64);

/// A copy to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Passed back with [`Core::tried`].
    pub attempt: AttemptId,
    /// Its job.
    pub job: JobId,
    /// The name of its route.
    pub route: Arc<str>,
    /// The current address of its endpoint.
    pub address: Arc<str>,
    /// Its endpoint.
    pub whom: Arc<Whom>,
    /// The request.
    pub request: Arc<Request>,
    /// The number of the attempt, counting the live one.
    pub number: u32,
    /// The age of the request.
    pub age: Millis,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint has it.
    Delivered(Last),
    /// The endpoint refused it, and another attempt would not help.
    Refused(Last),
    /// It failed and is retried.
    Missed(Last),
    /// It was cancelled on this side, which does not count against the endpoint.
    Cancelled,
}

/// An answered copy whose deliveries end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) job: JobId,
    pub(super) at: EndpointId,
    route: RouteId,
    state: State,
    last: Last,
}

/// A copy in flight.
#[derive(Debug)]
pub(super) struct Attempt {
    job: JobId,
    endpoint: EndpointId,
    route: RouteId,
}

impl super::Route {
    /// The next delivery of a queue of this route.
    fn head(&self, queue: &super::Queue) -> Option<JobId> {
        queue.head(self.rules.order).filter(|_| self.in_use)
    }
}

impl Core {
    /// The next copy to send, if there is one. The sender reports its outcome with [`Core::tried`].
    pub fn next(&mut self, now: Millis) -> Option<Copy> {
        if !self.tick(now) {
            return None;
        }
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

    /// The number of copies in flight.
    #[must_use]
    pub fn sending(&self) -> usize {
        self.attempts.len()
    }

    /// Handles the outcome of an attempt.
    pub fn tried(&mut self, now: Millis, attempt: AttemptId, verdict: Verdict) {
        let Some(Attempt { job, endpoint: at, route }) = self.attempts.remove(&attempt) else { return };
        let (state, last) = match verdict {
            Verdict::Delivered(last) => (State::Delivered, last),
            Verdict::Refused(last) => (State::Refused, last),
            Verdict::Missed(_) | Verdict::Cancelled => return self.tried_in_vain(now, (job, at, route), verdict),
        };
        if let Some(endpoint) = self.endpoint_mut(at) {
            endpoint.failures = 0;
            let before = std::mem::take(&mut endpoint.not_before);
            self.probes.remove(&(before, at));
        }
        self.answers.push_back(Answer { job, at, route, state, last });
        self.end_answered(now, self.limits.per_turn);
    }

    /// Ends so many deliveries that were answered. Returns how many more there may be in this turn.
    ///
    /// A copy counts as in flight until the last delivery has ended for which it stands.
    pub(super) fn end_answered(&mut self, now: Millis, mut most: usize) -> usize {
        while most > 0
            && let Some(answer) = self.answers.pop_front()
        {
            let Some(left) = self.end_stood_for(now, &answer, most) else {
                self.answers.push_front(answer);
                return 0;
            };
            most = left.saturating_sub(1);
            if let Some(delivery) = self.delivery_mut(answer.job, answer.at).filter(|it| it.state == State::Sending) {
                delivery.attempts = delivery.attempts.saturating_add(1);
                self.end(now, answer.job, &answer);
            }
            self.is_sent(answer.at, answer.route);
            self.wake(answer.at);
            self.forget_if_idle(answer.at);
        }
        most
    }

    /// Ends a delivery that was answered.
    pub(super) fn end(&mut self, now: Millis, job: JobId, answer: &Answer) {
        if let Some(delivery) = self.delivery_mut(job, answer.at) {
            delivery.last = Some(Box::new(answer.last.clone()));
        }
        self.settle(now, job, answer.at, answer.state);
    }

    /// A copy is in flight no more.
    fn is_sent(&mut self, at: EndpointId, route: RouteId) {
        if let Some(endpoint) = self.endpoint_mut(at) {
            endpoint.sending -= 1;
            if let Some(queue) = endpoint.queue_mut(route) {
                queue.sending -= 1;
            }
        }
    }

    fn tried_in_vain(&mut self, now: Millis, (job, at, route): (JobId, EndpointId, RouteId), verdict: Verdict) {
        self.is_sent(at, route);
        let still = self.delivery(job, at).is_some_and(|delivery| delivery.state == State::Sending);
        match verdict {
            Verdict::Missed(last) => {
                self.failed(now, at);
                self.stand_no_more(at, job);
                if still {
                    self.missed(now, job, at, last);
                }
            }
            _ => {
                self.stand_no_more(at, job);
                if still {
                    self.release(now, job, at);
                }
            }
        }
        self.wake(at);
        self.forget_if_idle(at);
    }

    /// Queues an endpoint for sending, if it has something to send.
    pub(super) fn wake(&mut self, id: EndpointId) {
        let routes = &self.routes;
        let Some(endpoint) = self.endpoints.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let mut queues = endpoint.queues.iter();
        let any = queues.any(|(route, queue)| routes[route.0 as usize].head(queue).is_some());
        if any && !endpoint.queued {
            endpoint.queued = true;
            self.turn.push_back(id);
        }
    }

    /// Delays retries of a failed endpoint. Simultaneous failures count as one.
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

    /// The next delivery of an endpoint: the first of its queues in turn that can send.
    fn pick(&mut self, now: Millis, id: EndpointId) -> Option<(RouteId, JobId)> {
        self.ready_member(id)?;
        let endpoint = self.endpoint(id)?;
        if endpoint.dropping.is_some() || (endpoint.failures > 0 && (endpoint.sending > 0 || now < endpoint.not_before))
        {
            return None;
        }
        let queues = endpoint.queues.len();
        let found = (0..queues).map(|step| (endpoint.next_queue + step) % queues).find_map(|index| {
            let (route, queue) = &endpoint.queues[index];
            self.routes[route.0 as usize].head(queue).map(|job| (index, *route, job))
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

    /// The retry delay of an endpoint, with jitter.
    fn pause(&mut self, failures: u32) -> Millis {
        let (least, most) = (millis(self.limits.backoff.0), millis(self.limits.backoff.1));
        let plain = least.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
        let jittered = plain - plain / 4 + self.rng.u64(0..=plain / 2);
        jittered.clamp(least.min(most), most)
    }
}
