//! The self-check: real requests under each policy, with all origins well and with one of them failing, slow and down.

use std::time::Duration;

use anyhow::Context as _;
use axum::body::Bytes;
use hyper::Method;

use super::{
    Stage,
    client::{self, OriginResults, REPORT},
    origin::{Arrived, Mode},
    row::{Cell, DELAY, REQUESTS, Row, Scenario},
    screen::Screen,
};

/// The policies, the strictest first.
const POLICIES: [&str; 3] = ["all", "majority", "any"];

/// The time limit for a copy of a request to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the self-check and prints its rows. Returns whether everything was as expected.
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

/// Only the third origin ever fails.
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
    let report: OriginResults = serde_json::from_slice(&reported.body)
        .with_context(|| format!("no report but: {}", String::from_utf8_lossy(&reported.body)))?;
    let mut legs: Vec<_> = report.results.into_iter().map(Some).collect();
    let mut origins = Vec::new();
    for (index, origin) in stage.origins.iter().enumerate() {
        let address = origin.address().to_string();
        let leg = legs.iter_mut().find(|leg| leg.as_ref().is_some_and(|leg| leg.endpoint == address));
        let down = scenario == Scenario::Down && index == 2;
        let received = origin.received(&sent, if down { 0 } else { REQUESTS }, ARRIVAL_TIMEOUT).await;
        origins.push(Cell { leg: leg.and_then(Option::take), received });
    }
    let mut row = Row { scenario, policy, answer, origins, wrong: Vec::new() };
    row.wrong = row.judge(stage, reported.status.as_u16(), legs.iter().flatten().count());
    Ok(row)
}
