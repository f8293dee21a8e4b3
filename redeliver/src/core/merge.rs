//! Merging of equal requests without a body that wait for an endpoint: the latest stands for all.
//!
//! A delivery is merged exactly while the next one that waits for the same endpoint, Host and target, whatever its method,
//! body or route, can stand for it. Only neighbours are compared, so an insertion or removal affects only its neighbours.

use super::{Core, EndpointId, State, endpoint::Standing, job::Job};
use crate::{JobId, fields};

/// Whether a later request can stand for an earlier one. Host, target and header fields are compared in full, not only by hash.
fn stands_for(later: &Job, earlier: &Job) -> bool {
    let (a, b) = (&*later.request, &*earlier.request);
    later.route == earlier.route
        && later.fields == earlier.fields
        && a.body.is_empty()
        && b.body.is_empty()
        && a.method == b.method
        && a.host == b.host
        && a.target == b.target
        && fields::same(&a.head, &b.head)
}

impl Core {
    /// The next delivery for the same endpoint, Host and target.
    fn successor(&self, endpoint: EndpointId, resource: u64, job: JobId) -> Option<JobId> {
        let resources = &self.endpoint(endpoint)?.resources;
        resources.range((resource, job.next())..=(resource, JobId::MAX)).next().map(|(_, id)| *id)
    }

    /// The one before.
    pub(super) fn predecessor(&self, endpoint: EndpointId, resource: u64, job: JobId) -> Option<JobId> {
        let resources = &self.endpoint(endpoint)?.resources;
        resources.range((resource, JobId::new(0))..(resource, job)).next_back().map(|(_, id)| *id)
    }

    /// Recomputes whether a delivery is merged, and queues it exactly if it is not.
    pub(super) fn remerge(&mut self, endpoint: EndpointId, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (route, resource) = (job.route, job.resource);
        let Some(state) = job.index_of(endpoint).map(|index| job.deliveries[index].state) else { return };
        let stood_for =
            || self.endpoint(endpoint).is_some_and(|it| it.standing.iter().any(|it| it.covers(resource, id)));
        if !matches!(state, State::Waiting | State::Merged) || (state == State::Merged && stood_for()) {
            return;
        }
        let next = self.successor(endpoint, resource, id).and_then(|next| {
            let job = self.jobs.get(&next)?;
            Some((job, job.deliveries[job.index_of(endpoint)?].state))
        });
        let wanted = match next {
            Some((next, State::Waiting | State::Merged)) if stands_for(next, job) => State::Merged,
            _ => State::Waiting,
        };
        if let Some(delivery) = self.delivery_mut(id, endpoint) {
            delivery.state = wanted;
        }
        if let Some(queue) = self.queue_mut(endpoint, route) {
            if wanted == State::Merged {
                queue.waiting.remove(&id);
            } else if queue.waiting.insert(id) {
                self.wake(endpoint);
            }
        }
    }

    /// Inserts a delivery, and recomputes the one before it.
    pub(super) fn link(&mut self, at: EndpointId, id: JobId) {
        let Some(resource) = self.jobs.get(&id).map(|job| job.resource) else { return };
        if let Some(endpoint) = self.endpoint_mut(at) {
            endpoint.resources.insert((resource, id));
            for standing in endpoint.standing.iter_mut().filter(|standing| standing.covers(resource, id)) {
                standing.disturbed = true;
            }
        }
        self.remerge(at, id);
        if let Some(before) = self.predecessor(at, resource, id) {
            self.remerge(at, before);
        }
    }

    /// Marks a delivery, and those merged into it, as being sent.
    pub(super) fn stand(&mut self, at: EndpointId, id: JobId) {
        let Some(resource) = self.jobs.get(&id).map(|job| job.resource) else { return };
        let before =
            std::iter::successors(self.predecessor(at, resource, id), |id| self.predecessor(at, resource, *id));
        let merged = before.take_while(|id| self.delivery(*id, at).is_some_and(|one| one.state == State::Merged));
        if let (Some(from), Some(endpoint)) = (merged.last(), self.endpoint_mut(at)) {
            endpoint.standing.push(Standing { resource, from, sent: id, disturbed: false });
        }
    }

    /// The deliveries for which a delivered copy stood, the earliest first.
    pub(super) fn stood_for(&mut self, at: EndpointId, id: JobId) -> Vec<JobId> {
        let Some((standing, later)) = self.take_standing(at, id).zip(self.jobs.get(&id)) else { return Vec::new() };
        let Some(endpoint) = self.endpoint(at) else { return Vec::new() };
        let range = (standing.resource, standing.from)..(standing.resource, id);
        let merged = endpoint.resources.range(range).map(|(_, id)| *id).filter(|id| {
            let merged = self.delivery(*id, at).is_some_and(|one| one.state == State::Merged);
            merged && self.jobs.get(id).is_some_and(|job| stands_for(later, job))
        });
        merged.collect()
    }

    /// Undoes the merging of a copy that failed; it is recomputed for the next attempt.
    pub(super) fn stand_no_more(&mut self, at: EndpointId, id: JobId) {
        let Some(standing) = self.take_standing(at, id).filter(|standing| standing.disturbed) else { return };
        let Some(endpoint) = self.endpoint(at) else { return };
        let range = (standing.resource, standing.from)..(standing.resource, id);
        let covered: Vec<_> = endpoint.resources.range(range).map(|(_, id)| *id).collect();
        for id in covered {
            self.remerge(at, id);
        }
    }

    fn take_standing(&mut self, at: EndpointId, id: JobId) -> Option<Standing> {
        let standing = &mut self.endpoint_mut(at)?.standing;
        let index = standing.iter().position(|standing| standing.sent == id)?;
        Some(standing.swap_remove(index))
    }
}
