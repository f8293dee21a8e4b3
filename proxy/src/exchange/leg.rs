//! One leg: connects, writes the request, reads the response; begins again where that is harmless.
//!
//! A leg knows nothing of the others. The exchange polls it, tells it what to do with the body of its response
//! ([`Mode`]), and ends it when its time is up.

mod wire;

use std::{
    collections::VecDeque,
    io::{self},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{
    spare::ENTRIES,
    window::{self, Cursor, Window},
};
use crate::{
    buffers,
    http::{Bounds, Fields, Framing, HeadScanner, body::BodyReader, response::ResponseHead},
    outcome::{LegError, LegResult, Outcome},
    target::Target,
    transport::{Connecting, Io},
};

/// At this many bytes of a held response body a leg waits to be told what to do with it.
pub const HOLD: usize = 64 * 1024;

/// Interim responses (1xx) that are dropped before the connection is given up.
const MAX_INTERIM: u8 = 8;

/// What a response head may hold at most.
const RESPONSE_HEAD: Bounds = Bounds { first_line: 16 * 1024, bytes: 64 * 1024, fields: 256 };

/// Buffers written with one system call.
const SLICES: usize = 64;

/// What all legs of an exchange share, besides the window.
#[derive(Debug, Default)]
pub struct Terms {
    /// The worker whose connections are used.
    pub worker: usize,
    /// Whether the request is a HEAD, whose answers have no body.
    pub is_head: bool,
    /// Whether sending the request twice is harmless.
    pub is_idempotent: bool,
    /// Further attempts after a transport failure.
    pub retries: u32,
    /// How long a connection may take to come about.
    pub connect: Duration,
    /// From the end of the request to the first byte of the response.
    pub first_byte: Option<Duration>,
    /// Idle connections kept per endpoint and worker.
    pub pool: usize,
    /// How long an idle connection is kept.
    pub pool_idle: Duration,
}

/// What happens to the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is kept, up to [`HOLD`], then the leg pauses.
    Hold,
    /// It is read and dropped.
    Discard,
    /// It goes to the client as it comes; reading pauses at [`HOLD`] until the client has taken some.
    Stream,
}

/// What a leg writes: the head that all legs have in common, and the body.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The head.
    pub head: &'a [u8],
    /// The body.
    pub window: &'a Window,
}

/// One copy of the request to one endpoint.
#[derive(Debug)]
pub struct Leg {
    /// Where it goes.
    pub target: Arc<Target>,
    state: State,
    /// The head it writes, where that is another than the one that all legs have in common.
    pub own_head: Option<Bytes>,
    head_sent: usize,
    cursor: Cursor,
    /// Whether the whole request was written to the endpoint.
    pub sent: bool,
    write_error: Option<io::ErrorKind>,
    attempt: Attempt,
    /// How often the endpoint was tried.
    pub attempts: u32,
    retries_left: u32,
    /// What has been read and not been taken yet; none while there is nothing.
    buffer: BytesMut,
    scanner: HeadScanner,
    interim: u8,
    /// The head of the response, once there is one.
    pub response: Option<ResponseHead>,
    /// Memory for its fields.
    fields: Fields,
    /// The head has just come in and nobody has looked at it yet; the leg waits until somebody has.
    pub fresh_head: bool,
    /// Whether the status of the response is a success; set by the exchange.
    pub success: bool,
    reader: BodyReader,
    /// What happens to the body.
    pub mode: Mode,
    /// The part of the body that is held or on its way to the client.
    held: VecDeque<Bytes>,
    /// What it costs in bytes; a small piece counts like one of a window.
    pub held_bytes: usize,
    /// Bytes of body read so far.
    pub received: u64,
    /// Whether the body is complete.
    pub complete: bool,
    /// As what the policy has counted it, ok or failed; set by the exchange.
    pub counted: Option<bool>,
    /// How it ended, once it has.
    pub result: Option<LegResult>,
    started: Instant,
    ended: Instant,
    /// When the attempt is given up, by the time-out that is running.
    pub deadline: Option<(Instant, Waiting)>,
    /// When the last bytes of the response came.
    pub last_read: Instant,
    /// Whether it is counted as in flight at its target.
    admitted: bool,
}

/// What an attempt waits for under a time-out of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The connection.
    Connect,
    /// The first byte of the response.
    FirstByte,
    /// The next attempt.
    Backoff,
}

/// What matters about an attempt when it fails.
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    /// On a connection that carried a request before.
    reused: bool,
    wrote: bool,
    read: bool,
}

enum State {
    /// Nothing under way: not started, waiting for the next attempt, or ended.
    Resting,
    Connecting(Connecting),
    Open(Io),
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
struct Failure {
    outcome: Outcome,
    error: LegError,
}

impl Failure {
    fn new(outcome: Outcome, kind: &'static str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { outcome, error: LegError::new(kind, detail) }
    }

    fn io(error: &io::Error, doing: &str) -> Self {
        Self::new(Outcome::Reset, "connection_terminated", format!("{doing}: {error}"))
    }
}

// === impl Leg ===

impl Leg {
    /// A leg that has not started.
    #[must_use]
    pub fn new(target: Arc<Target>, terms: &Terms, now: Instant) -> Self {
        Self {
            target,
            state: State::Resting,
            own_head: None,
            head_sent: 0,
            cursor: Cursor::default(),
            sent: false,
            write_error: None,
            attempt: Attempt::default(),
            attempts: 0,
            retries_left: terms.retries,
            buffer: BytesMut::new(),
            scanner: HeadScanner::default(),
            interim: 0,
            response: None,
            fields: Fields::default(),
            fresh_head: false,
            success: false,
            reader: BodyReader::EMPTY,
            mode: Mode::Hold,
            held: VecDeque::new(),
            held_bytes: 0,
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
    pub fn reset(&mut self, target: &Arc<Target>, terms: &Terms, now: Instant) {
        // Mostly it is the same one, which then need not be counted anew.
        if !Arc::ptr_eq(&self.target, target) {
            self.target = target.clone();
        }
        (self.attempts, self.retries_left) = (0, terms.retries);
        (self.fresh_head, self.success, self.mode) = (false, false, Mode::Hold);
        (self.received, self.complete, self.counted) = (0, false, None);
        (self.started, self.ended, self.last_read, self.deadline) = (now, now, now, None);
    }

    /// Lets go of everything but memory that the next request can use: connection, response, what is held.
    pub fn clear(&mut self) {
        self.leave();
        self.state = State::Resting;
        (self.own_head, self.result) = (None, None);
        if let Some(response) = self.response.take() {
            self.fields = response.fields.recycle();
        }
        self.drop_held();
        if self.held.capacity() > ENTRIES {
            self.held.shrink_to(ENTRIES);
        }
        buffers::give(&mut self.buffer);
    }

    /// Begins the first attempt, unless the endpoint has `cap` legs in flight already.
    pub fn start(&mut self, terms: &Terms, cap: usize, now: Instant) {
        self.admitted = self.target.admit(cap);
        if !self.admitted {
            let detail = format!("the endpoint has {cap} requests in flight already");
            self.end_with(Outcome::Rejected, LegError::new("connection_limit_reached", detail), now);
            return;
        }
        let idle = self.target.checkout(terms.worker, now, !terms.is_idempotent);
        self.begin(idle, terms, now);
    }

    /// It is no longer in flight.
    fn leave(&mut self) {
        if std::mem::take(&mut self.admitted) {
            self.target.leave();
        }
    }

    /// Begins an attempt from the start of the request.
    fn begin(&mut self, idle: Option<Io>, terms: &Terms, now: Instant) {
        self.attempts += 1;
        self.attempt = Attempt { reused: idle.is_some(), ..Attempt::default() };
        (self.head_sent, self.cursor, self.sent, self.write_error) = (0, Cursor::default(), false, None);
        (self.scanner, self.interim, self.response) = (HeadScanner::default(), 0, None);
        self.buffer.clear();
        (self.state, self.deadline) = match idle {
            Some(io) => (State::Open(io), None),
            None => {
                let connecting = self.target.connect(terms.connect);
                (State::Connecting(connecting), Some((now + terms.connect, Waiting::Connect)))
            }
        };
    }

    /// Does what can be done without waiting, up to the head of the response and, once that has been looked at, on to
    /// its end. Call it when its waker was woken, when there is more in the window, or when its mode has changed.
    pub fn poll(&mut self, cx: &mut Context<'_>, sending: &Sending<'_>, terms: &Terms, now: Instant) {
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
                Ok(io) => {
                    (self.state, self.deadline) = (State::Open(io), None);
                    Poll::Ready(Ok(()))
                }
                Err(error) => Poll::Ready(Err(Failure { outcome: Outcome::Connect, error: LegError::connect(&error) })),
            },
            State::Open(_) => {
                if !self.sent
                    && let Poll::Ready(Err(error)) = self.poll_write(cx, sending)
                {
                    // An endpoint may answer before it has read everything, and then close: that answer counts.
                    self.write_error = Some(error.kind());
                }
                if self.sent && !self.attempt.read && self.deadline.is_none() {
                    self.deadline = terms.first_byte.map(|limit| (now + limit, Waiting::FirstByte));
                }
                if self.response.is_none() {
                    ready!(self.poll_head(cx, terms, now))?;
                    self.fresh_head = true;
                    return Poll::Ready(Ok(()));
                }
                ready!(self.poll_body(cx, now))?;
                self.finish(terms, now);
                if self.result.is_none() { Poll::Pending } else { Poll::Ready(Ok(())) }
            }
        }
    }

    /// The response is complete: the leg has ended, unless the request has not and still may succeed.
    fn finish(&mut self, terms: &Terms, now: Instant) {
        let Some(response) = &self.response else { return };
        let status = response.status;
        let whole = self.sent && self.write_error.is_none();
        if self.success && !whole {
            if self.write_error.is_some() {
                let detail = "the endpoint answered, but closed the connection before it had the whole request";
                self.end_with(Outcome::Reset, LegError::new("connection_terminated", detail), now);
            }
            return;
        }
        let reusable = whole
            && response.keepalive
            && self.buffer.is_empty()
            && (response.framing != Framing::Unsaid || response.is_bodiless(terms.is_head));
        if let State::Open(io) = std::mem::replace(&mut self.state, State::Resting)
            && reusable
        {
            self.target.checkin(terms.worker, io, now, terms.pool_idle, terms.pool);
        }
        let outcome = Outcome::of_status(status, self.success);
        self.end(LegResult { outcome, status: Some(status), error: None }, now);
    }

    /// An attempt failed: begins the next one where that is harmless and allowed, else ends the leg.
    fn fail(&mut self, failure: Failure, window: &Window, terms: &Terms, now: Instant) {
        let harmless = !self.attempt.read
            && self.response.is_none()
            && window.is_replayable()
            && (terms.is_idempotent || !self.attempt.wrote);
        // The endpoint closed an idle connection in the moment it was used: that says nothing about the endpoint.
        if harmless && self.attempt.reused {
            self.begin(None, terms, now);
            return;
        }
        if harmless && self.retries_left > 0 && failure.outcome != Outcome::Protocol {
            self.retries_left -= 1;
            self.state = State::Resting;
            let nth = (terms.retries - self.retries_left).min(6);
            let pause = Duration::from_millis(25) * (1 << (nth - 1));
            self.deadline = Some((now + pause.mul_f64(0.5 + fastrand::f64()), Waiting::Backoff));
            return;
        }
        let status = self.response.as_ref().map(|head| head.status);
        self.drop_held();
        self.end(LegResult { outcome: failure.outcome, status, error: Some(failure.error) }, now);
    }

    /// A time-out of the attempt has passed.
    pub fn expire(&mut self, window: &Window, terms: &Terms, now: Instant) {
        let Some((_, waiting)) = self.deadline.take() else { return };
        let (kind, detail) = match waiting {
            Waiting::Backoff => return self.begin(None, terms, now),
            Waiting::Connect => {
                self.target.connect_timed_out();
                ("connection_timeout", format!("no connection within {}", text(terms.connect)))
            }
            Waiting::FirstByte => {
                let limit = terms.first_byte.unwrap_or_default();
                ("connection_read_timeout", format!("no answer within {}", text(limit)))
            }
        };
        self.state = State::Resting;
        self.fail(Failure::new(Outcome::Timeout, kind, detail), window, terms, now);
    }

    /// Ends the leg without an answer; its connection is closed. One that was counted as ok and is not read on since
    /// then stays ok: its endpoint did what was asked, and it is not the endpoint that keeps it from ending.
    pub fn end_with(&mut self, outcome: Outcome, error: LegError, now: Instant) {
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
        self.target.record(result.outcome, result.status, now);
        self.result = Some(result);
    }

    /// Reads the body on and drops it, from here on and what is held.
    pub fn discard(&mut self) {
        self.mode = Mode::Discard;
        self.drop_held();
    }

    fn drop_held(&mut self) {
        if !self.held.is_empty() {
            self.held.clear();
        }
        self.held_bytes = 0;
    }

    /// Whether a held body waits to be told how to go on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.held_bytes >= HOLD && !self.complete
    }

    /// Whether its body, or the start of it, can be given to the client.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.response.is_some()
            && self.mode != Mode::Discard
            && self.result.as_ref().is_none_or(|result| result.error.is_none())
    }

    /// How far it has written of the window.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether it still needs bytes of the window.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.result.is_none() && !self.sent && self.write_error.is_none()
    }

    /// Takes the next piece of the held body.
    pub fn take_held(&mut self) -> Option<Bytes> {
        let piece = self.held.pop_front()?;
        self.held_bytes -= piece.len().max(window::LEAST);
        Some(piece)
    }

    /// From its start to its end, or to now.
    #[must_use]
    pub fn elapsed(&self, now: Instant) -> Duration {
        let until = if self.result.is_some() { self.ended } else { now };
        until.saturating_duration_since(self.started)
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.leave();
    }
}

fn text(duration: Duration) -> String {
    runtime::duration::format(duration)
}
