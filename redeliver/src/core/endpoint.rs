//! An endpoint with owed deliveries, and its queues.

use super::{Core, EndpointId, Member, Members, RouteId, State, job::Delivery};
use crate::{
    JobId, Millis, Whom,
    rules::{Gone, Order},
};

use std::{collections::BTreeSet, sync::Arc};

/// An endpoint with owed deliveries.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) whom: Arc<Whom>,
    /// One queue for each route: order is per route.
    pub(super) queues: Vec<(RouteId, Queue)>,
    /// Its owed deliveries by Host and target, in order of arrival, over all routes.
    pub(super) resources: BTreeSet<(u64, JobId)>,
    /// The number of its owed deliveries.
    pub(super) owed: usize,
    /// Failed attempts since the last success.
    pub(super) failures: u32,
    /// When it is retried after a failure.
    pub(super) not_before: Millis,
    /// Copies in flight to it.
    pub(super) sending: usize,
    /// Copies in flight that stand for merged deliveries.
    pub(super) standing: Vec<Standing>,
    /// What is dropped, because it has left the snapshot.
    pub(super) dropping: Option<Dropping>,
    /// Whether it is in `Core::turn`.
    pub(super) queued: bool,
    /// The index of the queue whose turn it is.
    pub(super) next_queue: usize,
}

/// A copy in flight that stands for earlier, merged deliveries: for all that are merged in front of it without a gap.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) resource: u64,
    /// The one that is sent.
    pub(super) sent: JobId,
    /// The earliest delivery that it stands for; known only if one has been queued among them since.
    pub(super) from: Option<JobId>,
}

/// Deliveries of an endpoint that are being dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dropping {
    /// Where to go on.
    pub(super) next: (u64, JobId),
    /// Those that arrived later are not meant.
    pub(super) upto: JobId,
}

/// The owed deliveries of one endpoint and route, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Deliveries that can be sent.
    pub(super) waiting: BTreeSet<JobId>,
    /// Places of undecided requests: still arriving, being written, or with a running leg.
    pub(super) places: BTreeSet<JobId>,
    /// Copies in flight.
    pub(super) sending: usize,
    /// Ended deliveries that the journal has not recorded yet.
    pub(super) unsettled: usize,
}

impl Endpoint {
    pub(super) fn new(whom: Arc<Whom>) -> Self {
        Self {
            whom,
            queues: Vec::new(),
            resources: BTreeSet::new(),
            owed: 0,
            failures: 0,
            not_before: 0,
            sending: 0,
            standing: Vec::new(),
            dropping: None,
            queued: false,
            next_queue: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.owed == 0 && self.sending == 0 && self.queues.iter().all(|(_, queue)| queue.is_clear())
    }

    pub(super) fn queue_mut(&mut self, route: RouteId) -> Option<&mut Queue> {
        self.queues.iter_mut().find(|(id, _)| *id == route).map(|(_, queue)| queue)
    }

    pub(super) fn queue_for(&mut self, route: RouteId) -> &mut Queue {
        let index = self.queues.iter().position(|(id, _)| *id == route).unwrap_or_else(|| {
            self.queues.push((route, Queue::default()));
            self.queues.len() - 1
        });
        &mut self.queues[index].1
    }
}

impl Standing {
    /// Whether it stands for a merged delivery, which has this one behind it.
    pub(super) fn covers(&self, resource: u64, job: JobId, next: Option<JobId>) -> bool {
        let among = match self.from {
            Some(from) => (from..self.sent).contains(&job),
            // Others are merged into the one behind them, whatever is in flight.
            None => next == Some(self.sent),
        };
        self.resource == resource && among
    }
}

impl Queue {
    /// Whether a live request would overtake nothing.
    pub(super) fn is_clear(&self) -> bool {
        self.waiting.is_empty() && self.places.is_empty() && self.sending == 0 && self.unsettled == 0
    }

    /// The delivery that can be sent now.
    pub(super) fn head(&self, order: Order) -> Option<JobId> {
        let first = *self.waiting.first()?;
        let free = match order {
            Order::None => true,
            Order::Endpoint => self.sending == 0 && self.places.first().is_none_or(|place| first < *place),
        };
        free.then_some(first)
    }
}

impl Core {
    /// Handles a new snapshot: endpoints that are ready again are tried at once, and deliveries of removed ones may be dropped.
    pub fn members(&mut self, now: Millis, members: Arc<Members>) {
        let before = self.members.replace(members);
        for number in 0..self.endpoints.len() {
            let id = EndpointId(u32::try_from(number).expect("ids have 32 bits"));
            let Some(endpoint) = self.endpoint(id) else { continue };
            let key = endpoint.whom.key.clone();
            match self.member(&key).cloned() {
                None => self.gone(id),
                Some(member) => {
                    let was = before.as_ref().and_then(|before| before.get(&key));
                    let returned = member.ready && !was.is_some_and(|was| was.ready && was.address == member.address);
                    if returned {
                        if let Some(endpoint) = self.endpoint_mut(id) {
                            endpoint.failures = endpoint.failures.min(1);
                        }
                        self.try_at_once(now, id);
                    }
                }
            }
            self.forget_if_idle(id);
        }
        self.drop_gone(now, self.limits.per_turn);
    }

    /// Ends the retry delay of an endpoint.
    pub(super) fn try_at_once(&mut self, now: Millis, id: EndpointId) {
        let Some(endpoint) = self.endpoint_mut(id) else { return };
        let before = endpoint.not_before;
        endpoint.not_before = before.min(now);
        let (at, fails) = (endpoint.not_before, endpoint.failures > 0);
        self.probes.remove(&(before, id));
        // Whoever sends next may have an earlier time, to which the delay has not ended.
        if fails {
            self.probes.insert((at, id));
        }
        self.wake(id);
    }

    /// Handles the removal of an endpoint from the snapshot: what it is owed now is dropped, where the route says so.
    fn gone(&mut self, id: EndpointId) {
        let (routes, newest) = (&self.routes, self.jobs.last_key_value().map(|(id, _)| *id));
        let Some(endpoint) = self.endpoints.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let drops = |(route, queue): &(RouteId, Queue)| {
            routes[route.0 as usize].rules.gone == Gone::Drop && !queue.waiting.is_empty()
        };
        if let Some(upto) = newest.filter(|_| endpoint.queues.iter().any(drops)) {
            let before = endpoint.dropping.replace(Dropping { next: (0, JobId::new(0)), upto });
            if before.is_none() {
                self.dropping.push_back(id);
            }
        }
    }

    /// Drops so many deliveries of endpoints that have left. Returns how many more there may be in this turn.
    pub(super) fn drop_gone(&mut self, now: Millis, mut most: usize) -> usize {
        while most > 0
            && let Some(&id) = self.dropping.front()
        {
            let Some(Dropping { next, upto }) = self.endpoint(id).and_then(|endpoint| endpoint.dropping) else {
                self.dropping.pop_front();
                continue;
            };
            let Some(&(resource, job)) = self.endpoint(id).and_then(|it| it.resources.range(next..).next()) else {
                self.dropping.pop_front();
                if let Some(endpoint) = self.endpoint_mut(id) {
                    endpoint.dropping = None;
                }
                self.wake(id);
                continue;
            };
            most -= 1;
            if let Some(endpoint) = self.endpoint_mut(id) {
                endpoint.dropping = Some(Dropping { next: (resource, job.next()), upto });
            }
            let drops = self.jobs.get(&job).is_some_and(|job| self.rules(job.route).gone == Gone::Drop);
            let state = self.delivery(job, id).map(|delivery| delivery.state);
            if drops && job <= upto && matches!(state, Some(State::Waiting | State::Merged)) {
                self.settle(now, job, id, State::Dropped);
            }
        }
        most
    }

    pub(super) fn delivery(&self, job: JobId, endpoint: EndpointId) -> Option<&Delivery> {
        let job = self.jobs.get(&job)?;
        job.index_of(endpoint).map(|index| &job.deliveries[index])
    }

    pub(super) fn delivery_mut(&mut self, job: JobId, endpoint: EndpointId) -> Option<&mut Delivery> {
        let job = self.jobs.get_mut(&job)?;
        job.index_of(endpoint).map(|index| &mut job.deliveries[index])
    }

    /// The current address of an endpoint, if it is ready.
    pub(super) fn ready_member(&self, id: EndpointId) -> Option<&Member> {
        self.member(&self.endpoint(id)?.whom.key).filter(|member| member.ready)
    }
}
