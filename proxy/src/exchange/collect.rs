//! Before the legs begin: enough of the body has to be there, so that what a slow client costs is paid here and not by the endpoints.
//!
//! The loop looks like that of [`gather`](super::gather), with which it shares how the body is read and how slow a client may be. But
//! no leg takes anything yet: where there is no room, small pieces are put together, and nothing can be let go.

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
    /// Whether as much of the body is there as the legs need to begin.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.window.is_finished() || self.window.received() >= self.begins_at()
    }

    /// How much of the body the legs need to begin.
    fn begins_at(&self) -> u64 {
        let policy = &self.route.config.policy;
        match (policy.waves, self.terms.grpc) {
            // Later waves get all of it.
            (Some(_), _) => u64::MAX,
            // The endpoint may be the first to say something.
            (None, Some(_)) if self.may_be_two_way() => 0,
            (None, Some(_)) => 1,
            (None, None) => policy.begins_at(),
        }
    }

    /// Reads the body until the legs can begin; tells what kept them from that. `pace` is how slow the client may be.
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
                // Small pieces cost more than they hold, and a client can send as many of them as it likes.
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

    /// Puts together what came in small pieces; whether that made room.
    fn compact(&mut self) -> bool {
        let before = self.window.cost();
        self.window.compact();
        self.note_memory();
        self.window.cost() < before
    }
}
