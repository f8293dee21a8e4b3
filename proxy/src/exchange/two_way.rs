//! Calls of gRPC whose answer begins while their request goes on: what may still come of either side, and when nothing will.

use std::time::Duration;

use tokio::time::Instant;

use super::{Exchange, Leg, quorum::Decision};
use crate::grpc::{self, Code};

/// How long nothing may come from anybody before a call that waits for its client is taken for one that waits for its answer; and
/// how long the rest of a request is waited for once its answer is whole.
pub(super) const STANDSTILL: Duration = Duration::from_secs(1);

impl Exchange {
    /// Whether the answer may begin before the request has ended: whoever is content with any answer can pass on what each side says
    /// to the other. Of several endpoints no two say the same.
    pub(super) fn may_be_two_way(&self) -> bool {
        self.terms.grpc.is_some() && self.route.config.policy.require.is_any() && !self.wants_report
    }

    /// Whether the request goes on while its answer is passed on.
    #[must_use]
    pub fn goes_on(&self, decision: Decision) -> bool {
        decision == Decision::Success && !self.window.is_finished()
    }

    /// When the call comes to nothing, as far as is known: every endpoint has answered, has all of the request that there is, and
    /// the client sends no more of it.
    pub(super) fn standstill_due(&self) -> Option<Instant> {
        if self.terms.grpc.is_none() || self.window.is_finished() {
            return None;
        }
        let since = self.waits.only_client?;
        let mut last = None;
        for leg in self.legs.iter().filter(|leg| leg.result().is_none()) {
            if !leg.has_answered() {
                return None;
            }
            last = last.max(Some(leg.last_read()));
        }
        last.map(|last| since.max(last) + STANDSTILL)
    }

    /// Ends the legs of a call that has come to nothing: those whose answer is whole by what that says, the others as ones that
    /// cannot be told to several endpoints.
    pub(super) fn end_standstill(&mut self, now: Instant) {
        if self.standstill_due().is_none_or(|due| now < due) {
            return;
        }
        for index in 0..self.legs.len() {
            if self.legs[index].result().is_none() {
                self.end_unfinished(index, now);
            }
        }
    }

    /// Ends a leg whose request does not end.
    pub(super) fn end_unfinished(&mut self, index: usize, now: Instant) {
        self.legs.get_mut(index).end_unfinished(&self.terms, now);
        self.settle(index);
    }

    /// The time that the client gives has passed; it runs also while nobody but the client is waited for.
    pub(super) fn expire_given(&mut self, now: Instant) {
        if self.gives_up.is_some_and(|at| now >= at) {
            self.deadline = Some(now);
            self.expire(now);
        }
    }

    /// The answer has broken off: puts a status of gRPC at its end, which says so, and tells which.
    pub fn put_cut_status(&mut self) -> Code {
        let leg = self.choice.winner().map(|index| &self.legs[index]);
        let code = leg.and_then(Leg::code).filter(|code| *code != grpc::OK).unwrap_or(grpc::UNAVAILABLE);
        let error = leg.and_then(Leg::result).and_then(|result| result.error.as_ref());
        let detail = error.map_or("the answer broke off", |error| error.detail.as_ref());
        self.outgoing.end_with(grpc::trailer_lines(code, detail));
        code
    }
}
