//! What a program costs before it has any work: size, start, memory at rest.

use super::{Cases, Scenario, Work, scenario};
use crate::{
    bar::{Bar, Bound},
    cores::Placement,
};

const COLUMNS: &[&str] = &["stripped_bytes", "version_us", "start_us", "rss_bytes", "threads"];

/// The largest binary without symbols, in bytes.
const STRIPPED: f64 = 30e6;
/// The longest time until the version is printed, in microseconds.
const VERSION: f64 = 10_000.0;
/// The longest time from the start to the first answer, in microseconds.
const START: f64 = 50_000.0;
/// The most memory at rest, in bytes.
const REST: f64 = 12e6;

pub(super) fn all(cases: &Cases<'_>) -> Vec<Scenario> {
    let bar = |metric, most| Bar { variant: "", metric, bound: Bound::AtMost(most), of: None, above: None };
    let about = "the size of the program, its start to the first answer, and its memory before any other";
    let start = scenario("start", about, 1, Work::Start, cases.everybody(&[]), COLUMNS);
    vec![Scenario {
        placement: Placement::Anywhere,
        bars: vec![
            bar("stripped_bytes", STRIPPED),
            bar("version_us", VERSION),
            bar("start_us", START),
            bar("rss_bytes", REST),
        ],
        ..start
    }]
}
