//! Legs of a job that still run: reports the end of each.

use std::sync::Arc;

use redeliver::{JobId, core::Verdict};

use super::RouteOwed;
use crate::exchange::Leg;

/// Legs of a job that still run.
#[derive(Debug)]
pub(crate) struct RunningLegs {
    owed: RouteOwed,
    job: JobId,
    /// The legs of the exchange, with their endpoints.
    legs: Vec<(usize, Arc<str>)>,
}

impl RunningLegs {
    /// These legs run when their request has become this job.
    pub(crate) fn new(owed: RouteOwed, job: JobId, legs: Vec<(usize, Arc<str>)>) -> Self {
        Self { owed, job, legs }
    }

    /// Reports the end of a leg, if it has ended and belongs to them. Returns whether it is sent again.
    pub(crate) fn tell_end(&mut self, index: usize, leg: &Leg) -> bool {
        if leg.result().is_none() {
            return false;
        }
        let Some(at) = self.legs.iter().position(|(running, _)| *running == index) else { return false };
        let (_, key) = self.legs.swap_remove(at);
        let verdict = self.owed.verdict(leg);
        let again = matches!(verdict, Verdict::Missed(_) | Verdict::Cancelled);
        self.owed.redelivery.ended(self.job, &key, leg.attempts(), verdict);
        again
    }
}

/// The ends of the other legs will stay unknown.
impl Drop for RunningLegs {
    fn drop(&mut self) {
        for (_, key) in &self.legs {
            self.owed.redelivery.ended(self.job, key, 1, Verdict::Cancelled);
        }
    }
}
