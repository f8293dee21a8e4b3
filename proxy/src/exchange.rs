//! One request and its legs: it begins and polls them, controls what each does with its response, and counts outcomes until the
//! policy decides.
//!
//! The exchange does not know the client. [`gather`] feeds it the request's body until there is a decision, [`stream`]
//! takes the answer out of it, and what still runs after that (stragglers) is polled by [`Exchange::poll_rest`] in a
//! task of its own. All of that is one state machine, so stragglers need no special treatment.

pub mod alarm;
mod answer;
mod begin;
pub mod budget;
mod choice;
mod collect;
pub mod compare;
mod deferred;
pub mod gather;
mod inbound;
mod leg;
mod legs;
mod outbound;
pub mod pace;
pub mod quorum;
pub mod spare;
pub mod stream;
mod timeouts;
mod two_way;
mod wake;
mod waves;
pub mod window;

use std::{
    hint::cold_path,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use spans::RequestTrace;
use tokio::time::Instant;

use self::{
    alarm::Alarm,
    budget::Share,
    choice::Choice,
    leg::{Mode, Sending, Terms},
    legs::Legs,
    quorum::Quorum,
    timeouts::far,
    wake::Wakers,
    window::{Coding, Cursor, Window},
};
pub use self::{
    answer::MadeUp,
    begin::Request,
    inbound::Inbound,
    leg::Leg,
    outbound::{BodyForm, Outbound, Outgoing},
};
use crate::{
    clock,
    http::LastHead,
    http2::translate::SharedHead,
    outcome::{LegError, Outcome},
    proxy_error::ProxyError,
    table::RouteEntry,
};

/// The most rounds of polling woken legs before the task yields.
const MAX_POLL_ROUNDS: usize = 4;

/// One request, its legs and its policy.
#[derive(Debug)]
pub struct Exchange {
    route: Arc<RouteEntry>,
    /// In snapshot order; none before they begin.
    legs: Legs,
    /// Legs of an earlier request, whose memory is reused.
    resting: Vec<Leg>,
    /// The body of the request.
    window: Window,
    /// The policy.
    quorum: Quorum,
    /// The choice of the leg whose answer the client gets.
    choice: Choice,
    /// The answer on its way to the client.
    outgoing: Outgoing,
    /// The head that the legs send.
    head: Vec<u8>,
    /// The same for HTTP/2, once a leg has needed it.
    shared_head: SharedHead,
    method: Vec<u8>,
    /// The response head that came last, also in an earlier request.
    last_head: LastHead,
    /// Whether the client gets the report instead of an endpoint's answer.
    wants_report: bool,
    wakers: Wakers,
    terms: Terms,
    coding: Coding,
    waves: waves::Progress,
    /// Its trace, if tracing is configured.
    trace: Option<RequestTrace>,
    /// Its state of redelivery.
    owing: deferred::Owing,
    cap: usize,
    /// The time-out of all legs, from their start.
    total: Duration,
    /// The client's own deadline.
    gives_up: Option<Instant>,
    /// The deadline of all legs; none before they begin, and after it has passed.
    deadline: Option<Instant>,
    /// A time no later than the first time-out of any leg.
    next_expiry: Option<Instant>,
    share: Share,
    waits: gather::Waits,
}

// === impl Exchange ===

impl Exchange {
    /// The route.
    #[must_use]
    pub fn route(&self) -> &Arc<RouteEntry> {
        &self.route
    }

    /// The legs, in snapshot order; none before they begin.
    #[must_use]
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        &self.method
    }

    /// The policy, and how far it is met.
    #[must_use]
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Sets its trace, before its legs begin.
    pub fn set_trace(&mut self, trace: RequestTrace) {
        self.trace = Some(trace);
    }

    /// Whether the client gets the report instead of an endpoint's answer.
    #[must_use]
    pub fn wants_report(&self) -> bool {
        self.wants_report
    }

    /// Bytes of the request's body that have come in.
    #[must_use]
    pub fn body_received(&self) -> u64 {
        self.window.received()
    }

    /// Whether the whole body of the request has come in.
    #[must_use]
    pub fn has_whole_body(&self) -> bool {
        self.window.is_finished()
    }

    /// Polls every leg that was woken or flagged, and those whose wave begins meanwhile. Returns whether there were any.
    fn poll_legs(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut any = self.poll_woken(cx, now);
        while self.has_waves_to_come() && self.advance_waves(now) {
            cold_path();
            any |= self.poll_woken(cx, now);
        }
        any
    }

    fn poll_woken(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut any = false;
        for _ in 0..MAX_POLL_ROUNDS {
            let mut found = false;
            let mut word = 0;
            while let Some(mut flags) = self.wakers.take(word) {
                while flags != 0 {
                    let index = word * 64 + flags.trailing_zeros() as usize;
                    flags &= flags - 1;
                    found = true;
                    self.poll_leg(cx, index, now);
                }
                word += 1;
            }
            any |= found;
            if !found {
                return any;
            }
        }
        cold_path();
        // Legs are ready all the time, perhaps because this task's budget is used up: yield to others.
        cx.waker().wake_by_ref();
        any
    }

    fn poll_leg(&mut self, cx: &mut Context<'_>, index: usize, now: Instant) {
        if index >= self.legs.len() {
            return;
        }
        self.advance_leg(cx, index, now);
        let fresh_head = self.legs.get_mut(index).take_fresh_head();
        if let Some(status) = fresh_head {
            let success = match self.terms.grpc {
                // Its trailers decide its outcome.
                Some(success) => {
                    cold_path();
                    let said = self.legs.get_mut(index).read_head_code();
                    status == 200 && said.is_none_or(|code| success.contains(code))
                }
                None => self.route.config.policy.success.is_ok(&self.method, status),
            };
            self.legs.get_mut(index).set_success(success);
            let beaten = self.choice.on_head(index, &self.legs);
            self.discard(beaten);
            self.advance_leg(cx, index, now);
        }
        if self.legs.get_mut(index).take_late_failure() {
            cold_path();
            let beaten = self.choice.on_failed_answer(index, &self.legs);
            self.discard(beaten);
        }
        let beaten = self.choice.on_body(index, &self.legs);
        self.discard(beaten);
        self.note_due(index);
        self.settle(index);
        self.shed();
    }

    fn advance_leg(&mut self, cx: &mut Context<'_>, index: usize, now: Instant) {
        if self.terms.keeping.is_on() {
            cold_path();
            self.terms.keeping.has_room = self.share.has_room();
        }
        let sending = Sending {
            head: &self.head,
            window: &self.window,
            coding: self.coding,
            shared_head: Some(&self.shared_head),
            parent: None,
            is_head: self.terms.is_head,
        };
        let mut leg_cx = Context::from_waker(self.wakers.waker(index, cx.waker()));
        self.legs.get_mut(index).poll(&mut leg_cx, &sending, &self.terms, &mut self.last_head, now);
    }

    /// Counts the outcome of a leg as soon as it is certain.
    fn settle(&mut self, index: usize) {
        let leg = &self.legs[index];
        let ok = match leg.result() {
            Some(result) => Some(result.outcome == Outcome::Ok),
            None if leg.response().is_none() => None,
            // Only the client's reading lets a held body continue.
            None if leg.is_success() => {
                let at_once =
                    self.route.config.policy.require.is_any() && !self.wants_report && !self.choice.is_decided();
                let has_begun = match self.terms.grpc {
                    // Trailers may still report a failure, but with `any` the first message is passed on at once, also during the
                    // request, whose rest may depend on it.
                    Some(_) => leg.has_grpc_message() || leg.is_complete(),
                    None => leg.is_sent(),
                };
                let paused = leg.is_sent() && leg.mode() == Mode::Hold && leg.is_full();
                ((at_once && has_begun) || paused).then_some(true)
            }
            None => (leg.mode() == Mode::Discard || leg.is_full()).then_some(false),
        };
        if leg.result().is_some_and(|result| result.error.is_some()) {
            cold_path();
            // It may have been held for the client, which is of no use now.
            self.choice.on_failure(index, &self.legs);
        }
        match (self.legs[index].counted(), ok) {
            (None, Some(ok)) => {
                self.legs.get_mut(index).set_counted(ok);
                self.quorum.record(ok);
            }
            // A response that is truncated after it had counted as ok counts as failed.
            (Some(true), Some(false)) => {
                cold_path();
                self.legs.get_mut(index).set_counted(false);
                self.quorum.revoke();
            }
            _ => {}
        }
        self.tell_end(index);
    }

    /// Discards the body of this leg from here on.
    fn let_go(&mut self, index: usize) {
        self.legs.get_mut(index).discard();
        self.wakers.flag(index);
    }

    /// Discards the body of a leg that another one has replaced, if there is one.
    fn discard(&mut self, beaten: Option<usize>) {
        if let Some(index) = beaten {
            self.let_go(index);
            // Its failure is final once its body does not matter.
            self.settle(index);
        }
    }

    /// Discards held bodies while too much is held.
    fn shed(&mut self) {
        let limit = self.route.config.policy.window.max(self.terms.hold);
        while self.legs.held() > limit {
            cold_path();
            let Some(index) = self.choice.next_to_shed(&self.legs) else { return };
            self.let_go(index);
        }
    }

    /// Ends every leg that has not ended.
    #[cold]
    pub fn abort(&mut self, outcome: Outcome, kind: ProxyError, why: &'static str) {
        let now = clock::now();
        for index in 0..self.legs.len() {
            if self.legs[index].result().is_none() && self.choice.winner() != Some(index) {
                self.end_leg(index, outcome, LegError::new(kind, why), now);
            }
        }
    }

    #[cold]
    fn end_leg(&mut self, index: usize, outcome: Outcome, error: LegError, now: Instant) {
        self.legs.get_mut(index).end_with(outcome, error, now);
        self.settle(index);
    }

    /// Whether every leg has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.legs.iter().all(|leg| leg.result().is_some())
    }

    /// The client has disconnected or has its answer: remaining legs run on for the endpoints' sake, until their deadline.
    pub fn release(&mut self) {
        let winner = self.choice.release().filter(|winner| self.legs[*winner].result().is_none());
        let Some(winner) = winner else { return };
        self.let_go(winner);
        if self.deadline.is_none() {
            let error =
                LegError::new(ProxyError::HttpResponseIncomplete, "the client went away in the middle of the answer");
            self.end_leg(winner, Outcome::Cancelled, error, clock::now());
        }
    }

    /// Runs the stragglers until they have ended or their deadline has passed.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>, alarm: &mut Alarm) -> Poll<()> {
        let mut now = clock::now();
        self.wakers.arrive(cx.waker());
        loop {
            self.poll_legs(cx, now);
            self.note_memory();
            if self.is_over() {
                return Poll::Ready(());
            }
            match alarm.poll(cx, self.next_due().unwrap_or_else(far)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(then) => {
                    now = then;
                    self.expire(now);
                }
            }
        }
    }

    /// Updates this request's share of the budget for bodies.
    fn note_memory(&mut self) {
        self.share.set(self.legs.held() + self.legs.kept() + self.window.cost());
    }

    /// The cursor of the slowest leg; none if no leg needs more of the body.
    fn slowest(&self) -> Option<(usize, Cursor)> {
        let writing = self.legs.iter().enumerate().filter(|(_, leg)| leg.is_sending());
        writing.map(|(index, leg)| (index, leg.cursor())).min_by_key(|(_, cursor)| *cursor)
    }
}
