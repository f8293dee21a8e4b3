//! A job: a request with its deliveries.

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
    /// The hash of Host and target, to find deliveries to merge.
    pub(super) resource: u64,
    /// Of the header fields that matter for that.
    pub(super) fields: u64,
    /// Most jobs have few.
    pub(crate) deliveries: Box<[Delivery]>,
    /// The number of owed deliveries.
    pub(super) owed: u32,
    /// The size of the request in bytes, also after the request was dropped.
    pub(crate) size: u32,
    /// Whether the journal has it, so that it may be acknowledged and sent.
    pub(super) committed: bool,
}

/// The delivery of a job to one endpoint.
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

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The job is being written, and not acknowledged yet.
    Held,
    /// Its live leg has not ended.
    Pending,
    /// It waits for its turn.
    Waiting,
    /// It is merged: a later delivery stands for it.
    Merged,
    /// It is being sent.
    Sending,
    /// The endpoint has it.
    Delivered,
    /// The endpoint refused it.
    Refused,
    /// It expired.
    Expired,
    /// Its endpoint was removed for good, or an operator deleted the job.
    Dropped,
}

impl State {
    /// Whether it is still owed.
    #[must_use]
    pub fn is_owed(self) -> bool {
        matches!(self, Self::Held | Self::Pending | Self::Waiting | Self::Merged | Self::Sending)
    }

    /// Its name in the admin API.
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

    /// The index of an endpoint's delivery.
    pub(super) fn index_of(&self, endpoint: EndpointId) -> Option<usize> {
        match &*self.deliveries {
            [] => None,
            [only] => (only.endpoint == endpoint).then_some(0),
            many => many.iter().position(|delivery| delivery.endpoint == endpoint),
        }
    }

    /// The form for the journal.
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
