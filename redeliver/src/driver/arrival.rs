//! A request of the data plane between its arrival and its answer.

use super::Inner;
use crate::{
    JobId, Millis, Request, Whom,
    core::{Leg, Refused, RouteId, Why},
};

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tokio::sync::oneshot;

/// A request that has arrived. It gives up its places when it is dropped.
#[derive(Debug)]
pub struct Arrival<'a> {
    inner: &'a Inner,
    id: JobId,
    route: RouteId,
    at: Millis,
    /// The endpoints in whose queues it has a place.
    places: Vec<Arc<str>>,
}

impl<'a> Arrival<'a> {
    pub(super) fn new(inner: &'a Inner, route: RouteId, now: Instant) -> Self {
        let at = inner.clock.at(now);
        let id = inner.ids.next(at);
        Self { inner, id, route, at, places: Vec::new() }
    }

    /// Whether nobody is owed anything, so that no leg must be held back.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.inner.clear.load(Ordering::Acquire)
    }

    /// Whether the leg to an endpoint must be held back, because owed deliveries of the endpoint go first.
    pub fn waits_at(&mut self, key: &Arc<str>) -> bool {
        if self.is_first() {
            return false;
        }
        let waits = self.inner.core.lock().arrive(self.id, self.route, key);
        if waits {
            self.places.push(key.clone());
        }
        waits
    }

    /// Accepts the request as a job. When this returns, the job is on disk if there is a journal.
    ///
    /// # Errors
    /// [`Refused`] if a bound is reached, or the journal cannot be written.
    pub async fn defer(self, request: Request, legs: Vec<(Whom, Leg)>) -> Result<JobId, Refused> {
        let (id, route) = (self.id, self.route);
        let count = legs.iter().filter(|(_, leg)| *leg != Leg::Pending).count();
        let (sender, receiver) = oneshot::channel();
        self.inner.waiting.lock().insert(id, sender);
        let (taken, at_once) = self.inner.with(|core, now| {
            let taken = core.defer(now, id, (route, self.at), request, legs);
            (taken, core.is_acknowledged(id))
        });
        let taken = match taken {
            Ok(()) if at_once => Ok(id),
            Ok(()) if receiver.await.unwrap_or(false) => Ok(id),
            Ok(()) => Err(Refused(Why::Journal)),
            Err(refused) => Err(refused),
        };
        self.inner.waiting.lock().remove(&id);
        if let Err(Refused(why)) = taken {
            self.inner.refused(route, count, why);
        }
        taken
    }

    /// This number of legs is not deferred, for this reason.
    pub fn refuse(self, legs: usize, why: Why) {
        self.inner.refused(self.route, legs, why);
    }
}

impl Inner {
    fn refused(&self, route: RouteId, legs: usize, why: Why) {
        if legs > 0 {
            self.numbers.refused(&self.core.lock().name_of(route), legs, why);
        }
    }
}

/// Gives up the places, unless the request has become a job.
impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            let places = std::mem::take(&mut self.places);
            self.inner.with(|core, _| places.iter().for_each(|key| core.leave(self.id, self.route, key)));
        }
    }
}
