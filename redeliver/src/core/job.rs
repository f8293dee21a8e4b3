//! A job: a request with the deliveries that are owed.

use super::{EndpointId, RouteId};
use crate::{JobId, Last, Millis, Request, Stored, Whom};

use std::sync::Arc;

/// A request with its deliveries.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) route: RouteId,
    pub(crate) arrived: Millis,
    pub(crate) expires: Millis,
    pub(crate) request: Arc<Request>,
    /// Of Host and target, to find what may be merged.
    pub(super) resource: u64,
    /// Most jobs have few.
    pub(crate) deliveries: Box<[Delivery]>,
    /// How many of them are owed.
    pub(super) owed: u32,
    /// What the request counts, also when it is no longer kept.
    pub(crate) size: u32,
    /// Whether the journal has it, so that it may be acknowledged and sent.
    pub(super) committed: bool,
}

/// What one endpoint is owed of a job.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) whom: Arc<Whom>,
    pub(super) endpoint: EndpointId,
    /// Its number within the job, in the journal too.
    pub(super) index: u32,
    pub(crate) attempts: u32,
    pub(crate) state: State,
    pub(crate) last: Option<Box<Last>>,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being written, and not acknowledged yet.
    Held,
    /// Its live leg has not ended.
    Pending,
    /// It waits for its turn.
    Waiting,
    /// It waits, and a later one will stand for it.
    Merged,
    /// It is being sent.
    Sending,
    /// The endpoint has it.
    Delivered,
    /// The endpoint answered that it does not want it.
    Refused,
    /// It became too old.
    Expired,
    /// Its endpoint left for good, or somebody deleted the job.
    Dropped,
}

impl State {
    /// Whether it is still owed.
    #[must_use]
    pub fn is_owed(self) -> bool {
        matches!(self, Self::Held | Self::Pending | Self::Waiting | Self::Merged | Self::Sending)
    }

    /// Its name where jobs are shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held | Self::Waiting | Self::Merged | Self::Sending => "owed",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}

impl Job {
    pub(crate) fn is_owed(&self) -> bool {
        self.owed > 0
    }

    pub(crate) fn is_acknowledged(&self) -> bool {
        self.committed
    }

    /// The index of what an endpoint is owed.
    pub(super) fn index_of(&self, endpoint: EndpointId) -> Option<usize> {
        match &*self.deliveries {
            [] => None,
            [only] => (only.endpoint == endpoint).then_some(0),
            many => many.iter().position(|delivery| delivery.endpoint == endpoint),
        }
    }

    /// As a journal keeps it.
    pub(super) fn stored(&self, id: JobId, route: &Arc<str>) -> Stored {
        let owed = self.deliveries.iter().filter(|delivery| delivery.state.is_owed());
        Stored {
            id,
            route: route.clone(),
            arrived: self.arrived,
            expires: self.expires,
            request: self.request.clone(),
            owed: owed.map(|delivery| (delivery.index, (*delivery.whom).clone(), delivery.attempts)).collect(),
        }
    }
}
