//! The access log: what each subject pays for a line about each request, in text and in JSON.

use super::{Case, Cases, Scenario, saturate, scenario};
use crate::{
    bar::{Bar, Bound},
    cores::Placement,
    subject::{AccessLog, Subject},
};

const COLUMNS: &[&str] = &[
    "cpu_us_per_request",
    "requests_per_second",
    "voluntary_switches_per_request",
    "log_dropped",
    "errors",
    "lost_copies",
];

/// The most CPU per request that a line may cost Fanfare, as a share of what the bare loop needs for the request.
const COST: f64 = 0.15;

const OFF: &str = "no log";
const TEXT: &str = "text";
const JSON: &str = "JSON";

pub(super) fn all(cases: &Cases<'_>) -> Vec<Scenario> {
    let logged = |name, about, endpoints| Scenario {
        placement: Placement::Together,
        bars: vec![bar(TEXT), bar(JSON)],
        ..scenario(name, about, endpoints, saturate(0, 32, None), rows(cases), COLUMNS)
    };
    vec![
        logged("log-n1", "no body to 1 endpoint, without an access log, with one in text, with one in JSON", 1),
        logged("log-n3", "no body to 3 endpoints, without an access log, with one in text, with one in JSON", 3),
        logged("log-n10", "no body to 10 endpoints, without an access log, with one in text, with one in JSON", 10),
    ]
}

fn bar(variant: &'static str) -> Bar {
    let (bound, of) = (Bound::AtMost(COST), Some("bare loop"));
    Bar { variant, metric: "cpu_us_per_request", bound, of, above: Some(OFF) }
}

/// Every subject in each of the forms. The bare loop logs nothing.
fn rows(cases: &Cases<'_>) -> Vec<Case> {
    let rows = cases.everybody(&[]).into_iter().flat_map(|row| {
        if matches!(row.subject, Subject::Bare | Subject::GoTool) {
            return vec![row];
        }
        let form = |variant, log, against| Case { variant, log, against, ..row.clone() };
        vec![
            form(OFF, AccessLog::Off, None),
            form(TEXT, AccessLog::Text, Some(OFF)),
            form(JSON, AccessLog::Json, Some(OFF)),
        ]
    });
    rows.collect()
}
