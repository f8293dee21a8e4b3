//! Read access to a leg.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Cursor, Kept, Leg, Mode, Own};
use crate::{
    exchange::compare::Excerpt,
    http::response::ResponseHead,
    outcome::{LegResult, Outcome},
    target::Target,
};

impl Leg {
    /// The endpoint.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The number of attempts.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The head of the response, once there is one.
    #[must_use]
    pub fn response(&self) -> Option<&ResponseHead> {
        self.has_response.then_some(&self.response)
    }

    /// Bytes of the response's body read so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The result, once it has ended.
    #[must_use]
    pub fn result(&self) -> Option<&LegResult> {
        self.result.as_ref()
    }

    /// The reported outcome, once it has ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let ended = self.result.as_ref().map(|result| result.outcome);
        if self.deferred { Some(Outcome::Deferred) } else { ended }
    }

    /// What went wrong, for people; and why it is not made up for, where it would have been.
    #[must_use]
    pub fn error(&self) -> Option<Cow<'_, str>> {
        let error = self.result.as_ref().and_then(|result| result.error.as_ref()).map(|error| error.detail.as_ref());
        match (error, self.not_deferred.as_deref()) {
            (Some(error), Some(why)) => Some(format!("{error}; {why}").into()),
            (error, why) => error.or(why).map(Cow::Borrowed),
        }
    }

    /// Whether the policy has yet to count it.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.counted.is_none()
    }

    /// Whether the policy counts it as ok.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.counted == Some(true)
    }

    /// The start of the body of its response, where the report shows that.
    #[must_use]
    pub fn excerpt(&self) -> Option<Excerpt<'_>> {
        let excerpt = self.kept()?.excerpt()?;
        Some(Excerpt { is_truncated: excerpt.is_truncated || !self.complete, ..excerpt }).filter(|_| self.has_response)
    }

    /// What is kept of the body of its response to compare or show it, where it is.
    pub(in crate::exchange) fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }

    /// What that costs in bytes.
    pub(in crate::exchange) fn kept_bytes(&self) -> usize {
        self.kept().map_or(0, Kept::cost)
    }

    /// Whether it is sent again.
    pub(in crate::exchange) fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Its own head, if there is no common one.
    pub(in crate::exchange) fn own_head(&self) -> Option<&Bytes> {
        match &self.own {
            Some(Own::Head(head)) => Some(head),
            Some(Own::Parent(_)) | None => None,
        }
    }

    /// Whether the status of its response is a success.
    pub(in crate::exchange) fn is_success(&self) -> bool {
        self.success
    }

    /// What happens to the body of its response.
    pub(in crate::exchange) fn mode(&self) -> Mode {
        self.mode
    }

    /// The cost in bytes of the held part of the body.
    pub(in crate::exchange) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The lines of the trailers of its response, once that is complete.
    pub(in crate::exchange) fn trailers(&self) -> &Bytes {
        &self.trailers
    }

    /// Whether the body of its response is complete.
    pub(in crate::exchange) fn is_complete(&self) -> bool {
        self.complete
    }

    /// How the policy has counted it: ok or failed.
    pub(in crate::exchange) fn counted(&self) -> Option<bool> {
        self.counted
    }

    /// The deadline of the attempt; none if no time-out of its own is running.
    pub(in crate::exchange) fn due(&self) -> Option<Instant> {
        self.deadline.map(|(at, _)| at)
    }

    /// When the last bytes of the response came.
    pub(in crate::exchange) fn last_read(&self) -> Instant {
        self.last_read
    }

    /// Whether a held body is at its limit.
    pub(in crate::exchange) fn is_full(&self) -> bool {
        self.held_bytes >= self.hold && !self.complete
    }

    /// Whether its body, or the held start of it, can be sent to the client.
    pub(in crate::exchange) fn is_available(&self) -> bool {
        self.has_response
            && self.mode != Mode::Discard
            && self.result.as_ref().is_none_or(|result| result.error.is_none())
    }

    /// Its position in the window: the start while it waits for an attempt.
    pub(in crate::exchange) fn cursor(&self) -> Cursor {
        self.wire.cursor()
    }

    /// Whether it still needs bytes of the window.
    pub(in crate::exchange) fn is_sending(&self) -> bool {
        self.result.is_none() && self.wire.is_sending()
    }

    /// Whether the endpoint has the whole request.
    pub(in crate::exchange) fn is_sent(&self) -> bool {
        self.wire.is_sent()
    }

    /// From its start to its end, or to now.
    #[must_use]
    pub fn elapsed(&self, now: Instant) -> Duration {
        let (began, until) = self.times(now);
        until.saturating_duration_since(began)
    }

    /// Its start, and its end or now.
    #[must_use]
    pub fn times(&self, now: Instant) -> (Instant, Instant) {
        (self.started, if self.result.is_some() { self.ended } else { now })
    }
}
