//! What is known of an endpoint that is owed something, and its queues.

use super::{Core, EndpointId, Member, Members, RouteId, State, job::Delivery};
use crate::{
    JobId, Millis, Whom,
    rules::{Gone, Order},
};

use std::{collections::BTreeSet, sync::Arc};

/// An endpoint that is owed something.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) whom: Arc<Whom>,
    /// One queue for each route: order is per route.
    pub(super) queues: Vec<(RouteId, Queue)>,
    /// Everything that it is owed by Host and target, in order of arrival, over all routes.
    pub(super) resources: BTreeSet<(u64, JobId)>,
    /// How many deliveries it is owed.
    pub(super) owed: usize,
    /// Tries that failed since the last one that did not.
    pub(super) failures: u32,
    /// After a failure, when it is tried again.
    pub(super) not_before: Millis,
    /// Copies on their way to it.
    pub(super) sending: usize,
    /// Those of them that stand for others.
    pub(super) standing: Vec<Standing>,
    /// Whether it stands in `Core::turn`.
    pub(super) queued: bool,
    /// The index of the queue whose turn it is.
    pub(super) next_queue: usize,
}

/// A copy on its way that stands for earlier deliveries, whatever arrives between them meanwhile.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) resource: u64,
    /// The earliest delivery that it stands for.
    pub(super) from: JobId,
    /// The one that is sent.
    pub(super) sent: JobId,
    /// Whether something has come between since.
    pub(super) disturbed: bool,
}

/// What an endpoint is owed on one route, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// What can be sent.
    pub(super) waiting: BTreeSet<JobId>,
    /// Places of what is not known yet: a request still arriving or being written, or a live leg still running.
    pub(super) places: BTreeSet<JobId>,
    /// Copies on their way.
    pub(super) sending: usize,
    /// Deliveries that have ended, which the journal does not know yet.
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
    pub(super) fn covers(&self, resource: u64, job: JobId) -> bool {
        self.resource == resource && (self.from..self.sent).contains(&job)
    }
}

impl Queue {
    /// Whether a live request overtakes nothing.
    pub(super) fn is_clear(&self) -> bool {
        self.waiting.is_empty() && self.places.is_empty() && self.sending == 0 && self.unsettled == 0
    }

    /// What can be sent now.
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
    /// A new snapshot: who is ready again is tried at once, and who has gone may be given up.
    pub fn members(&mut self, now: Millis, members: Arc<Members>) {
        let before = self.members.replace(members);
        for number in 0..self.endpoints.len() {
            let id = EndpointId(u32::try_from(number).expect("ids have 32 bits"));
            let Some(endpoint) = self.endpoint(id) else { continue };
            let key = endpoint.whom.key.clone();
            match self.member(&key).cloned() {
                None => self.gone(now, id),
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
    }

    /// Ends the pause of an endpoint.
    pub(super) fn try_at_once(&mut self, now: Millis, id: EndpointId) {
        let Some(endpoint) = self.endpoint_mut(id) else { return };
        let before = endpoint.not_before;
        endpoint.not_before = before.min(now);
        self.probes.remove(&(before, id));
        self.wake(id);
    }

    /// An endpoint has left the snapshot.
    fn gone(&mut self, now: Millis, id: EndpointId) {
        let Some(endpoint) = self.endpoint(id) else { return };
        let dropped = endpoint.resources.iter().filter(|(_, job)| {
            let drops = self.jobs.get(job).is_some_and(|job| self.rules(job.route).gone == Gone::Drop);
            let state = self.delivery(*job, id).map(|delivery| delivery.state);
            drops && matches!(state, Some(State::Waiting | State::Merged))
        });
        for job in dropped.map(|(_, job)| *job).collect::<Vec<_>>() {
            self.settle(now, job, id, State::Dropped);
        }
    }

    pub(super) fn delivery(&self, job: JobId, endpoint: EndpointId) -> Option<&Delivery> {
        let job = self.jobs.get(&job)?;
        job.index_of(endpoint).map(|index| &job.deliveries[index])
    }

    pub(super) fn delivery_mut(&mut self, job: JobId, endpoint: EndpointId) -> Option<&mut Delivery> {
        let job = self.jobs.get_mut(&job)?;
        job.index_of(endpoint).map(|index| &mut job.deliveries[index])
    }

    /// Where an endpoint is now, if requests are sent to it.
    pub(super) fn ready_member(&self, id: EndpointId) -> Option<&Member> {
        self.member(&self.endpoint(id)?.whom.key).filter(|member| member.ready)
    }
}
