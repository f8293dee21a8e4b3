//! Deferred legs: those that failed or were held back, and are redelivered later.

use std::{hint::cold_path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Exchange, quorum::Deferred};
use crate::{
    outcome::{LegError, Outcome},
    owed::RunningLegs,
    proxy_error::ProxyError,
    traces,
};

/// The state of redelivery in an exchange.
#[derive(Debug, Default)]
pub(super) struct Owing {
    /// How long the answer waits for legs that are about to end; `None` without redelivery.
    grace: Option<Duration>,
    /// When that time is over, once it has begun.
    pub(super) grace_ends: Option<Instant>,
    /// Whether the legs begin only when the body is complete, as long as it is kept.
    whole: bool,
    /// Legs that are not sent, because earlier requests to their endpoints are pending.
    held_back: Vec<usize>,
    /// Legs of a job that still run.
    running: Option<RunningLegs>,
}

/// The outcome of a leg that is held back because earlier requests to its endpoint are pending.
pub(super) fn held_back() -> (Outcome, LegError) {
    let detail = "the endpoint has pending deliveries, which are sent first";
    (Outcome::Deferred, LegError::new(ProxyError::DestinationUnavailable, detail))
}

// === impl Owing ===

impl Owing {
    pub(super) fn clear(&mut self) {
        (self.grace, self.grace_ends, self.running, self.whole) = (None, None, None, false);
        self.held_back.clear();
    }

    pub(super) fn holds_back(&self, index: usize) -> bool {
        self.held_back.contains(&index)
    }
}

// === impl Exchange ===

impl Exchange {
    /// Copies that are missed are sent again: keeps a body that is no longer than `longest`, and holds the answer until legs that
    /// are about to end have had `grace` for it.
    pub fn keep(&mut self, longest: u64, grace: Duration) {
        self.owing.grace = Some(grace);
        self.window.keep(longest);
    }

    /// The request may become a job before its legs begin, for which its whole body has to be there.
    pub fn wait_for_whole_body(&mut self) {
        self.owing.whole = true;
        self.window.widen();
    }

    pub(super) fn waits_for_whole_body(&self) -> bool {
        self.owing.whole && self.window.is_kept()
    }

    /// Whether the answer waits, though the policy is decided: for legs that are about to end, because what they will have missed
    /// must be on disk first; or for the end of the request, without which it cannot be sent again.
    pub(super) fn holds_answer(&mut self, now: Instant) -> bool {
        let Some(grace) = self.owing.grace else { return false };
        cold_path();
        if self.quorum.ok == self.quorum.total || !self.window.is_kept() || !self.owes() {
            return false;
        }
        if !self.window.is_finished() {
            // The rest of such a call may depend on its answer.
            return !self.may_be_two_way();
        }
        self.quorum.pending() > 0 && now < *self.owing.grace_ends.get_or_insert(now + grace)
    }

    /// Whether some leg is owed, or may yet be.
    fn owes(&self) -> bool {
        let Some(owed) = &self.route.owed else { return false };
        self.legs.iter().any(|leg| leg.is_pending() || (!leg.is_ok() && owed.counts_as_missed(leg)))
    }

    /// Holds this leg back when the legs begin.
    pub fn hold_back(&mut self, index: usize) {
        self.owing.held_back.push(index);
    }

    /// Counts the legs that were held back, which are never polled.
    pub fn count_held_back(&mut self) {
        for index in std::mem::take(&mut self.owing.held_back) {
            self.settle(index);
        }
    }

    /// Counts every leg that has ended, before any poll.
    pub fn count_ended(&mut self) {
        (0..self.legs.len()).for_each(|index| self.settle(index));
    }

    /// Sets the whole body at once with the lines of its trailers, before the legs begin.
    pub fn give_body(&mut self, body: Bytes, trailers: Bytes) {
        if !body.is_empty() {
            self.window.push(body);
        }
        self.window.finish_with(trailers);
    }

    /// A copy of the whole body, if all of it has been kept.
    #[must_use]
    pub fn kept_body(&self) -> Option<Bytes> {
        self.window.whole().filter(|_| self.window.is_kept())
    }

    /// The lines of the trailers of a body that is there as a whole.
    #[must_use]
    pub fn kept_trailers(&self) -> Bytes {
        Bytes::copy_from_slice(self.window.trailers())
    }

    /// The head that the legs send, or the first of them; if the request is traced, with its span as the parent.
    #[must_use]
    pub fn first_head(&self) -> Option<Bytes> {
        if !self.head.is_empty() {
            return Some(Bytes::copy_from_slice(&self.head));
        }
        let own = self.legs.iter().find_map(|leg| leg.own_head())?.clone();
        Some(match self.trace {
            Some(trace) => traces::with_parent(own.into(), trace, trace.request_span()),
            None => own,
        })
    }

    /// The target in the head of the legs.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        let own = || self.legs.iter().find_map(|leg| leg.own_head()).map_or(&[][..], |own| own);
        let head = if self.head.is_empty() { own() } else { &self.head };
        head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }

    /// The request has become a job with these legs. From here on their ends are reported.
    pub(crate) fn belong_to(&mut self, job: redeliver::JobId, failed: &[usize], running: RunningLegs) {
        for index in failed {
            self.legs.get_mut(*index).defer();
        }
        self.owing.running = Some(running);
        // Some may have ended while the job was being written.
        (0..self.legs.len()).for_each(|index| self.tell_end(index));
        let count = self.legs.iter().filter(|leg| leg.is_deferred()).count();
        self.quorum.deferred = Some(Deferred { count, job });
    }

    /// Reports the end of a leg that belongs to a job.
    pub(super) fn tell_end(&mut self, index: usize) {
        let Some(running) = &mut self.owing.running else { return };
        cold_path();
        if running.tell_end(index, &self.legs[index]) {
            self.legs.get_mut(index).defer();
        }
    }

    /// A leg that failed is not sent again.
    pub fn mark_not_deferred(&mut self, index: usize, why: &Arc<str>) {
        self.legs.get_mut(index).not_deferred(why.clone());
    }
}
