//! The attempts of a leg: the first one, and harmless retries.

use std::{hint::cold_path, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Failure, Leg, Terms, Waiting, Window};
use crate::{
    outcome::{LegError, LegResult, Outcome},
    proxy_error::ProxyError,
    target::Opened,
    traces::OwnParent,
};

/// In what the head of a leg differs from the common one.
#[derive(Clone, Debug)]
pub(in crate::exchange) enum Own {
    /// It is another head.
    Head(Bytes),
    /// It has another parent in its trace context.
    Parent(OwnParent),
}

impl Leg {
    /// Prepares it to begin later. `own` is what its head differs in from the common one.
    pub(in crate::exchange) fn wait_for_turn(&mut self, own: Option<Own>) {
        self.own = own;
    }

    /// Begins the first attempt, unless the endpoint has `cap` legs in flight already.
    pub(in crate::exchange) fn start(&mut self, terms: &Terms, cap: usize, now: Instant) {
        (self.started, self.last_read) = (now, now);
        self.admitted = self.target.admit(cap);
        if !self.admitted {
            let detail = format!("the endpoint has {cap} requests in flight already");
            self.end_with(Outcome::Rejected, LegError::new(ProxyError::ConnectionLimitReached, detail), now);
            return;
        }
        let idle = self.target.checkout(terms.worker, now, !terms.is_idempotent);
        self.begin(idle, terms, now);
    }

    /// Starts the time of a leg anew that has begun and was not polled yet.
    pub(in crate::exchange) fn restart_time(&mut self, terms: &Terms, now: Instant) {
        if self.result.is_some() {
            return;
        }
        (self.started, self.last_read) = (now, now);
        if let Some((at, Waiting::Connect)) = &mut self.deadline {
            *at = now + terms.connect;
        }
    }

    /// Skips it: it will not begin.
    pub(in crate::exchange) fn skip(&mut self, why: &'static str, now: Instant) {
        self.started = now;
        self.end_with(Outcome::Skipped, LegError::new(ProxyError::DestinationUnavailable, why), now);
    }

    /// Begins an attempt from the start of the request.
    pub(super) fn begin(&mut self, idle: Option<Opened>, terms: &Terms, now: Instant) {
        self.attempts += 1;
        (self.reused, self.has_response, self.code) = (idle.is_some(), false, None);
        match idle {
            Some(opened) => {
                self.wire.open(opened);
                self.deadline = None;
            }
            None => {
                cold_path();
                self.wire.connect(self.target.connect(terms.worker, terms.connect, terms.pool));
                self.deadline = Some((now + terms.connect, Waiting::Connect));
            }
        }
    }

    /// Handles a failed attempt: begins the next one if that is harmless and allowed, else ends the leg.
    #[cold]
    pub(super) fn fail(&mut self, failure: Failure, window: &Window, terms: &Terms, now: Instant) {
        let may_repeat = terms.is_idempotent || !self.wire.has_sent() || failure.is_unprocessed;
        let harmless = !self.wire.has_received() && !self.has_response && window.is_replayable() && may_repeat;
        // The endpoint closed a connection just when it was used, which does not count against the endpoint.
        let is_refused = self.wire.is_open() && failure.is_unprocessed && self.refusals_left > 0;
        if harmless && (self.reused || is_refused) {
            self.refusals_left -= u8::from(is_refused);
            self.begin(None, terms, now);
            return;
        }
        if harmless && self.retries_left > 0 && failure.outcome != Outcome::Protocol {
            self.retries_left -= 1;
            // While it waits, its cursor is at the start of the window, which keeps the whole body.
            self.wire.close();
            let nth = (terms.retries - self.retries_left).min(6);
            let pause = Duration::from_millis(25) * (1 << (nth - 1));
            self.deadline = Some((now + pause.mul_f64(0.5 + fastrand::f64()), Waiting::Backoff));
            return;
        }
        let status = self.response().map(|head| head.status);
        self.drop_held();
        self.code = failure.code.or(self.code);
        self.end(LegResult { outcome: failure.outcome, status, error: Some(failure.error) }, now);
    }

    /// Handles the time-out of an attempt.
    #[cold]
    pub(in crate::exchange) fn expire(&mut self, window: &Window, terms: &Terms, now: Instant) {
        let Some((_, waiting)) = self.deadline.take() else { return };
        let (kind, detail) = match waiting {
            Waiting::Backoff => return self.begin(None, terms, now),
            Waiting::Connect => {
                self.target.connect_timed_out();
                (ProxyError::ConnectionTimeout, format!("no connection within {}", text(terms.connect)))
            }
            Waiting::FirstByte => {
                let limit = terms.first_byte.unwrap_or_default();
                (ProxyError::ConnectionReadTimeout, format!("no answer within {}", text(limit)))
            }
        };
        self.fail(Failure::new(Outcome::Timeout, kind, detail), window, terms, now);
    }
}

fn text(duration: Duration) -> String {
    runtime::duration::format(duration)
}
