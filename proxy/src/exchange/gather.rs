//! The first half of a request, once its legs have begun: its body goes from the client through the window to every leg, until the
//! policy has a decision or the client turns out to be at fault.

use std::{
    hint::cold_path,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Exchange, Inbound, Leg,
    alarm::Alarm,
    inbound::Broken,
    pace::{Pace, Patience, Slow},
    quorum::Decision,
    timeouts::{earlier, far},
};
use crate::{
    clock,
    http::body::Piece,
    outcome::{LegError, Outcome},
    proxy_error::ProxyError,
};

/// The result of the first half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathered {
    /// There is a decision. After a failure the client may still be sending.
    Decided(Decision),
    /// The client is at fault: answer with the fault's status, and close the connection.
    Fault(Fault),
    /// The client disconnected in the middle of the body.
    Gone,
}

/// A fault of a client's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// 400
    #[error("the request body has {0}")]
    Chunks(#[from] crate::http::chunked::ChunkError),
    /// 408
    #[error("{}", slow(*.0))]
    Slow(Slow),
    /// 413
    #[error("the request body is longer than {0} bytes, which is the limit")]
    TooLong(u64),
    /// 503: the proxy has no memory for the rest of the body.
    #[error("the proxy has reached its limit of buffered bytes: try again later, or raise max-buffered")]
    NoRoom,
}

impl Fault {
    /// The status it is answered with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Chunks(_) => 400,
            Self::Slow(_) => 408,
            Self::TooLong(_) => 413,
            Self::NoRoom => 503,
        }
    }
}

fn slow(slow: Slow) -> String {
    match slow {
        Slow::Idle(limit) => {
            format!("the request body stopped coming for longer than {}", runtime::duration::format(limit))
        }
        Slow::Rate(rate) => {
            format!("the request body came at less than {} a second on average", runtime::size::ByteSize(rate))
        }
    }
}

/// The timers of waits while a body comes in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// The wait for the client, while there is room.
    pub(super) client: Patience,
    /// When only the client began to be waited for; that time does not count.
    pub(super) only_client: Option<Instant>,
    /// When the window became full.
    window: Option<Instant>,
    /// When something last came from the client.
    pub(super) last_piece: Option<Instant>,
    /// When the answer was complete and sent, while the request continues.
    pub(super) answered: Option<Instant>,
}

/// The result of reading more of the body.
pub(super) enum BodyProgress {
    Some,
    WindowFull,
    Waiting,
    Over(Gathered),
}

impl Exchange {
    /// Drives the exchange, whose legs have begun, towards a decision.
    pub fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Inbound<'_>,
        pace: Pace,
        alarm: &mut Alarm,
    ) -> Poll<Gathered> {
        let mut now = clock::now();
        self.wakers.arrive(cx.waker());
        loop {
            let read = if self.window.is_finished() { BodyProgress::Waiting } else { self.read_body(cx, client, now) };
            if let BodyProgress::Over(over) = read {
                cold_path();
                return Poll::Ready(over);
            }
            self.poll_legs(cx, now);
            if let Some(decision) = self.decision(now) {
                return Poll::Ready(Gathered::Decided(decision));
            }
            let trimmed = matches!(read, BodyProgress::WindowFull) && self.make_room();
            self.note_memory();
            if trimmed || matches!(read, BodyProgress::Some) {
                continue;
            }
            self.note_waits(&read, now);
            let due = self.gather_due(pace);
            now = match ready!(self.poll_until(cx, due, pace, alarm)) {
                Ok(now) => now,
                Err(too_slow) => return Poll::Ready(too_slow),
            };
            cold_path();
            if self.waits.only_client.is_none() {
                self.expire(now);
            }
            self.expire_given(now);
            self.end_standstill(now);
            self.drop_laggards(now);
        }
    }

    /// Waits until `due`. Returns a fault if the client was too slow.
    pub(super) fn poll_until(
        &self,
        cx: &mut Context<'_>,
        due: Instant,
        pace: Pace,
        alarm: &mut Alarm,
    ) -> Poll<Result<Instant, Gathered>> {
        let now = ready!(alarm.poll(cx, due));
        let slow = self.waits.client.slow(pace, self.window.received(), now);
        Poll::Ready(slow.map_or(Ok(now), |slow| Err(Gathered::Fault(Fault::Slow(slow)))))
    }

    /// A report waits for every leg; otherwise the policy decides.
    fn decision(&mut self, now: Instant) -> Option<Decision> {
        if self.wants_report && !self.is_over() {
            cold_path();
            return None;
        }
        let decision = self.quorum.decision()?;
        (!self.holds_answer(now)).then_some(decision)
    }

    /// Reads available body bytes while there is room.
    pub(super) fn read_body(&mut self, cx: &mut Context<'_>, client: &mut Inbound<'_>, now: Instant) -> BodyProgress {
        let mut some = false;
        // A request that keeps nothing may always read a piece, so that every request makes progress.
        while self.window.has_room() && (self.window.is_empty() || self.share.has_room()) {
            // Received pieces are sent before more is read.
            let Poll::Ready(piece) = client.poll_piece(cx, !some) else {
                if some {
                    break;
                }
                return BodyProgress::Waiting;
            };
            match piece {
                Err(Broken::Fault(fault)) => return BodyProgress::Over(Gathered::Fault(fault)),
                Err(Broken::Gone) => return BodyProgress::Over(Gathered::Gone),
                Ok(Piece::End) => {
                    self.window.finish_with(client.take_trailers());
                    self.flag_senders();
                    self.end_waits(now);
                    return BodyProgress::Some;
                }
                Ok(Piece::Data(data)) => {
                    self.window.push(data);
                    if let Some(limit) = self.route.config.policy.longest_body()
                        && self.window.received() > limit
                    {
                        return BodyProgress::Over(Gathered::Fault(Fault::TooLong(limit)));
                    }
                    self.note_memory();
                    some = true;
                }
                Ok(Piece::Partial) => self.end_waits(now),
            }
        }
        if some {
            self.waits.last_piece = Some(now);
            self.flag_senders();
            return BodyProgress::Some;
        }
        BodyProgress::WindowFull
    }

    fn flag_senders(&mut self) {
        for (index, leg) in self.legs.iter().enumerate() {
            if leg.is_sending() {
                self.wakers.flag(index);
            }
        }
    }

    /// Drops pieces that every leg has sent. Returns whether that made room.
    pub(super) fn make_room(&mut self) -> bool {
        let before = (self.window.cost(), self.window.ahead());
        if !self.share.has_room() {
            cold_path();
            self.window.keep_no_longer();
        }
        match self.slowest() {
            Some((_, cursor)) => self.window.trim(cursor),
            None => self.window.trim_all(),
        }
        self.window.cost() < before.0 || self.window.ahead() < before.1
    }

    /// Starts and stops the timers of waits.
    pub(super) fn note_waits(&mut self, read: &BodyProgress, now: Instant) {
        let waits = &mut self.waits;
        match read {
            BodyProgress::WindowFull => {
                if waits.window.is_none() {
                    waits.window = Some(now);
                    self.route.metrics.window_stalls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
                waits.client.end(now);
            }
            BodyProgress::Waiting if !self.window.is_finished() => {
                waits.window = None;
                waits.client.begin(now);
                self.window.unpin();
                // A leg that is still connecting is waited for, even with nothing to send.
                let caught_up = |leg: &Leg| {
                    !leg.is_sending() || (leg.due().is_none() && self.window.is_passed(leg.cursor(), self.coding))
                };
                if self.legs.iter().all(caught_up) {
                    waits.only_client.get_or_insert(now);
                } else {
                    self.end_only_client(now);
                }
            }
            _ => self.end_waits(now),
        }
    }

    /// Stops the timers after something came from the client.
    pub(super) fn end_waits(&mut self, now: Instant) {
        self.end_only_client(now);
        self.waits.client.end(now);
        self.waits.window = None;
    }

    /// Extends deadlines by the time in which only the client was waited for.
    fn end_only_client(&mut self, now: Instant) {
        if let Some(since) = self.waits.only_client.take() {
            let later = |deadline: Instant| deadline + now.saturating_duration_since(since);
            self.deadline = self.deadline.map(later).map(|at| self.gives_up.map_or(at, |given| given.min(at)));
        }
    }

    fn gather_due(&self, pace: Pace) -> Instant {
        let client = self.waits.client.due(pace, self.window.received());
        let due = earlier(earlier(self.body_due(), client), self.standstill_due());
        earlier(due, self.owing.grace_ends).unwrap_or_else(far)
    }

    /// The next deadline other than the client's, while its body comes in.
    pub(super) fn body_due(&self) -> Option<Instant> {
        let lag = self.waits.window.map(|since| since + self.route.config.policy.lag_timeout.max(MIN_LAG));
        // While only the client is waited for, only its own deadline runs.
        let own = if self.waits.only_client.is_some() { self.gives_up } else { self.next_due() };
        earlier(lag, own)
    }

    /// Drops the slowest legs after the window was full for too long, until there is room or the quorum would be out of reach.
    pub(super) fn drop_laggards(&mut self, now: Instant) {
        let limit = self.route.config.policy.lag_timeout.max(MIN_LAG);
        if self.waits.window.is_none_or(|since| now < since + limit) {
            return;
        }
        while self.quorum.reachable(1) && !self.window.has_room() {
            let Some((index, _)) = self.slowest() else { break };
            if self.choice.winner() == Some(index) {
                break;
            }
            let why = format!("took nothing of the request for {}", runtime::duration::format(limit));
            self.end_leg(index, Outcome::Lagged, LegError::new(ProxyError::ConnectionWriteTimeout, why), now);
            self.make_room();
        }
        // Legs that remain are needed, or get the same time again.
        self.waits.window = Some(now);
    }
}

/// The shortest lag time-out; a shorter one would drop legs because of scheduling delays.
const MIN_LAG: Duration = Duration::from_millis(10);
