//! One line of the self-check's table: what was seen, held against what the rules say.

use std::time::Duration;

use super::{
    Stage,
    client::{Answer, Leg},
};

/// How the third origin is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    Healthy,
    Failing,
    Slow,
    Down,
}

/// One line of the table: two equal requests under one policy, the second one asking for the report.
pub(super) struct Row {
    pub(super) scenario: Scenario,
    /// The policy's name, also the first part of the path.
    pub(super) policy: &'static str,
    /// What the client got.
    pub(super) answer: Answer,
    /// What each origin answered and received.
    pub(super) origins: Vec<Cell>,
    /// What is not as the rules say.
    pub(super) wrong: Vec<String>,
}

/// What one origin answered and received.
pub(super) struct Cell {
    /// What the broadcaster reports.
    pub(super) leg: Option<Leg>,
    /// How many of the two requests arrived there byte for byte.
    pub(super) received: usize,
}

/// What the rules say.
struct Expected {
    status: u16,
    /// Whether the answer has to wait for the slow origin.
    waits: bool,
    /// What the third origin is reported with: status and outcome.
    third: (Option<u16>, &'static str),
}

/// Each row sends this many requests.
pub(super) const REQUESTS: usize = 2;

/// How slow a slow origin is: long beside anything else that takes time here.
pub(super) const DELAY: Duration = Duration::from_millis(800);

// === impl Row ===

impl Row {
    /// Everything that is not as the rules say.
    pub(super) fn judge(&self, stage: &Stage, reported: u16, strangers: usize) -> Vec<String> {
        let expected = self.scenario.expected(self.policy);
        let mut wrong = Vec::new();
        let mut check = |what: String, right: bool| {
            if !right {
                wrong.push(what);
            }
        };
        let (status, after) = (self.answer.status.as_u16(), self.answer.after);
        check(format!("status {status}, expected {}", expected.status), status == expected.status);
        check(format!("status {reported} with the report, expected {}", expected.status), reported == expected.status);
        if self.scenario == Scenario::Slow {
            let told = if expected.waits { "did not wait for" } else { "waited for" };
            check(format!("{told} the slow origin: {after:?}"), (after >= DELAY) == expected.waits);
        }
        check(format!("{strangers} unknown endpoints in the report"), strangers == 0);
        for (index, (cell, origin)) in self.origins.iter().zip(&stage.origins).enumerate() {
            let third = index == 2;
            let (status, outcome) = if third { expected.third } else { (Some(200), "ok") };
            let arrivals = if third && self.scenario == Scenario::Down { 0 } else { REQUESTS };
            let name = origin.name();
            let seen = cell.leg.as_ref().map(|leg| (leg.status, leg.outcome.as_str()));
            check(
                format!("{name} is reported as {seen:?}, expected {:?}", (status, outcome)),
                seen == Some((status, outcome)),
            );
            check(
                format!("{} of {arrivals} requests arrived at {name} byte for byte", cell.received),
                cell.received == arrivals,
            );
        }
        wrong
    }
}

// === impl Scenario ===

impl Scenario {
    /// Completes "three is".
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Slow => "slow",
            Self::Down => "down",
        }
    }

    fn expected(self, policy: &str) -> Expected {
        let strict = policy == "all";
        match self {
            Self::Healthy => Expected { status: 200, waits: false, third: (Some(200), "ok") },
            Self::Failing => {
                Expected { status: if strict { 500 } else { 200 }, waits: false, third: (Some(500), "server_error") }
            }
            Self::Slow => Expected { status: 200, waits: strict, third: (Some(200), "ok") },
            Self::Down => Expected { status: if strict { 502 } else { 200 }, waits: false, third: (None, "connect") },
        }
    }
}
