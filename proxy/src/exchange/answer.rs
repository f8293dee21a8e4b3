//! The answer for a decision: that of a leg, or a generated one if no leg has one.

use super::{
    Exchange, Leg, Outbound, Outgoing,
    alarm::Alarm,
    leg::Mode,
    pace::Pace,
    quorum::{Decision, Quorum},
};
use crate::{
    clock,
    grpc::{self, Code},
    outcome::{LegError, Outcome},
    problem::Problem,
    proxy_error::ProxyError,
    table::RouteEntry,
};

/// A generated answer.
#[derive(Debug)]
pub struct MadeUp {
    /// The problem.
    pub problem: Problem,
    /// The leg that it represents, if any.
    pub leg: Option<usize>,
    /// Its gRPC status, for gRPC requests; by default that of the problem.
    pub code: Option<Code>,
}

// === impl MadeUp ===

impl From<Problem> for MadeUp {
    fn from(problem: Problem) -> Self {
        Self { problem, leg: None, code: None }
    }
}

impl MadeUp {
    /// Its gRPC status.
    #[must_use]
    pub fn grpc_code(&self) -> Code {
        self.code.unwrap_or_else(|| grpc::of_problem(self.problem.status))
    }
}

// === impl Exchange ===

impl Exchange {
    /// Applies the decision: chooses the leg whose answer goes to the client, and discards the bodies of the others.
    ///
    /// # Errors
    /// The generated answer, if no leg has one.
    pub fn decide(&mut self, decision: Decision) -> Result<(), MadeUp> {
        let winner = self.choice.decide(decision, &self.legs);
        for index in 0..self.legs.len() {
            if Some(index) != winner && self.legs[index].mode() != Mode::Discard {
                self.let_go(index);
            }
        }
        let Some(winner) = winner else { return Err(self.made_up(decision)) };
        self.legs.get_mut(winner).stream();
        self.wakers.flag(winner);
        Ok(())
    }

    /// The leg whose answer goes to the client, with the queue and the other parts of the answer.
    pub fn winner_and_outgoing(&mut self) -> Option<(&Leg, &mut Outgoing, &RouteEntry, &Quorum)> {
        let leg = &self.legs[self.choice.winner()?];
        Some((leg, &mut self.outgoing, &self.route, &self.quorum))
    }

    /// The leg whose answer goes to the client.
    #[must_use]
    pub fn winner(&self) -> Option<&Leg> {
        self.choice.winner().map(|index| &self.legs[index])
    }

    /// The client has its answer, or has disconnected: ends the winner.
    pub fn end_winner(&mut self) {
        let Some(winner) = self.choice.winner().filter(|winner| self.legs[*winner].result().is_none()) else { return };
        if self.legs[winner].is_complete() {
            return self.end_unfinished(winner, clock::now());
        }
        let error = LegError::new(ProxyError::HttpRequestError, "the client went away in the middle of the answer");
        self.end_leg(winner, Outcome::Cancelled, error, clock::now());
    }

    /// Sends the rest of the answer. Returns whether the client accepted it.
    pub async fn flush(&mut self, client: &mut Outbound<'_>, pace: Pace, alarm: &mut Alarm) -> bool {
        self.outgoing.flush(client, pace, alarm).await
    }

    /// The answer on its way to the client.
    #[must_use]
    pub fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// The leg that represents a decision without an answer of a leg: the lowest that is ok, or the failure that is reported.
    #[must_use]
    pub fn representative(&self, decision: Decision) -> Option<&Leg> {
        self.choice.representative(decision, &self.legs).map(|index| &self.legs[index])
    }

    fn made_up(&self, decision: Decision) -> MadeUp {
        let nothing = |kind, detail: &'static str| Problem::new(502, kind, detail).into();
        if decision == Decision::Success {
            let detail = "every successful answer was too long to be kept until the decision";
            return nothing(ProxyError::HttpResponseBodySize, detail);
        }
        let Some(index) = self.choice.worst(&self.legs) else {
            return nothing(ProxyError::ProxyInternalResponse, "no endpoint answered");
        };
        let leg = &self.legs[index];
        let (outcome, kind) = match leg.result() {
            Some(result) => {
                let kind = result.error.as_ref().map(|error| error.kind);
                (result.outcome, kind.unwrap_or(ProxyError::HttpResponseBodySize))
            }
            None => (Outcome::Reset, ProxyError::HttpResponseIncomplete),
        };
        let is_made_up = leg.result().is_some_and(|result| result.error.is_some());
        let detail = leg.error().filter(|_| is_made_up).unwrap_or("its answer was not kept".into());
        let detail = format!(
            "{} of {} endpoints ok, {} required; {}: {}: {detail}",
            self.quorum.ok,
            self.quorum.total,
            self.quorum.required,
            leg.target().label(),
            outcome.as_str(),
        );
        let status = outcome.made_up_status(self.route.config.policy.on_timeout);
        MadeUp { problem: Problem::new(status, kind, detail), leg: Some(index), code: leg.code() }
    }
}
