//! The invariants between the indices of the queues, checked by a full scan.

use crate::{
    JobId,
    core::{Core, EndpointId, State},
    fields,
    rules::Order,
};

use std::collections::BTreeMap;

impl Core {
    /// Panics if an index contradicts the jobs.
    pub(super) fn check(&self) {
        let owed: Vec<_> = self.jobs.values().filter(|job| job.is_owed()).collect();
        assert_eq!(self.owed_jobs, owed.len(), "jobs owed");
        assert_eq!(self.owed_bytes, owed.iter().map(|job| job.size as usize).sum::<usize>(), "bytes owed");
        assert!(self.attempts.len() <= self.limits.concurrency, "rule 5: copies in flight");
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            let Some(endpoint) = endpoint else { continue };
            let id = EndpointId(u32::try_from(number).unwrap());
            let mut resources: BTreeMap<u64, Vec<(JobId, State)>> = BTreeMap::new();
            for (job_id, job) in &self.jobs {
                let Some(delivery) = job.index_of(id).map(|at| &job.deliveries[at]) else { continue };
                if delivery.state.is_owed() {
                    resources.entry(job.resource).or_default().push((*job_id, delivery.state));
                }
            }
            let count: usize = resources.values().map(Vec::len).sum();
            assert_eq!(count, endpoint.owed, "deliveries owed to {}", endpoint.whom.key);
            assert_eq!(count, endpoint.resources.len(), "resources of {}", endpoint.whom.key);
            for waiting in resources.values() {
                self.check_resource(id, waiting);
            }
            for (route, queue) in &endpoint.queues {
                assert!(self.rules(*route).order == Order::None || queue.sending <= 1, "rule 2: one after the other");
            }
        }
    }

    fn check_resource(&self, endpoint: EndpointId, waiting: &[(JobId, State)]) {
        for (index, (id, state)) in waiting.iter().enumerate() {
            let job = &self.jobs[id];
            let queue =
                &self.endpoint(endpoint).unwrap().queues.iter().find(|(route, _)| *route == job.route).unwrap().1;
            assert_eq!(queue.waiting.contains(id), *state == State::Waiting, "{id} is {state:?}");
            assert_eq!(queue.places.contains(id), matches!(state, State::Held | State::Pending), "{id} is {state:?}");
            let next = waiting.get(index + 1);
            let same = next.is_some_and(|(next, _)| {
                let (a, b) = (&self.jobs[next], job);
                let equal = (&a.request.method, &a.request.host, &a.request.target)
                    == (&b.request.method, &b.request.host, &b.request.target);
                a.route == b.route
                    && equal
                    && fields::same(&a.request.head, &b.request.head)
                    && a.request.body.is_empty()
                    && b.request.body.is_empty()
            });
            let successor = next.map(|(id, _)| *id);
            match (state, next.map(|(_, state)| state)) {
                (State::Merged, next) => {
                    let standing = &self.endpoint(endpoint).unwrap().standing;
                    let stood_for = standing.iter().any(|standing| standing.covers(job.resource, *id, successor));
                    let stands = matches!(next, Some(State::Waiting | State::Merged));
                    assert!(stood_for || (same && stands), "rule 4: {id} is merged into {next:?}");
                }
                (State::Waiting, Some(State::Waiting | State::Merged)) => assert!(!same, "rule 4: {id} is not merged"),
                _ => {}
            }
        }
    }
}
