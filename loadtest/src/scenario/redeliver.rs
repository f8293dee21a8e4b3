//! Redelivery: what it costs while all is well, what can be acknowledged while an endpoint is down, and what 100,000 owed requests cost
//! others.

use super::{Case, Cases, Scenario, Work, saturate, scenario};
use crate::{
    bar::{Bar, Bound},
    cores::Placement,
    endpoints::Special,
    subject::Subject,
};

const WELL: &[&str] =
    &["cpu_us_per_request", "requests_per_second", "peak_bytes", "journal_commits", "errors", "lost_copies"];
const DOWN: &[&str] = &[
    "requests_per_second",
    "journal_alone_per_second",
    "journal_commits",
    "saturated_p99_us",
    "cpu_us_per_request",
    "errors",
    "lost_copies",
];
const OWED: &[&str] = &[
    "p50_us",
    "p99_us",
    "p99_beside_us",
    "p99_to_beside",
    "owed",
    "rss_bytes",
    "recovery_us",
    "cpu_us_per_request",
    "errors",
    "unsent",
    "lost_copies",
];

/// The limit of CPU per successful request, as a ratio to that without redelivery: the noise between rounds.
const NO_MORE: f64 = 1.05;
/// The fewest requests per second that are acknowledged while an endpoint is down.
const ACKNOWLEDGED: f64 = 5_000.0;
/// Requests that are owed to a dead endpoint.
const JOBS: u64 = 100_000;
/// The limit of the p99 of live requests meanwhile, as a ratio to that of a process beside it that owes nothing.
const P99: f64 = 1.2;
/// The most resident memory with them, in bytes.
const RESIDENT: f64 = 150.0 * 1024.0 * 1024.0;
/// The longest start with them, in microseconds.
const RECOVERY: f64 = 2e6;

const OFF: &str = "without redelivery";
const MEMORY: &str = "in memory";
const JOURNAL: &str = "with a journal";

const GET: [&str; 4] = ["--redeliver", "1h", "--redeliver-methods", "GET"];
const GET_JOURNAL: &[&str] = &[GET[0], GET[1], GET[2], GET[3], "--redeliver-journal", "{work}/journal"];
const NO_BOUNDS: &[&str] = &[
    GET[0],
    GET[1],
    GET[2],
    GET[3],
    "--redeliver-journal",
    "{work}/journal",
    "--on-deferred",
    "202",
    "--redeliver-max-jobs",
    "10000000",
    "--redeliver-max-bytes",
    "8GiB",
];
/// The same live requests, and nothing is owed.
pub(crate) const OWES_NOTHING: &[&str] = &["--require", "any"];
/// Requests with a body are owed, those without are the live ones. One endpoint is down for both.
const POST_JOURNAL: &[&str] = &[
    "--require",
    "any",
    "--redeliver",
    "1h",
    "--redeliver-methods",
    "POST",
    "--redeliver-journal",
    "{work}/journal",
    "--redeliver-max-jobs",
    "200000",
];

pub(super) fn all(cases: &Cases<'_>) -> Vec<Scenario> {
    vec![well(cases), down(cases), owed(cases)]
}

fn well(cases: &Cases<'_>) -> Scenario {
    let rows =
        cases.variants(&[(OFF, &[], 1, None), (MEMORY, &GET, 1, Some(OFF)), (JOURNAL, GET_JOURNAL, 1, Some(OFF))]);
    let no_more = |variant| {
        let bound = Bound::AtMost(NO_MORE);
        Bar { variant, metric: "cpu_us_per_request", bound, of: Some("fanfare, without redelivery"), above: None }
    };
    let unwritten =
        Bar { variant: JOURNAL, metric: "journal_commits", bound: Bound::AtMost(0.0), of: None, above: None };
    let about = "no body to 3 endpoints that are well, with redelivery and without";
    Scenario {
        placement: Placement::Together,
        bars: vec![no_more(MEMORY), no_more(JOURNAL), unwritten],
        ..scenario("redeliver-well", about, 3, saturate(0, 32, None), rows, WELL)
    }
}

fn down(cases: &Cases<'_>) -> Scenario {
    let rows = cases.variants(&[(JOURNAL, NO_BOUNDS, 1, None)]);
    let bound = Bound::AtLeast(ACKNOWLEDGED);
    let about = "no body to 3 endpoints, one of which is down and gets it later; the bare loop has 3 that are well";
    Scenario {
        placement: Placement::Anywhere,
        bars: vec![Bar { variant: JOURNAL, metric: "requests_per_second", bound, of: None, above: None }],
        ..scenario("redeliver-down", about, 3, Work::Missed { connections: 128 }, with_one_dead(rows), DOWN)
    }
}

fn owed(cases: &Cases<'_>) -> Scenario {
    let nothing = "nothing owed";
    let variant = "100,000 owed";
    let rows = cases.variants(&[(nothing, OWES_NOTHING, 1, None), (variant, POST_JOURNAL, 1, Some(nothing))]);
    let bar = |metric, bound, of| Bar { variant, metric, bound, of, above: None };
    let work = Work::Owed { jobs: JOBS, rate: 500.0, connections: 32, times: 2.0 };
    let about = "any of 3 endpoints, one of which is down and owed 100,000 requests or none; 500 live requests/s";
    Scenario {
        placement: Placement::Together,
        bars: vec![
            bar("p99_to_beside", Bound::AtMost(P99), None),
            bar("rss_bytes", Bound::AtMost(RESIDENT), None),
            bar("recovery_us", Bound::AtMost(RECOVERY), None),
        ],
        ..scenario("redeliver-owed", about, 3, work, with_one_dead(rows), OWED)
    }
}

/// These rows with the last of three endpoints down; the bare loop does not survive that.
fn with_one_dead(rows: Vec<Case>) -> Vec<Case> {
    let dead = |row: Case| match row.subject {
        Subject::Bare => Case::new(Subject::Bare),
        _ => Case { special: vec![(2, Special::Refused)], ..row },
    };
    rows.into_iter().map(dead).collect()
}
