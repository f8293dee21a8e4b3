//! Chooses the answer for the client: whose body is held while the legs run, and which leg is used for the decision.
//!
//! A function of snapshot order and outcomes, never of chance. Nothing here changes a leg: functions return the leg whose body is
//! not needed any more.

use super::{
    leg::{Leg, Mode},
    quorum::{Decision, Quorum},
};
use crate::outcome::Outcome;

/// The legs that matter for the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Choice {
    /// Whether the client gets the report instead of an endpoint's answer: no body is kept then.
    wants_report: bool,
    /// Whether it is a gRPC request.
    is_grpc: bool,
    /// Whether the request can succeed though some leg fails.
    has_spare_legs: bool,
    /// Whether it is known what the client gets.
    decided: bool,
    /// The leg whose answer goes to the client, once that is decided.
    winner: Option<usize>,
    /// The lowest leg that is ok and has an available body, complete or at the hold limit. It keeps the body.
    candidate: Option<usize>,
    /// The best-ranked leg with an unsuccessful response. It keeps the body in case no leg is ok.
    fallback: Option<usize>,
}

// === impl Choice ===

impl Choice {
    /// Nothing is chosen yet.
    pub(super) fn new(wants_report: bool, is_grpc: bool, quorum: &Quorum) -> Self {
        Self { wants_report, is_grpc, has_spare_legs: quorum.required < quorum.total, ..Self::default() }
    }

    /// Whether it is known what the client gets.
    pub(super) fn is_decided(&self) -> bool {
        self.decided
    }

    /// The leg whose answer goes to the client.
    pub(super) fn winner(&self) -> Option<usize> {
        self.winner
    }

    /// Ends the answer of the winner. Returns the winner.
    pub(super) fn release(&mut self) -> Option<usize> {
        self.decided = true;
        self.winner.take()
    }

    /// Handles a response head. Returns a leg whose body is not needed any more.
    pub(super) fn on_head(&mut self, index: usize, legs: &[Leg]) -> Option<usize> {
        if self.decided || self.wants_report {
            return Some(index);
        }
        if legs[index].is_success() {
            // If every leg must be ok, the lowest leg's body is the one that is used.
            let higher = |candidate: &mut usize| *candidate > index;
            let beaten = if self.has_spare_legs { None } else { self.candidate.take_if(higher) };
            return beaten.filter(|beaten| !legs[*beaten].is_complete());
        }
        self.on_failed_answer(index, legs)
    }

    /// Handles an unsuccessful response. Returns a leg whose body is not needed any more.
    pub(super) fn on_failed_answer(&mut self, index: usize, legs: &[Leg]) -> Option<usize> {
        if self.decided || self.wants_report {
            return Some(index);
        }
        match self.fallback {
            Some(fallback) if self.failure_rank(fallback, legs) < self.failure_rank(index, legs) => Some(index),
            _ => self.fallback.replace(index),
        }
    }

    /// Handles an available body: the leg becomes the candidate if it is the lowest. Returns a leg whose body is not needed any
    /// more.
    pub(super) fn on_body(&mut self, index: usize, legs: &[Leg]) -> Option<usize> {
        if self.candidate == Some(index) || !can_answer(&legs[index]) {
            return None;
        }
        let lower = |leg: &Leg| leg.is_success() && leg.mode() == Mode::Hold && leg.is_available();
        let loser = match self.candidate {
            Some(candidate) if candidate < index => Some(index),
            _ if !self.has_spare_legs && legs[..index].iter().any(lower) => Some(index),
            _ => self.candidate.replace(index),
        };
        // A complete body may stay; an incomplete one must be read on.
        loser.filter(|loser| !legs[*loser].is_complete())
    }

    /// Handles a failed leg, whose held body is useless.
    pub(super) fn on_failure(&mut self, index: usize, legs: &[Leg]) {
        if self.candidate == Some(index) {
            self.candidate = legs.iter().position(can_answer);
        }
        if self.fallback == Some(index) {
            self.fallback = None;
        }
    }

    /// The next body to discard if too much is held: the least likely to be needed, the highest leg first.
    pub(super) fn next_to_shed(&self, legs: &[Leg]) -> Option<usize> {
        let kept = [self.candidate, self.fallback, self.winner];
        (0..legs.len()).rev().find(|index| {
            let leg = &legs[*index];
            !kept.contains(&Some(*index)) && leg.held_bytes() > 0 && leg.mode() == Mode::Hold
        })
    }

    /// Applies the decision. Returns the leg whose answer goes to the client; none if no leg has one.
    pub(super) fn decide(&mut self, decision: Decision, legs: &[Leg]) -> Option<usize> {
        self.decided = true;
        self.winner = match decision {
            Decision::Success => legs.iter().position(|leg| leg.counted() == Some(true) && leg.is_available()),
            Decision::Failure => self.worst(legs).filter(|worst| legs[*worst].is_available()),
        };
        self.winner
    }

    /// The leg that represents a decision without an answer of a leg: the lowest that is ok, or the failure that is reported.
    pub(super) fn representative(&self, decision: Decision, legs: &[Leg]) -> Option<usize> {
        match decision {
            Decision::Success => legs.iter().position(|leg| leg.counted() == Some(true)),
            Decision::Failure => self.worst(legs),
        }
    }

    /// The failure that is reported for all.
    pub(super) fn worst(&self, legs: &[Leg]) -> Option<usize> {
        let failed = |index: &usize| legs[*index].counted() == Some(false);
        (0..legs.len()).filter(failed).min_by_key(|index| self.failure_rank(*index, legs))
    }

    /// The order in which failures are reported: server side (a status of 500 and more, or no answer) before client error, of the
    /// same side a real response before none, then snapshot order; skipped legs come last. With gRPC, statuses of applications come
    /// first. Smaller is better.
    fn failure_rank(&self, index: usize, legs: &[Leg]) -> (bool, bool, bool, usize) {
        let leg = &legs[index];
        let real = if self.wants_report {
            leg.result().is_some_and(|result| result.error.is_none())
        } else {
            leg.is_available()
        };
        let client_error = match leg.result() {
            Some(result) => result.outcome == Outcome::ClientError,
            None => leg.response().is_some_and(|head| head.status < 500),
        };
        // With gRPC a status of the application is more informative than a transport error.
        let is_skipped = leg.result().is_some_and(|result| result.outcome == Outcome::Skipped);
        (is_skipped, client_error != self.is_grpc, !real, index)
    }
}

/// Whether a leg is ok and has an available body.
fn can_answer(leg: &Leg) -> bool {
    leg.is_success() && leg.mode() == Mode::Hold && leg.is_available() && (leg.is_complete() || leg.is_full())
}
