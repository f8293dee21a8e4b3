//! Collects enough of the body before the legs begin, so that a slow client costs the endpoints nothing.
//!
//! The loop resembles that of [`gather`](super::gather), with the same reading and the same limits for slow clients. But no leg
//! consumes anything yet: if the window is full, small pieces are merged, and nothing can be dropped.

use std::task::{Context, Poll, ready};

use super::{
    Exchange, Inbound,
    alarm::Alarm,
    gather::{BodyProgress, Fault, Gathered},
    pace::Pace,
    timeouts::far,
};
use crate::clock;

impl Exchange {
    /// Whether enough of the body has arrived for the legs to begin.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.window.is_finished() || self.window.received() >= self.begins_at()
    }

    /// The bytes of the body at which the legs begin.
    fn begins_at(&self) -> u64 {
        let policy = &self.route.config.policy;
        if self.waits_for_whole_body() {
            return u64::MAX;
        }
        match (policy.waves, self.terms.grpc) {
            // Later waves need the whole body.
            (Some(_), _) => u64::MAX,
            // The endpoint may send the first message.
            (None, Some(_)) if self.may_be_two_way() => 0,
            (None, Some(_)) => 1,
            (None, None) => policy.begins_at(),
        }
    }

    /// Reads the body until the legs can begin. Returns a fault of the client, if there was one. `pace` is the least speed of the
    /// client.
    pub fn poll_collect(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Inbound<'_>,
        pace: Pace,
        alarm: &mut Alarm,
    ) -> Poll<Option<Gathered>> {
        let mut now = clock::now();
        loop {
            if self.has_enough() {
                return Poll::Ready(None);
            }
            let read = self.read_body(cx, client, now);
            match read {
                BodyProgress::Over(over) => return Poll::Ready(Some(over)),
                BodyProgress::Some => continue,
                // Small pieces cost more than their size, and a client may send any number of them.
                BodyProgress::WindowFull if self.compact() => continue,
                BodyProgress::WindowFull if self.route.config.policy.waves.is_some() => {
                    return Poll::Ready(Some(Gathered::Fault(Fault::NoRoom)));
                }
                BodyProgress::WindowFull => return Poll::Ready(None),
                BodyProgress::Waiting => drop(self.compact()),
            }
            self.waits.client.begin(now);
            let due = self.waits.client.due(pace, self.window.received()).unwrap_or_else(far);
            now = match ready!(self.poll_until(cx, due, pace, alarm)) {
                Ok(now) => now,
                Err(too_slow) => return Poll::Ready(Some(too_slow)),
            };
        }
    }

    /// Merges small pieces. Returns whether that made room.
    fn compact(&mut self) -> bool {
        let before = self.window.cost();
        self.window.compact();
        self.note_memory();
        self.window.cost() < before
    }
}
