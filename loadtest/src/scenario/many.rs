//! A hundred thousand endpoints: memory, metrics, and a change of one.

use super::{Case, Cases, Scenario, Subject, Work, scenario};
use crate::{
    bar::{Bar, Bound},
    cores::Placement,
};

const COLUMNS: &[&str] = &["rss_bytes", "peak_bytes", "metrics_bytes", "cpu_us_per_second", "cpu_us_per_change"];

/// The most memory, in bytes.
const RESIDENT: f64 = 80e6;
/// The longest answer to `/metrics`, in bytes.
const METRICS: f64 = 1e6;
/// The most CPU for a change of one endpoint, in microseconds.
const CHANGE: f64 = 1_000.0;

pub(super) fn all(cases: &Cases<'_>) -> Vec<Scenario> {
    let bar = |metric, most| Bar { variant: "", metric, bound: Bound::AtMost(most), of: None, above: None };
    let about = "1,000 routes, each to a file of 100 endpoints, of which now and then one changes";
    let work = Work::Many { routes: 1_000, each: 100 };
    let mut subjects = vec![Case::new(Subject::Bare)];
    subjects.extend(cases.fanfare().map(Case::new));
    vec![Scenario {
        placement: Placement::Anywhere,
        bars: vec![bar("rss_bytes", RESIDENT), bar("metrics_bytes", METRICS), bar("cpu_us_per_change", CHANGE)],
        ..scenario("many", about, 1, work, subjects, COLUMNS)
    }]
}
