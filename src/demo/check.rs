//! The self-check: real requests under each policy, with all origins well and with one of them failing, slow and down,
//! held against what the rules say.

use std::time::Duration;

use anyhow::Context as _;
use axum::body::Bytes;
use hyper::Method;

use super::{
    Stage,
    client::{self, Answer, Leg, REPORT, Report},
    origin::{Arrived, Mode},
    screen::Screen,
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

/// The policies, the strictest first.
const POLICIES: [&str; 3] = ["all", "majority", "any"];

/// Each row sends this many requests.
pub(super) const REQUESTS: usize = 2;

/// How slow a slow origin is: long beside anything else that takes time here.
const DELAY: Duration = Duration::from_millis(800);

/// How long a copy of a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Runs it, showing each row as it comes. Returns whether all was as the rules say.
pub(super) async fn run(stage: &mut Stage, screen: &Screen) -> anyhow::Result<bool> {
    screen.heading(stage);
    let (mut rows, mut good) = (0, 0);
    for scenario in [Scenario::Healthy, Scenario::Failing, Scenario::Slow, Scenario::Down] {
        set_up(stage, scenario).await?;
        let checks = POLICIES.map(|policy| row(stage, scenario, policy));
        for (index, row) in futures::future::join_all(checks).await.into_iter().enumerate() {
            let row = row?;
            screen.row(&row, index == 0);
            rows += 1;
            good += usize::from(row.wrong.is_empty());
        }
    }
    set_up(stage, Scenario::Healthy).await?;
    screen.verdict(good, rows);
    Ok(good == rows)
}

/// Only the third origin is ever anything but well.
async fn set_up(stage: &mut Stage, scenario: Scenario) -> anyhow::Result<()> {
    let third = &mut stage.origins[2];
    third.come_up().await.context("an origin cannot listen again")?;
    match scenario {
        Scenario::Healthy => third.set(Mode::Healthy),
        Scenario::Failing => third.set(Mode::Failing),
        Scenario::Slow => third.set(Mode::Slow(DELAY)),
        Scenario::Down => {
            third.set(Mode::Healthy);
            third.go_down().await;
        }
    }
    Ok(())
}

async fn row(stage: &Stage, scenario: Scenario, policy: &'static str) -> anyhow::Result<Row> {
    let sent = Arrived {
        method: Method::POST,
        target: format!("/{policy}/{}?x=%20&y", scenario.word()),
        body: Bytes::from(format!("to everyone, {policy} must answer, three is {}\r\n\0", scenario.word())),
    };
    let send = |accept| client::send(stage.broadcaster, sent.method.clone(), &sent.target, accept, sent.body.clone());
    let answer = send("*/*").await?;
    let reported = send(REPORT).await?;
    let report: Report = serde_json::from_slice(&reported.body)
        .with_context(|| format!("no report but: {}", String::from_utf8_lossy(&reported.body)))?;
    let mut legs: Vec<_> = report.results.into_iter().map(Some).collect();
    let mut origins = Vec::new();
    for (index, origin) in stage.origins.iter().enumerate() {
        let address = origin.address().to_string();
        let leg = legs.iter_mut().find(|leg| leg.as_ref().is_some_and(|leg| leg.endpoint == address));
        let down = scenario == Scenario::Down && index == 2;
        let received = origin.received(&sent, if down { 0 } else { REQUESTS }, ARRIVAL).await;
        origins.push(Cell { leg: leg.and_then(Option::take), received });
    }
    let mut row = Row { scenario, policy, answer, origins, wrong: Vec::new() };
    row.wrong = row.judge(stage, reported.status.as_u16(), legs.iter().flatten().count());
    Ok(row)
}

// === impl Row ===

impl Row {
    /// Everything that is not as the rules say.
    fn judge(&self, stage: &Stage, reported: u16, strangers: usize) -> Vec<String> {
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
