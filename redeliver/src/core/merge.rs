//! Merging of equal requests without a body that wait for an endpoint: the latest stands for all.
//!
//! A delivery is merged exactly while the next one that waits for the same endpoint, Host and target, whatever its method,
//! body or route, can stand for it. Only neighbours are compared, so an insertion or removal affects only its neighbours.

use super::{Core, EndpointId, State, endpoint::Standing, job::Job, send::Answer};
use crate::{JobId, Millis, fields};

/// Whether a later request can stand for an earlier one. Host, target and header fields are compared in full, not only by hash.
fn stands_for(later: &Job, earlier: &Job) -> bool {
    let (a, b) = (&*later.request, &*earlier.request);
    later.route == earlier.route
        && later.fields == earlier.fields
        && a.is_head_only()
        && b.is_head_only()
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
        let successor = self.successor(endpoint, resource, id);
        let is_stood_for = || {
            self.endpoint(endpoint).is_some_and(|it| it.standing.iter().any(|it| it.covers(resource, id, successor)))
        };
        if !matches!(state, State::Waiting | State::Merged) || (state == State::Merged && is_stood_for()) {
            return;
        }
        let next = successor.and_then(|next| {
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
        self.disturb(at, resource, id);
        if let Some(endpoint) = self.endpoint_mut(at) {
            endpoint.resources.insert((resource, id));
        }
        self.remerge(at, id);
        if let Some(before) = self.predecessor(at, resource, id) {
            self.remerge(at, before);
        }
    }

    /// Notes before a delivery is queued which ones a copy in flight stands for, if that would not show any more. Seldom is a copy in
    /// flight when something comes that arrived earlier.
    fn disturb(&mut self, at: EndpointId, resource: u64, id: JobId) {
        let Some(endpoint) = self.endpoint(at) else { return };
        let disturbed = |it: &Standing| it.resource == resource && it.from.is_none() && id < it.sent;
        if endpoint.resources.contains(&(resource, id)) || !endpoint.standing.iter().any(disturbed) {
            return;
        }
        for index in 0..endpoint.standing.len() {
            let Some(standing) = self.endpoint(at).map(|it| &it.standing[index]).filter(|it| disturbed(it)) else {
                continue;
            };
            let from = self.merged_before(at, resource, standing.sent).last();
            if let Some(endpoint) = self.endpoint_mut(at) {
                endpoint.standing[index].from = from;
            }
        }
    }

    /// The deliveries that are merged in front of one without a gap, the latest first.
    fn merged_before(&self, at: EndpointId, resource: u64, id: JobId) -> impl Iterator<Item = JobId> {
        let before = self.endpoint(at).map(|it| it.resources.range((resource, JobId::new(0))..(resource, id)).rev());
        let before = before.into_iter().flatten().map(|(_, id)| *id);
        before.take_while(move |id| self.delivery(*id, at).is_some_and(|one| one.state == State::Merged))
    }

    /// Marks a delivery, and those merged into it, as being sent.
    pub(super) fn stand(&mut self, at: EndpointId, id: JobId) {
        let Some(resource) = self.jobs.get(&id).map(|job| job.resource) else { return };
        let merged = self.merged_before(at, resource, id).next().is_some();
        if let Some(endpoint) = self.endpoint_mut(at).filter(|_| merged) {
            endpoint.standing.push(Standing { resource, sent: id, from: None });
        }
    }

    /// Ends so many deliveries for which an answered copy stood, the latest first. Returns how many more there may be in this turn;
    /// none if there are more.
    pub(super) fn end_stood_for(&mut self, now: Millis, answer: &Answer, most: usize) -> Option<usize> {
        let (at, sent) = (answer.at, answer.job);
        let Some(endpoint) = self.endpoint(at) else { return Some(most) };
        let Some(standing) = endpoint.standing.iter().find(|standing| standing.sent == sent) else { return Some(most) };
        let (resource, from) = (standing.resource, standing.from);
        let mut done: Vec<JobId> = match (from, self.jobs.get(&sent)) {
            (None, _) => self.merged_before(at, resource, sent).take(most + 1).collect(),
            (Some(from), Some(later)) => {
                let among = endpoint.resources.range((resource, from)..(resource, sent)).rev().map(|(_, id)| *id);
                let stood_for = among.filter(|id| {
                    let merged = self.delivery(*id, at).is_some_and(|one| one.state == State::Merged);
                    merged && self.jobs.get(id).is_some_and(|job| stands_for(later, job))
                });
                stood_for.take(most + 1).collect()
            }
            // An operator has deleted it.
            (Some(_), None) => Vec::new(),
        };
        let more = done.len() > most;
        done.truncate(most);
        let left = most - done.len();
        for id in done {
            self.end(now, id, answer);
        }
        if more {
            return None;
        }
        self.stand_no_more(at, sent);
        Some(left)
    }

    /// Undoes the merging of a copy that has ended; it is recomputed for what is still owed.
    pub(super) fn stand_no_more(&mut self, at: EndpointId, id: JobId) {
        let Some(Standing { resource, from: Some(from), .. }) = self.take_standing(at, id) else { return };
        let Some(endpoint) = self.endpoint(at) else { return };
        let covered: Vec<_> = endpoint.resources.range((resource, from)..(resource, id)).map(|(_, id)| *id).collect();
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
