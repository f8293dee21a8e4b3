//! The second half of a request: the answer goes from the winning leg to the client, while the other legs run on.

use std::{
    hint::cold_path,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{
    Exchange, Inbound, Outbound,
    alarm::Alarm,
    gather::{BodyProgress, Gathered},
    leg::MAX_HELD_BYTES,
    pace::Pace,
    two_way::STANDSTILL,
};
use crate::{
    clock,
    outcome::{LegError, Outcome},
    proxy_error::ProxyError,
};

/// How the answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streamed {
    /// The client has received all of it.
    Whole,
    /// The endpoint's answer is truncated, which the client must notice.
    Cut,
    /// The client has disconnected or reads nothing.
    Gone,
}

impl Exchange {
    /// Streams the answer of the winner to the client, and the rest of the request from `inbound`, if given, to the legs. `pace` is
    /// the least speed of the client in reading.
    pub fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        mut inbound: Option<&mut Inbound<'_>>,
        client: &mut Outbound<'_>,
        pace: Pace,
        alarm: &mut Alarm,
    ) -> Poll<Streamed> {
        let Some(winner) = self.choice.winner() else { return Poll::Ready(Streamed::Cut) };
        let mut now = clock::now();
        self.wakers.arrive(cx.waker());
        loop {
            let read = match &mut inbound {
                Some(inbound) if !self.window.is_finished() => self.read_body(cx, inbound, now),
                _ => BodyProgress::Waiting,
            };
            // A complete answer is sent before anything else.
            let whole = self.legs[winner].is_complete();
            let mut moved = !whole && self.poll_legs(cx, now);
            let took = self.take_answer(winner);
            let flushed = match self.outgoing.poll_flush(cx, client) {
                Poll::Ready(Err(_)) => return Poll::Ready(Streamed::Gone),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            let goes_on = inbound.is_some() && !self.window.is_finished();
            if let Some(streamed) = self.end_of_stream(winner, flushed, goes_on, &read, now) {
                return Poll::Ready(streamed);
            }
            if whole {
                moved = self.poll_legs(cx, now);
            }
            let trimmed = matches!(read, BodyProgress::WindowFull) && self.make_room();
            self.note_memory();
            // After the flush made room, a paused leg continues.
            let moves = moved || took || trimmed || matches!(read, BodyProgress::Some);
            if moves || (flushed && self.legs[winner].held_bytes() > 0) {
                continue;
            }
            if goes_on {
                self.note_waits(&read, now);
            } else {
                self.end_waits(now);
            }
            let limit = self.stream_limit(winner, flushed, goes_on, pace, now);
            let due = self.body_due().into_iter().chain(self.gives_up).fold(limit, Instant::min);
            match alarm.poll(cx, due) {
                Poll::Pending if client.is_gone(cx) => return Poll::Ready(Streamed::Gone),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(then) => now = then,
            }
            if let Some(streamed) = self.end_overdue_stream(winner, flushed, limit, now) {
                return Poll::Ready(streamed);
            }
            if self.waits.only_client.is_none() {
                self.expire(now);
            }
            self.drop_laggards(now);
        }
    }

    /// How the answer has ended, if it has. `goes_on` means that the request continues.
    fn end_of_stream(
        &mut self,
        winner: usize,
        flushed: bool,
        goes_on: bool,
        read: &BodyProgress,
        now: Instant,
    ) -> Option<Streamed> {
        let leg = &self.legs[winner];
        let is_out = flushed && leg.held_bytes() == 0;
        let is_whole = is_out && leg.is_complete();
        if is_out && leg.result().is_some_and(|result| result.error.is_some()) {
            cold_path();
            return Some(Streamed::Cut);
        }
        match read {
            BodyProgress::Over(_) if is_whole => Some(Streamed::Whole),
            BodyProgress::Over(Gathered::Fault(fault)) => {
                cold_path();
                let error = LegError::new(ProxyError::HttpRequestError, fault.to_string());
                self.end_leg(winner, Outcome::Cancelled, error, now);
                Some(Streamed::Cut)
            }
            BodyProgress::Over(_) => Some(Streamed::Gone),
            // The other legs may still want the rest of the request.
            _ if is_whole && goes_on => {
                self.waits.answered.get_or_insert(now);
                None
            }
            _ => (is_out && leg.result().is_some()).then_some(Streamed::Whole),
        }
    }

    /// When the client, or both sides, will have been silent for too long.
    fn stream_limit(&mut self, winner: usize, flushed: bool, goes_on: bool, pace: Pace, now: Instant) -> Instant {
        if !flushed {
            return self.outgoing.stall(pace, now);
        }
        match self.waits.answered {
            Some(answered) if goes_on => answered + STANDSTILL,
            _ => {
                let last_read = self.legs[winner].last_read();
                self.waits.last_piece.map_or(last_read, |last| last.max(last_read))
                    + self.route.config.policy.timeouts.idle
            }
        }
    }

    /// Ends an overdue answer. Returns how it has ended, if it has.
    fn end_overdue_stream(&mut self, winner: usize, flushed: bool, limit: Instant, now: Instant) -> Option<Streamed> {
        let is_given_up = self.gives_up.is_some_and(|at| now >= at);
        if now < limit && !is_given_up {
            return None;
        }
        if flushed && self.waits.answered.is_some() {
            return Some(Streamed::Whole);
        }
        if !flushed && !is_given_up {
            return Some(Streamed::Gone);
        }
        let why = if is_given_up {
            "the time that the caller gave has passed".to_owned()
        } else {
            format!(
                "the answer stopped coming for {}",
                runtime::duration::format(self.route.config.policy.timeouts.idle)
            )
        };
        self.end_leg(winner, Outcome::Timeout, LegError::new(ProxyError::ConnectionReadTimeout, why), now);
        self.expire_given(now);
        Some(Streamed::Cut)
    }

    /// Moves the winner's held body to the client's queue while the queue is short.
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
