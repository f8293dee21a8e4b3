//! The second half of a request: the answer goes from the winning leg to the client, while the other legs run on.

use std::task::{Context, Poll};

use super::{Exchange, Outbound, alarm::Alarm, leg::MAX_HELD_BYTES, pace::Pace};
use crate::{
    clock,
    outcome::{LegError, Outcome},
    proxy_error::ProxyError,
};

/// How the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streamed {
    /// The client has all of it.
    Whole,
    /// The endpoint broke off: the client must not take it for whole.
    Cut,
    /// The client is gone or takes nothing.
    Gone,
}

impl Exchange {
    /// Drives the answer of the winner to the client. `pace` is how slow the client may be in taking it.
    pub fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Outbound<'_>,
        pace: Pace,
        alarm: &mut Alarm,
    ) -> Poll<Streamed> {
        let Some(winner) = self.choice.winner() else { return Poll::Ready(Streamed::Cut) };
        let mut now = clock::now();
        self.wakers.arrive(cx.waker());
        loop {
            // An answer that is whole goes out before anything else is looked at.
            let whole = self.legs[winner].is_complete();
            let mut moved = !whole && self.poll_legs(cx, now);
            let took = self.take_answer(winner);
            let flushed = match self.outgoing.poll_flush(cx, client) {
                Poll::Ready(Err(_)) => return Poll::Ready(Streamed::Gone),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            let leg = &self.legs[winner];
            if flushed
                && leg.held_bytes() == 0
                && let Some(result) = leg.result()
            {
                return Poll::Ready(if result.error.is_some() { Streamed::Cut } else { Streamed::Whole });
            }
            if whole {
                moved = self.poll_legs(cx, now);
            }
            self.note_memory();
            // Where the flush made room, what waits in the leg can go on.
            if moved || took || (flushed && self.legs[winner].held_bytes() > 0) {
                continue;
            }
            let limit = if flushed {
                self.legs[winner].last_read() + self.route.config.policy.timeouts.idle
            } else {
                self.outgoing.stall(pace, now)
            };
            match alarm.poll(cx, self.next_due().map_or(limit, |due| due.min(limit))) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(then) => now = then,
            }
            if now >= limit {
                if !flushed {
                    return Poll::Ready(Streamed::Gone);
                }
                let idle = runtime::duration::format(self.route.config.policy.timeouts.idle);
                let why = format!("the answer stopped coming for {idle}");
                self.end_leg(winner, Outcome::Timeout, LegError::new(ProxyError::ConnectionReadTimeout, why), now);
                return Poll::Ready(Streamed::Cut);
            }
            self.expire(now);
        }
    }

    /// Moves what the winner has to the client's queue, as long as that is short.
    fn take_answer(&mut self, winner: usize) -> bool {
        let (mut leg, out) = (self.legs.get_mut(winner), &mut self.outgoing);
        let before = leg.held_bytes();
        while out.waiting() < MAX_HELD_BYTES
            && let Some(data) = leg.take_held()
        {
            out.push_body(data);
        }
        let took = before - leg.held_bytes();
        if took > 0 && !leg.is_complete() {
            // It may have paused.
            self.wakers.flag(winner);
        }
        if leg.is_complete() && leg.held_bytes() == 0 {
            out.end_with(leg.trailers().clone());
        }
        took > 0
    }
}
