//! The operations of operators on jobs.

use super::{Core, RouteId, State, job::Job};
use crate::{JobId, Millis};

use std::sync::Arc;

/// The result of retrying a job at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// This number of endpoints is tried at once.
    Begun(usize),
    /// The job is finished.
    NothingOwed,
    /// There is no job with this id.
    Unknown,
}

impl Core {
    /// Ends the retry delays of the endpoints of a job.
    pub fn retry(&mut self, now: Millis, id: JobId) -> Retry {
        let Some(job) = self.jobs.get(&id).filter(|job| job.committed) else { return Retry::Unknown };
        let owed = job.deliveries.iter().filter(|delivery| delivery.state.is_owed());
        let endpoints: Vec<_> = owed.map(|delivery| delivery.endpoint).collect();
        if endpoints.is_empty() {
            return Retry::NothingOwed;
        }
        for endpoint in &endpoints {
            self.try_at_once(now, *endpoint);
        }
        Retry::Begun(endpoints.len())
    }

    /// Deletes a job and its owed deliveries. Returns whether it existed. Copies in flight are not cancelled.
    pub fn delete(&mut self, now: Millis, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| job.committed) else { return false };
        let owed = job.deliveries.iter().filter(|delivery| delivery.state.is_owed());
        for endpoint in owed.map(|delivery| delivery.endpoint).collect::<Vec<_>>() {
            self.settle(now, id, endpoint, State::Dropped);
        }
        self.jobs.remove(&id);
        self.done.retain(|(_, done)| *done != id);
        true
    }

    /// Whether a job may be acknowledged.
    #[must_use]
    pub fn is_acknowledged(&self, id: JobId) -> bool {
        self.job(id).is_some()
    }

    /// The name of a route.
    #[must_use]
    pub fn name_of(&self, route: RouteId) -> Arc<str> {
        self.routes[route.0 as usize].name.clone()
    }

    /// Jobs that have been acknowledged, the newest first.
    pub(crate) fn jobs(&self, before: JobId) -> impl Iterator<Item = (JobId, &Job)> {
        self.jobs.range(..before).rev().map(|(id, job)| (*id, job)).filter(|(_, job)| job.is_acknowledged())
    }

    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).filter(|job| job.is_acknowledged())
    }

    pub(crate) fn route_name(&self, job: &Job) -> &Arc<str> {
        &self.routes[job.route.0 as usize].name
    }

    /// The current address of a delivery's endpoint if it is still owed, else the last one.
    pub(crate) fn place_of<'a>(&'a self, delivery: &'a super::Delivery) -> &'a Arc<str> {
        let now_at = self.member(&delivery.whom.key).filter(|_| delivery.state.is_owed());
        now_at.map_or(&delivery.whom.endpoint, |member| &member.address)
    }
}
