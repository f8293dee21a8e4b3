//! One row of the self-check's table: the observed results, compared with the expected ones.

use std::time::Duration;

use super::{
    Stage,
    client::{Answer, OriginResult},
};

/// The state of the third origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
    Healthy,
    Failing,
    Slow,
    Down,
}

/// One row of the table: two equal requests under one policy, the second one with a report.
pub(super) struct Row {
    pub(super) scenario: Scenario,
    /// The policy's name, also the first part of the path.
    pub(super) policy: &'static str,
    /// The answer to the client.
    pub(super) answer: Answer,
    /// The results of each origin.
    pub(super) origins: Vec<Cell>,
    /// The deviations from the expected results.
    pub(super) wrong: Vec<String>,
}

/// The results of one origin.
pub(super) struct Cell {
    /// The broadcaster's report.
    pub(super) leg: Option<OriginResult>,
    /// The number of requests that arrived byte for byte.
    pub(super) received: usize,
}

/// The expected results.
struct Expected {
    status: u16,
    /// Whether the answer has to wait for the slow origin.
    waits: bool,
    /// The reported status and outcome of the third origin.
    third: (Option<u16>, &'static str),
}

/// The requests of each row.
pub(super) const REQUESTS: usize = 2;

/// The delay of a slow origin, which is long compared with everything else.
pub(super) const DELAY: Duration = Duration::from_millis(800);

// === impl Row ===

impl Row {
    /// The deviations from the expected results.
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
    /// The word after "three is".
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
