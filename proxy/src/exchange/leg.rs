//! One leg: connects, writes the request, reads the response, and retries if that is harmless.
//!
//! A leg knows nothing of the others. The exchange polls it, sets what happens to the body of its response ([`Mode`]), and ends it
//! at its deadline.

mod attempt;
mod failure;
mod grpc;
mod view;
mod wire;

use std::{
    collections::VecDeque,
    hint::cold_path,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

pub(super) use self::{attempt::Own, wire::Sending};
use self::{failure::Failure, wire::Wire};
use super::{
    compare::{Keeping, Kept},
    spare::SPARE_LIST_ENTRIES,
    window::{self, Cursor, Window},
};
use crate::{
    grpc::{self as grpc_status, Code, CodeSet},
    http::{LastHead, response::ResponseHead},
    outcome::{LegError, LegResult, Outcome},
    proxy_error::ProxyError,
    target::Target,
};

/// The bytes of a held response body at which a leg pauses.
pub(super) const MAX_HELD_BYTES: usize = 64 * 1024;

/// The most retries at an endpoint that says that it has not processed the request.
const MAX_REFUSALS: u8 = 3;

/// The settings that all legs of an exchange share.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// The worker whose connections are used.
    pub(super) worker: usize,
    /// Whether the request is a HEAD, whose answers have no body.
    pub(super) is_head: bool,
    /// Whether the request is idempotent.
    pub(super) is_idempotent: bool,
    /// Further attempts after a transport failure.
    pub(super) retries: u32,
    /// The connect time-out.
    pub(super) connect: Duration,
    /// From the end of the request to the first byte of the response.
    pub(super) first_byte: Option<Duration>,
    /// Idle connections kept per endpoint and worker.
    pub(super) pool: usize,
    /// The time for which an idle connection is kept.
    pub(super) pool_idle: Duration,
    /// The successful gRPC statuses, for gRPC requests.
    pub(super) grpc: Option<CodeSet>,
    /// The hold limit in bytes.
    pub(super) hold: usize,
    /// What is kept of bodies besides.
    pub(super) keeping: Keeping,
}

/// What happens to the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is kept, up to [`MAX_HELD_BYTES`], then the leg pauses.
    Hold,
    /// It is read and dropped.
    Discard,
    /// It is streamed to the client; reading pauses at [`MAX_HELD_BYTES`] until the client has read some.
    Stream,
}

/// One copy of the request to one endpoint.
#[derive(Debug)]
pub struct Leg {
    /// The endpoint.
    target: Arc<Target>,
    /// Its connection: none before it has started, while it waits for the next attempt, and after its end.
    wire: Wire,
    /// In what its head differs from the common one, if it does.
    own: Option<Own>,
    /// Whether the attempt is on a connection that carried a request before.
    reused: bool,
    /// The number of attempts.
    attempts: u32,
    retries_left: u32,
    /// The remaining retries after refusals of the endpoint.
    refusals_left: u8,
    /// The head of the response, once there is one. Its memory is reused.
    response: ResponseHead,
    has_response: bool,
    /// The head has just come in, and the leg pauses until the exchange has taken it.
    fresh_head: bool,
    /// Whether the status of the response is a success.
    success: bool,
    mode: Mode,
    /// The part of the body that is held or on its way to the client.
    held: VecDeque<Bytes>,
    /// Its cost in bytes; small pieces count as in a window.
    held_bytes: usize,
    /// What is kept of the body to compare or show it, where it is.
    kept: Option<Box<Kept>>,
    /// The lines of the trailers, once the body is complete.
    trailers: Bytes,
    /// The hold limit in bytes.
    hold: usize,
    /// Whether it is a gRPC request.
    is_grpc: bool,
    /// Its gRPC status, once known.
    code: Option<Code>,
    /// Its trailers report a failure that the exchange has not taken yet.
    late_failure: bool,
    /// It missed, and is sent again.
    deferred: bool,
    /// It missed, and for this reason it is not sent again.
    not_deferred: Option<Arc<str>>,
    /// Bytes of body read so far.
    received: u64,
    /// Whether the body is complete.
    complete: bool,
    /// How the policy has counted it: ok or failed.
    counted: Option<bool>,
    /// The result, once it has ended.
    result: Option<LegResult>,
    started: Instant,
    ended: Instant,
    /// The deadline of the attempt, and its kind.
    deadline: Option<(Instant, Waiting)>,
    /// When the last bytes of the response came.
    last_read: Instant,
    /// Whether it counts as in flight at its target.
    admitted: bool,
}

/// The wait that the time-out of an attempt covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The connection.
    Connect,
    /// The first byte of the response.
    FirstByte,
    /// The next attempt.
    Backoff,
}

/// The result of one step: pending, or ready for the next step.
type Step = Poll<Result<(), Box<Failure>>>;

// === impl Leg ===

impl Leg {
    /// A leg that has not started.
    pub(super) fn new(target: Arc<Target>, terms: &Terms, now: Instant) -> Self {
        Self {
            target,
            wire: Wire::default(),
            own: None,
            reused: false,
            attempts: 0,
            retries_left: terms.retries,
            refusals_left: MAX_REFUSALS,
            response: ResponseHead::default(),
            has_response: false,
            fresh_head: false,
            success: false,
            mode: Mode::Hold,
            held: VecDeque::new(),
            held_bytes: 0,
            kept: terms.keeping.begin(),
            trailers: Bytes::new(),
            hold: terms.hold,
            is_grpc: terms.grpc.is_some(),
            code: None,
            late_failure: false,
            deferred: false,
            not_deferred: None,
            received: 0,
            complete: false,
            counted: None,
            result: None,
            started: now,
            ended: now,
            deadline: None,
            last_read: now,
            admitted: false,
        }
    }

    /// Resets it for another request after [`Leg::clear`], reusing its memory.
    pub(super) fn reset(&mut self, target: &Arc<Target>, terms: &Terms, now: Instant) {
        // Usually the target is the same, which avoids changing reference counts.
        if !Arc::ptr_eq(&self.target, target) {
            cold_path();
            self.target = target.clone();
        }
        (self.attempts, self.retries_left, self.refusals_left) = (0, terms.retries, MAX_REFUSALS);
        (self.fresh_head, self.success, self.mode) = (false, false, Mode::Hold);
        (self.received, self.complete, self.counted) = (0, false, None);
        (self.hold, self.late_failure, self.deferred) = (terms.hold, false, false);
        (self.is_grpc, self.code, self.kept) = (terms.grpc.is_some(), None, terms.keeping.begin());
        (self.started, self.ended, self.last_read, self.deadline) = (now, now, now, None);
    }

    /// Drops connection, response and held body, but keeps reusable memory.
    pub(super) fn clear(&mut self) {
        self.leave();
        self.wire.close();
        self.response.clear();
        (self.has_response, self.result) = (false, None);
        self.drop_held();
        let has_more = self.own.is_some() || self.kept.is_some() || self.not_deferred.is_some();
        if has_more || !self.trailers.is_empty() || self.held.capacity() > SPARE_LIST_ENTRIES {
            self.clear_more();
        }
    }

    /// Drops what only few legs have.
    #[cold]
    fn clear_more(&mut self) {
        (self.own, self.trailers, self.kept, self.not_deferred) = (None, Bytes::new(), None, None);
        self.held.shrink_to(SPARE_LIST_ENTRIES);
    }

    /// Marks it as no longer in flight.
    fn leave(&mut self) {
        if std::mem::take(&mut self.admitted) {
            self.target.leave();
        }
    }

    /// Makes progress up to the head of the response and, once the exchange has taken the head, up to its end. Call it when its
    /// waker was woken, when the window has more, or when its mode has changed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sending: &Sending<'_>,
        terms: &Terms,
        last: &mut LastHead,
        now: Instant,
    ) {
        let sending = match &self.own {
            None => sending,
            Some(Own::Head(own)) => {
                cold_path();
                // A cheap clone, which avoids borrowing the leg while it sends.
                &Sending { head: &own.clone(), shared_head: None, ..*sending }
            }
            Some(Own::Parent(own)) => {
                cold_path();
                &Sending { parent: Some(*own), ..*sending }
            }
        };
        while self.result.is_none() && !self.fresh_head {
            match self.step(cx, sending, terms, last, now) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => self.fail(*failure, sending.window, terms, now),
            }
        }
    }

    fn step(
        &mut self,
        cx: &mut Context<'_>,
        sending: &Sending<'_>,
        terms: &Terms,
        last: &mut LastHead,
        now: Instant,
    ) -> Step {
        if !self.wire.is_open() {
            cold_path();
            if ready!(self.wire.poll_connect(cx))? {
                self.deadline = None;
                return Poll::Ready(Ok(()));
            }
            return Poll::Pending;
        }
        if self.wire.is_sending() {
            self.wire.send(cx, sending);
        }
        if self.wire.is_sent() && !self.wire.has_received() && self.deadline.is_none() {
            self.deadline = terms.first_byte.map(|limit| (now + limit, Waiting::FirstByte));
        }
        if !self.has_response {
            let head = self.wire.poll_head(cx, &mut self.response, last, terms.is_head);
            self.note_arrival(now);
            ready!(head)?;
            (self.has_response, self.fresh_head) = (true, true);
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_body(cx, terms, now))?;
        self.finish(terms, now);
        if self.result.is_none() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Reads the body as far as the mode allows; ready when it is complete.
    fn poll_body(&mut self, cx: &mut Context<'_>, terms: &Terms, now: Instant) -> Step {
        while !self.complete {
            let limit = if self.mode == Mode::Stream { MAX_HELD_BYTES } else { self.hold };
            if self.mode != Mode::Discard && self.held_bytes >= limit {
                cold_path();
                // It counts only by its trailers, which would not be read.
                let too_long = terms.grpc.is_some() && self.mode == Mode::Hold && self.counted.is_none();
                return if too_long { Poll::Ready(Err(Box::new(self.too_long()))) } else { Poll::Pending };
            }
            let piece = self.wire.poll_body(cx);
            self.note_arrival(now);
            match ready!(piece)? {
                None => {
                    self.complete = true;
                    if let Some(kept) = &mut self.kept {
                        cold_path();
                        kept.end();
                    }
                    self.trailers = self.wire.take_trailers();
                }
                Some(data) => {
                    self.received += data.len() as u64;
                    if let Some(kept) = &mut self.kept {
                        cold_path();
                        kept.take(&data, terms.keeping.has_room);
                    }
                    if self.mode != Mode::Discard {
                        self.held_bytes += data.len().max(window::MIN_PIECE_COST);
                        self.held.push_back(data);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the time-out of the attempt when the first byte of the response has come.
    fn note_arrival(&mut self, now: Instant) {
        if self.wire.take_arrival() {
            (self.last_read, self.deadline) = (now, None);
        }
    }

    /// Handles a complete response: the leg ends, unless its request continues and may still succeed. With gRPC the status at the
    /// end decides, even if the endpoint did not read the whole request.
    fn finish(&mut self, terms: &Terms, now: Instant) {
        let (status, is_sent, is_broken_off) = (self.response.status, self.wire.is_sent(), self.wire.is_broken_off());
        let result = match terms.grpc {
            Some(success) => {
                cold_path();
                self.grpc_result(status, success)
            }
            None if self.success && is_broken_off => {
                let detail = "the endpoint answered, but closed the connection before it had the whole request";
                return self.end_with(Outcome::Reset, LegError::new(ProxyError::ConnectionTerminated, detail), now);
            }
            None => LegResult { outcome: Outcome::of_status(status, self.success), status: Some(status), error: None },
        };
        if result.outcome == Outcome::Ok && !is_sent && !is_broken_off {
            return;
        }
        self.end_complete(result, terms, now);
    }

    /// Ends a leg with a complete response.
    fn end_complete(&mut self, result: LegResult, terms: &Terms, now: Instant) {
        if let Some(io) = self.wire.finish(&self.response, terms.is_head) {
            self.target.checkin(terms.worker, io, now, terms.pool_idle, terms.pool);
        }
        if result.error.is_some() {
            cold_path();
            self.drop_held();
        }
        self.end(result, now);
    }

    /// Ends the leg without an answer, and closes its connection. A leg that counted as ok and was paused since then stays ok,
    /// because its endpoint is not the reason why it did not end.
    #[cold]
    pub(super) fn end_with(&mut self, outcome: Outcome, error: LegError, now: Instant) {
        let status = self.response().map(|head| head.status);
        let paused = self.mode == Mode::Hold && self.is_full();
        self.drop_held();
        if self.counted == Some(true) && paused {
            self.end(LegResult { outcome: Outcome::Ok, status, error: None }, now);
            return;
        }
        self.end(LegResult { outcome, status, error: Some(error) }, now);
    }

    fn end(&mut self, result: LegResult, now: Instant) {
        self.wire.close();
        self.deadline = None;
        self.ended = now;
        self.leave();
        self.target.counts.record(result.outcome, result.status, now);
        if self.is_grpc {
            cold_path();
            self.code.get_or_insert(grpc_status::of_outcome(result.outcome));
        }
        self.result = Some(result);
    }

    /// It missed, and is sent again.
    pub(super) fn defer(&mut self) {
        self.deferred = true;
    }

    /// It missed, or was not sent, and for this reason it is not sent later either.
    pub(super) fn not_deferred(&mut self, why: Arc<str>) {
        self.not_deferred = Some(why);
        if let Some(result) = self.result.as_mut().filter(|result| result.outcome == Outcome::Deferred) {
            result.outcome = Outcome::Rejected;
        }
    }

    /// Discards the held body, and the rest of it from here on.
    pub(super) fn discard(&mut self) {
        self.mode = Mode::Discard;
        self.drop_held();
    }

    fn drop_held(&mut self) {
        if !self.held.is_empty() {
            self.held.clear();
        }
        self.held_bytes = 0;
    }

    /// Takes the status of a new response head, if there is one.
    pub(super) fn take_fresh_head(&mut self) -> Option<u16> {
        std::mem::take(&mut self.fresh_head).then_some(self.response.status)
    }

    /// Sets whether the status of its response is a success.
    pub(super) fn set_success(&mut self, success: bool) {
        self.success = success;
    }

    /// Records how the policy has counted it.
    pub(super) fn set_counted(&mut self, ok: bool) {
        self.counted = Some(ok);
    }

    /// Streams its body to the client from here on.
    pub(super) fn stream(&mut self) {
        self.mode = Mode::Stream;
    }

    /// Takes the next piece of the held body.
    pub(super) fn take_held(&mut self) -> Option<Bytes> {
        let piece = self.held.pop_front()?;
        self.held_bytes -= piece.len().max(window::MIN_PIECE_COST);
        Some(piece)
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.leave();
    }
}
