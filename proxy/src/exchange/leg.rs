//! One leg: connects, writes the request, reads the response; begins again where that is harmless.
//!
//! A leg knows nothing of the others. The exchange polls it, tells it what to do with the body of its response
//! ([`Mode`]), and ends it when its time is up.

mod attempt;
mod grpc;
mod view;
mod wire;

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use runtime::tls;
use tokio::time::Instant;

pub(super) use self::wire::Sending;
use self::wire::Wire;
use super::{
    compare::{Keeping, Kept},
    spare::SPARE_LIST_ENTRIES,
    window::{self, Cursor, Window},
};
use crate::{
    grpc::{self as grpc_status, Code, CodeSet},
    http::{Fields, response::ResponseHead},
    outcome::{LegError, LegResult, Outcome},
    proxy_error::ProxyError,
    target::{Connecting, Target},
};

/// At this many bytes of a held response body a leg waits to be told what to do with it.
pub(super) const MAX_HELD_BYTES: usize = 64 * 1024;

/// How often a request is sent again to an endpoint that says that it has done nothing with it.
const MAX_REFUSALS: u8 = 3;

/// What all legs of an exchange share, besides the window.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// The worker whose connections are used.
    pub(super) worker: usize,
    /// Whether the request is a HEAD, whose answers have no body.
    pub(super) is_head: bool,
    /// Whether sending the request twice is harmless.
    pub(super) is_idempotent: bool,
    /// Further attempts after a transport failure.
    pub(super) retries: u32,
    /// How long a connection may take to come about.
    pub(super) connect: Duration,
    /// From the end of the request to the first byte of the response.
    pub(super) first_byte: Option<Duration>,
    /// Idle connections kept per endpoint and worker.
    pub(super) pool: usize,
    /// How long an idle connection is kept.
    pub(super) pool_idle: Duration,
    /// Which statuses are ok, where the request is one of gRPC.
    pub(super) grpc: Option<CodeSet>,
    /// Bytes of a body that are held.
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
    /// It goes to the client as it comes; reading pauses at [`MAX_HELD_BYTES`] until the client has taken some.
    Stream,
}

/// One copy of the request to one endpoint.
#[derive(Debug)]
pub struct Leg {
    /// Where it goes.
    target: Arc<Target>,
    state: State,
    /// The head it sends, where that is another than the one that all legs have in common.
    own_head: Option<Bytes>,
    /// Whether the attempt is on a connection that carried a request before.
    reused: bool,
    /// How often the endpoint was tried.
    attempts: u32,
    retries_left: u32,
    /// How often it may still begin again because its endpoint has done nothing with the request.
    refusals_left: u8,
    /// The head of the response, once there is one.
    response: Option<ResponseHead>,
    /// Memory for its fields.
    fields: Fields,
    /// The head has just come in and nobody has looked at it yet; the leg waits until somebody has.
    fresh_head: bool,
    /// Whether the status of the response is a success.
    success: bool,
    mode: Mode,
    /// The part of the body that is held or on its way to the client.
    held: VecDeque<Bytes>,
    /// What it costs in bytes; a small piece counts like one of a window.
    held_bytes: usize,
    /// What is kept of the body to compare or show it, where it is.
    kept: Option<Box<Kept>>,
    /// The lines of the trailers, once the body is complete.
    trailers: Bytes,
    /// At so many bytes it is full.
    hold: usize,
    /// Whether the request is one of gRPC.
    is_grpc: bool,
    /// Its status, once it is known.
    code: Option<Code>,
    /// Its trailers say that it failed, and nobody has looked at that yet.
    late_failure: bool,
    /// It missed, and is sent again.
    deferred: bool,
    /// Bytes of body read so far.
    received: u64,
    /// Whether the body is complete.
    complete: bool,
    /// As what the policy has counted it, ok or failed.
    counted: Option<bool>,
    /// How it ended, once it has.
    result: Option<LegResult>,
    started: Instant,
    ended: Instant,
    /// When the attempt is given up, by the time-out that is running.
    deadline: Option<(Instant, Waiting)>,
    /// When the last bytes of the response came.
    last_read: Instant,
    /// Whether it is counted as in flight at its target.
    admitted: bool,
}

/// What an attempt waits for under a time-out of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The connection.
    Connect,
    /// The first byte of the response.
    FirstByte,
    /// The next attempt.
    Backoff,
}

enum State {
    /// Nothing under way: not started, waiting for the next attempt, or ended.
    Resting,
    Connecting(Connecting),
    Open(Wire),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resting => "Resting",
            Self::Connecting(_) => "Connecting",
            Self::Open(_) => "Open",
        })
    }
}

/// Whether a leg has more to do at once.
type Step = Poll<Result<(), Failure>>;

/// A failed attempt.
#[derive(Debug)]
struct Failure {
    outcome: Outcome,
    error: LegError,
    /// The endpoint has done nothing with the request, or was never asked.
    is_unprocessed: bool,
    /// What it amounts to in gRPC; none: what the outcome does.
    code: Option<Code>,
}

// === impl Failure ===

impl Failure {
    fn new(outcome: Outcome, kind: ProxyError, detail: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { outcome, error: LegError::new(kind, detail), is_unprocessed: false, code: None }
    }

    fn connect(error: &io::Error) -> Self {
        // There is a connection, on which the endpoint does not speak HTTP/2 as it should.
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<h2::Error>()) {
            return Self { is_unprocessed: true, ..wire::failure("the connection", error) };
        }
        Self { outcome: Outcome::Connect, error: LegError::connect(error), is_unprocessed: true, code: None }
    }

    fn protocol(detail: String) -> Self {
        Self::new(Outcome::Protocol, ProxyError::HttpProtocolError, detail)
    }

    fn io(error: &io::Error, doing: &str) -> Self {
        if let Some(why) = tls::explain(error, tls::Side::Endpoint) {
            return Self::new(Outcome::Reset, ProxyError::TlsAlertReceived, why);
        }
        Self::new(Outcome::Reset, ProxyError::ConnectionTerminated, format!("{doing}: {error}"))
    }
}

// === impl Leg ===

impl Leg {
    /// A leg that has not started.
    pub(super) fn new(target: Arc<Target>, terms: &Terms, now: Instant) -> Self {
        Self {
            target,
            state: State::Resting,
            own_head: None,
            reused: false,
            attempts: 0,
            retries_left: terms.retries,
            refusals_left: MAX_REFUSALS,
            response: None,
            fields: Fields::default(),
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

    /// Makes it, after [`Leg::clear`], one that has not started, for another request; memory is used again.
    pub(super) fn reset(&mut self, target: &Arc<Target>, terms: &Terms, now: Instant) {
        // Mostly it is the same one, which then need not be counted anew.
        if !Arc::ptr_eq(&self.target, target) {
            self.target = target.clone();
        }
        (self.attempts, self.retries_left, self.refusals_left) = (0, terms.retries, MAX_REFUSALS);
        (self.fresh_head, self.success, self.mode) = (false, false, Mode::Hold);
        (self.received, self.complete, self.counted) = (0, false, None);
        (self.hold, self.late_failure, self.deferred) = (terms.hold, false, false);
        (self.is_grpc, self.code, self.kept) = (terms.grpc.is_some(), None, terms.keeping.begin());
        (self.started, self.ended, self.last_read, self.deadline) = (now, now, now, None);
    }

    /// Lets go of everything but memory that the next request can use: connection, response, what is held.
    pub(super) fn clear(&mut self) {
        self.leave();
        self.state = State::Resting;
        (self.own_head, self.result, self.trailers, self.kept) = (None, None, Bytes::new(), None);
        if let Some(response) = self.response.take() {
            self.fields = response.fields.recycle();
        }
        self.drop_held();
        if self.held.capacity() > SPARE_LIST_ENTRIES {
            self.held.shrink_to(SPARE_LIST_ENTRIES);
        }
    }

    /// It is no longer in flight.
    fn leave(&mut self) {
        if std::mem::take(&mut self.admitted) {
            self.target.leave();
        }
    }

    /// Does what can be done without waiting, up to the head of the response and, once that has been looked at, on to
    /// its end. Call it when its waker was woken, when there is more in the window, or when its mode has changed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>, terms: &Terms, now: Instant) {
        let sending = match &self.own_head {
            // Cheap, and it frees the leg to change while it sends.
            Some(own) => &Sending { head: &own.clone(), shared_head: None, ..*sending },
            None => sending,
        };
        while self.result.is_none() && !self.fresh_head {
            match self.step(cx, sending, terms, now) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => self.fail(failure, sending.window, terms, now),
            }
        }
    }

    fn step(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>, terms: &Terms, now: Instant) -> Step {
        match &mut self.state {
            State::Resting => Poll::Pending,
            State::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                Ok(opened) => {
                    (self.state, self.deadline) = (State::Open(Wire::new(opened)), None);
                    Poll::Ready(Ok(()))
                }
                Err(error) => Poll::Ready(Err(Failure::connect(&error))),
            },
            State::Open(wire) => {
                if wire.is_sending() {
                    wire.send(cx, sending);
                }
                if wire.is_sent() && !wire.has_received() && self.deadline.is_none() {
                    self.deadline = terms.first_byte.map(|limit| (now + limit, Waiting::FirstByte));
                }
                if self.response.is_none() {
                    let head = wire.poll_head(cx, &mut self.fields, terms.is_head);
                    self.note_arrival(now);
                    self.response = Some(ready!(head)?);
                    self.fresh_head = true;
                    return Poll::Ready(Ok(()));
                }
                ready!(self.poll_body(cx, terms, now))?;
                self.finish(terms, now);
                if self.result.is_none() { Poll::Pending } else { Poll::Ready(Ok(())) }
            }
        }
    }

    /// Reads the body as far as the mode allows; ready when it is complete.
    fn poll_body(&mut self, cx: &mut Context<'_>, terms: &Terms, now: Instant) -> Step {
        while !self.complete {
            let limit = if self.mode == Mode::Stream { MAX_HELD_BYTES } else { self.hold };
            if self.mode != Mode::Discard && self.held_bytes >= limit {
                // It counts only by its trailers, which would never come.
                let too_long = terms.grpc.is_some() && self.mode == Mode::Hold && self.counted.is_none();
                return if too_long { Poll::Ready(Err(self.too_long())) } else { Poll::Pending };
            }
            let State::Open(wire) = &mut self.state else { return Poll::Pending };
            let piece = wire.poll_body(cx);
            self.note_arrival(now);
            match ready!(piece)? {
                None => {
                    self.complete = true;
                    if let Some(kept) = &mut self.kept {
                        kept.end();
                    }
                    if let State::Open(wire) = &mut self.state {
                        self.trailers = wire.take_trailers();
                    }
                }
                Some(data) => {
                    self.received += data.len() as u64;
                    if let Some(kept) = &mut self.kept {
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

    /// Something may have come of the response: its first byte ends the time-out of the attempt.
    fn note_arrival(&mut self, now: Instant) {
        if let State::Open(wire) = &mut self.state
            && wire.take_arrival()
        {
            (self.last_read, self.deadline) = (now, None);
        }
    }

    /// The response is complete: the leg has ended, unless the request has not and still may succeed. gRPC says at the end of a
    /// response what became of the call, also where the endpoint did not want all of the request.
    fn finish(&mut self, terms: &Terms, now: Instant) {
        let (Some(response), State::Open(wire)) = (&self.response, &self.state) else { return };
        let (status, is_sent, is_broken_off) = (response.status, wire.is_sent(), wire.is_broken_off());
        let result = match terms.grpc {
            Some(success) => self.grpc_result(status, success),
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

    /// Ends the leg, whose response is complete.
    fn end_complete(&mut self, result: LegResult, terms: &Terms, now: Instant) {
        if let State::Open(wire) = std::mem::replace(&mut self.state, State::Resting)
            && let Some(response) = &self.response
            && let Some(io) = wire.into_idle(response, terms.is_head)
        {
            self.target.checkin(terms.worker, io, now, terms.pool_idle, terms.pool);
        }
        if result.error.is_some() {
            self.drop_held();
        }
        self.end(result, now);
    }

    /// Ends the leg without an answer; its connection is closed. One that was counted as ok and is not read on since
    /// then stays ok: its endpoint did what was asked, and it is not the endpoint that keeps it from ending.
    pub(super) fn end_with(&mut self, outcome: Outcome, error: LegError, now: Instant) {
        let status = self.response.as_ref().map(|head| head.status);
        let paused = self.mode == Mode::Hold && self.is_full();
        self.drop_held();
        if self.counted == Some(true) && paused {
            self.end(LegResult { outcome: Outcome::Ok, status, error: None }, now);
            return;
        }
        self.end(LegResult { outcome, status, error: Some(error) }, now);
    }

    fn end(&mut self, result: LegResult, now: Instant) {
        self.state = State::Resting;
        self.deadline = None;
        self.ended = now;
        self.leave();
        self.target.counts.record(result.outcome, result.status, now);
        if self.is_grpc {
            self.code.get_or_insert(grpc_status::of_outcome(result.outcome));
        }
        self.result = Some(result);
    }

    /// It missed, and is sent again.
    pub(super) fn defer(&mut self) {
        self.deferred = true;
    }

    /// It was not sent, and for this reason it is not sent later either.
    pub(super) fn reject(&mut self, error: LegError) {
        if let Some(result) = &mut self.result {
            (result.outcome, result.error) = (Outcome::Rejected, Some(error));
        }
    }

    /// Reads the body on and drops it, from here on and what is held.
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

    /// The head of the response that has just come in is looked at: tells its status.
    pub(super) fn take_fresh_head(&mut self) -> Option<u16> {
        std::mem::take(&mut self.fresh_head).then_some(self.response.as_ref()?.status)
    }

    /// The status of its response is a success, or it is none.
    pub(super) fn set_success(&mut self, success: bool) {
        self.success = success;
    }

    /// The policy has counted it, as ok or as failed.
    pub(super) fn set_counted(&mut self, ok: bool) {
        self.counted = Some(ok);
    }

    /// Its body goes to the client from here on.
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
