//! Which answer goes to the client: whose body is kept while the legs run, and what the decision then amounts to.
//!
//! A function of snapshot order and outcomes, never of chance.

use super::{
    Exchange,
    leg::{Leg, Mode},
    quorum::Decision,
};
use crate::{outcome::Outcome, problem::Problem};

impl Exchange {
    /// A response head has come in: decides what happens to its body.
    pub(super) fn classify(&mut self, index: usize) {
        let status = self.legs[index].response.as_ref().map_or(0, |head| head.status);
        let success = self.route.config.policy.success.is_ok(&self.method, status);
        self.legs[index].success = success;
        if self.decided || self.wants_report {
            self.discard(index);
        } else if success {
            // Where every leg must be ok, this one's body is the one that will be wanted.
            if !self.has_spare_legs()
                && let Some(candidate) = self.candidate.take_if(|candidate| *candidate > index)
                && !self.legs[candidate].complete
            {
                self.discard(candidate);
            }
        } else {
            match self.fallback {
                Some(fallback) if self.failure_rank(fallback) < self.failure_rank(index) => self.discard(index),
                before => {
                    self.fallback = Some(index);
                    if let Some(before) = before {
                        self.discard(before);
                        self.settle(before);
                    }
                }
            }
        }
    }

    /// A leg may have a body to give now: keeps it where it is the lowest such leg, and lets go of the one before.
    pub(super) fn choose(&mut self, index: usize) {
        if self.candidate == Some(index) || !self.can_answer(index) {
            return;
        }
        let lower = |leg: &Leg| leg.success && leg.mode == Mode::Hold && leg.is_available();
        let loser = match self.candidate {
            Some(candidate) if candidate < index => Some(index),
            _ if !self.has_spare_legs() && self.legs[..index].iter().any(lower) => Some(index),
            before => {
                self.candidate = Some(index);
                before
            }
        };
        // What is whole costs nothing more to keep; what is not must be read on.
        if let Some(loser) = loser.filter(|loser| !self.legs[*loser].complete) {
            self.discard(loser);
        }
    }

    /// Whether the request can succeed though some leg fails.
    fn has_spare_legs(&self) -> bool {
        self.quorum.required < self.quorum.total
    }

    /// Whether the leg is ok and has a body to give.
    pub(super) fn can_answer(&self, index: usize) -> bool {
        let leg = &self.legs[index];
        leg.success && leg.mode == Mode::Hold && leg.is_available() && (leg.complete || leg.is_full())
    }

    /// Too much is held: lets go of the bodies that are the least likely to be needed, the highest legs first.
    pub(super) fn shed(&mut self) {
        for index in (0..self.legs.len()).rev() {
            let kept = self.candidate == Some(index) || self.fallback == Some(index) || self.winner == Some(index);
            if !kept && self.legs[index].held_bytes > 0 && self.legs[index].mode == Mode::Hold {
                self.discard(index);
                if self.held <= self.route.config.policy.window {
                    return;
                }
            }
        }
    }

    /// The order in which failures are reported: server side (a status of 500 and more, or no answer) before client error,
    /// of the same side a real response before none, then snapshot order. Smaller is better.
    fn failure_rank(&self, index: usize) -> (bool, bool, usize) {
        let leg = &self.legs[index];
        let real = if self.wants_report {
            leg.result.as_ref().is_some_and(|result| result.error.is_none())
        } else {
            leg.is_available()
        };
        let client_error = match &leg.result {
            Some(result) => result.outcome == Outcome::ClientError,
            None => leg.response.as_ref().is_some_and(|head| head.status < 500),
        };
        (client_error, !real, index)
    }

    /// The decision is made: picks the leg whose answer goes to the client and lets the others run on without one.
    /// `Err` is the answer where no leg has one, and the leg that it stands for.
    ///
    /// # Errors
    /// The made-up answer.
    pub fn decide(&mut self, decision: Decision) -> Result<usize, (Problem, Option<usize>)> {
        self.decided = true;
        let winner = match decision {
            Decision::Success => self.legs.iter().position(|leg| leg.counted == Some(true) && leg.is_available()),
            Decision::Failure => self.told_failure().filter(|told| self.legs[*told].is_available()),
        };
        self.winner = winner;
        for index in 0..self.legs.len() {
            if Some(index) != winner && self.legs[index].mode != Mode::Discard {
                self.discard(index);
            }
        }
        match winner {
            Some(winner) => {
                self.legs[winner].mode = Mode::Stream;
                self.wakers.flag(winner);
                Ok(winner)
            }
            None => Err(self.made_up(decision)),
        }
    }

    /// The failure that stands for all of them.
    fn told_failure(&self) -> Option<usize> {
        let failed = |index: &usize| self.legs[*index].counted == Some(false);
        (0..self.legs.len()).filter(failed).min_by_key(|index| self.failure_rank(*index))
    }

    /// The leg that stands for the decision where none is passed on: the lowest that is ok, or the failure that is told.
    #[must_use]
    pub fn representative(&self, decision: Decision) -> Option<usize> {
        match decision {
            Decision::Success => self.legs.iter().position(|leg| leg.counted == Some(true)),
            Decision::Failure => self.told_failure(),
        }
    }

    /// The answer where no endpoint's can be passed on.
    fn made_up(&self, decision: Decision) -> (Problem, Option<usize>) {
        let policy = &self.route.config.policy;
        if decision == Decision::Success {
            let detail = "every successful answer was too long to be kept until the decision";
            return (Problem::new(502, "http_response_body_size", detail), None);
        }
        let Some(index) = self.told_failure() else {
            return (Problem::new(502, "proxy_internal_response", "no endpoint answered"), None);
        };
        let leg = &self.legs[index];
        let (outcome, kind, detail) = match &leg.result {
            Some(result) => match &result.error {
                Some(error) => (result.outcome, error.kind, error.detail.as_ref()),
                None => (result.outcome, "http_response_body_size", "its answer was not kept"),
            },
            None => (Outcome::Reset, "http_response_incomplete", "its answer was not kept"),
        };
        let detail = format!(
            "{} of {} endpoints ok, {} required; {}: {}: {detail}",
            self.quorum.ok,
            self.quorum.total,
            self.quorum.required,
            leg.target.label,
            outcome.as_str(),
        );
        (Problem::new(outcome.made_up_status(policy.on_timeout), kind, detail), Some(index))
    }
}
