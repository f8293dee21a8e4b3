//! Time-outs of the legs, together and each, and the end of overdue legs.

use std::{hint::cold_path, time::Duration};

use tokio::time::Instant;

use super::Exchange;
use crate::{
    clock,
    outcome::{LegError, Outcome},
    proxy_error::ProxyError,
};

impl Exchange {
    /// The time-out of the legs if they begin now: the client's, but at most that of the policy.
    #[must_use]
    pub fn time_left(&self, now: Instant) -> Duration {
        let given = self.gives_up.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
        self.route.config.policy.timeouts.total.min(given)
    }

    /// Remembers when the leg's own time-out is due.
    pub(super) fn note_due(&mut self, index: usize) {
        if let Some(at) = self.legs[index].due() {
            cold_path();
            self.next_expiry = Some(self.next_expiry.map_or(at, |next| next.min(at)));
        }
    }

    /// The time of the next time-out.
    pub(super) fn next_due(&self) -> Option<Instant> {
        earlier(earlier(self.next_expiry, self.deadline), self.waves.due())
    }

    /// Ends overdue legs. The answer that is streamed to the client has time-outs of its own.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            cold_path();
            self.deadline = None;
            let limit = runtime::duration::format(self.total);
            // Legs that wait for their wave have no time-out yet.
            for index in 0..self.waves.begun() {
                if self.legs[index].result().is_none() && self.choice.winner() != Some(index) {
                    let error =
                        LegError::new(ProxyError::HttpResponseTimeout, format!("no complete answer within {limit}"));
                    self.end_leg(index, Outcome::Timeout, error, now);
                }
            }
        }
        if self.next_expiry.is_some_and(|next| now >= next) {
            cold_path();
            self.next_expiry = None;
            for index in 0..self.legs.len() {
                if self.legs[index].due().is_some_and(|at| now >= at) {
                    // Time-outs of an attempt run only until the first byte of a response: nothing is held yet.
                    self.legs.get_mut(index).expire(&self.window, &self.terms, now);
                    self.wakers.flag(index);
                    self.settle(index);
                }
                self.note_due(index);
            }
        }
    }
}

/// The earlier of two times.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A time in the far future, for no deadline.
pub(super) fn far() -> Instant {
    clock::now() + Duration::from_secs(24 * 3600)
}
