//! The end of deliveries and jobs.

use super::{Change, Core, EndpointId, Event, Receipt, RouteId, SettledAt, State, Write};
use crate::{JobId, Millis, Request, millis};

use std::sync::Arc;

use bytes::Bytes;

impl Core {
    /// Settles a delivery.
    ///
    /// Its endpoint counts as owed until the journal has recorded that: otherwise a live request could be sent first, and after a
    /// crash the older one would be repeated after it.
    pub(super) fn settle(&mut self, now: Millis, id: JobId, endpoint: EndpointId, state: State) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (route, resource, age) = (job.route, job.resource, now.saturating_sub(job.arrived));
        let Some(at) = job.index_of(endpoint).filter(|at| job.deliveries[*at].state.is_owed()) else { return };
        let delivery = &mut job.deliveries[at];
        delivery.state = state;
        let index = delivery.index;
        job.owed -= 1;
        let last = job.owed == 0;
        self.events.push(Event { route: self.routes[route.0 as usize].name.clone(), state, age });
        if let Some(endpoint) = self.endpoint_mut(endpoint) {
            endpoint.owed -= 1;
        }
        if self.journalled {
            if let Some(queue) = self.queue_mut(endpoint, route) {
                queue.unsettled += 1;
            }
            let receipt = Receipt::Settled(SettledAt { endpoint, route });
            self.writes.push(Write { job: id, change: Change::Settled { index, last }, receipt });
        }
        if last {
            self.finish(now, id);
        }
        self.unlink(id, endpoint, route, resource);
    }

    /// Removes a delivery from the queues of its endpoint.
    pub(super) fn unlink(&mut self, id: JobId, at: EndpointId, route: RouteId, resource: u64) {
        let Some(endpoint) = self.endpoint_mut(at) else { return };
        endpoint.resources.remove(&(resource, id));
        if let Some(queue) = endpoint.queue_mut(route) {
            queue.waiting.remove(&id);
            queue.places.remove(&id);
        }
        if let Some(before) = self.predecessor(at, resource, id) {
            self.remerge(at, before);
        }
        self.wake(at);
        self.forget_if_idle(at);
    }

    /// Finishes a job. It is remembered without its head and body.
    fn finish(&mut self, now: Millis, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let request = &job.request;
        job.request = Arc::new(Request {
            method: request.method.clone(),
            host: request.host.clone(),
            target: request.target.clone(),
            head: Bytes::new(),
            body: Bytes::new(),
            trailers: Bytes::new(),
        });
        let (route, expires, size) = (job.route, job.expires, job.size);
        self.owes_no_more(id, expires, size);
        let keep = millis(self.rules(route).keep);
        self.done.insert((now.saturating_add(keep), id));
        // One more is remembered, and two fewer where there are too many.
        self.forget_done(now, 2);
    }

    /// Subtracts a job of this size from the totals.
    pub(super) fn owes_no_more(&mut self, id: JobId, expires: Millis, size: u32) {
        self.expiry.remove(&(expires, id));
        self.owed_jobs -= 1;
        self.owed_bytes -= size as usize;
    }

    /// Forgets finished jobs after some time, and the oldest if there are too many, but no more than so many at a time.
    pub(super) fn forget_done(&mut self, now: Millis, most: usize) {
        for _ in 0..most {
            let Some(&(_, id)) = self.done.first().filter(|_| self.has_to_forget(now)) else { return };
            self.done.pop_first();
            self.jobs.remove(&id);
        }
    }

    pub(super) fn has_to_forget(&self, now: Millis) -> bool {
        self.done.first().is_some_and(|(at, _)| *at <= now) || self.done.len() > self.limits.remembered
    }

    /// Expires a job, and returns how many deliveries end by that. Copies in flight and pending writes end first.
    pub(super) fn expire(&mut self, now: Millis, id: JobId) -> usize {
        let Some(job) = self.jobs.get(&id) else { return 0 };
        let waiting = job.deliveries.iter().filter(|one| matches!(one.state, State::Waiting | State::Merged));
        let waiting: Vec<_> = waiting.map(|delivery| delivery.endpoint).collect();
        for endpoint in &waiting {
            self.settle(now, id, *endpoint, State::Expired);
        }
        waiting.len()
    }
}
