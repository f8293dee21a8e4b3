//! Bidirectional calls of gRPC, whose answer begins while their request continues, and their time-outs.

use std::{hint::cold_path, time::Duration};

use tokio::time::Instant;

use super::{Exchange, Leg, quorum::Decision};
use crate::grpc::{self, Code};

/// The silence of both sides after which a client counts as waiting for its answer; and the longest wait for the rest of a request
/// once its answer is complete.
pub(super) const STANDSTILL: Duration = Duration::from_secs(1);

impl Exchange {
    /// Whether the answer may begin before the request has ended. That is possible only with `any`, because several endpoints may
    /// send different messages.
    pub(super) fn may_be_two_way(&self) -> bool {
        self.terms.grpc.is_some() && self.route.config.policy.require.is_any() && !self.wants_report
    }

    /// Whether the request goes on while its answer is passed on.
    #[must_use]
    pub fn goes_on(&self, decision: Decision) -> bool {
        decision == Decision::Success && !self.window.is_finished()
    }

    /// When the call counts as deadlocked: every endpoint has answered and has all of the request so far, and the client sends
    /// nothing.
    pub(super) fn standstill_due(&self) -> Option<Instant> {
        if self.terms.grpc.is_none() || self.window.is_finished() {
            return None;
        }
        cold_path();
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

    /// Ends the legs of a deadlocked call: those with a complete answer by its status, the others as unsupported bidirectional
    /// calls.
    pub(super) fn end_standstill(&mut self, now: Instant) {
        if self.standstill_due().is_none_or(|due| now < due) {
            return;
        }
        cold_path();
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

    /// Handles the client's own deadline, which also runs while only the client is waited for.
    pub(super) fn expire_given(&mut self, now: Instant) {
        if self.gives_up.is_some_and(|at| now >= at) {
            cold_path();
            self.deadline = Some(now);
            self.expire(now);
        }
    }

    /// Appends a gRPC error status to a truncated answer. Returns the status.
    pub fn put_cut_status(&mut self) -> Code {
        let leg = self.choice.winner().map(|index| &self.legs[index]);
        let code = leg.and_then(Leg::code).filter(|code| *code != grpc::OK).unwrap_or(grpc::UNAVAILABLE);
        let error = leg.and_then(Leg::result).and_then(|result| result.error.as_ref());
        let detail = error.map_or("the answer broke off", |error| error.detail.as_ref());
        self.outgoing.end_with(grpc::trailer_lines(code, detail));
        code
    }
}
