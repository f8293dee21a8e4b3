//! The broadcaster's report of a request, as far as it is shown.

use serde::Deserialize;

/// The report of a request.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    /// The policy.
    pub(super) require: String,
    /// `ok`, `partial`, `failed`, `empty` or `dry_run`.
    pub(super) result: String,
    /// The results of the endpoints.
    pub(super) results: Vec<Leg>,
}

/// The result of one endpoint.
#[derive(Debug, Deserialize)]
pub(super) struct Leg {
    pub(super) endpoint: String,
    pub(super) pod: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) outcome: Option<String>,
    pub(super) attempts: u32,
    pub(super) ms: f64,
    pub(super) bytes: u64,
    pub(super) error: Option<String>,
    pub(super) wave: Option<usize>,
}

// === impl Report ===

impl Report {
    /// Whether the policy is met.
    pub(super) fn is_met(&self) -> bool {
        ["ok", "partial", "dry_run"].contains(&self.result.as_str())
    }

    /// The last line of the table.
    pub(super) fn summary(&self) -> String {
        let Self { require, result, results } = self;
        let ok = results.iter().filter(|leg| leg.outcome.as_deref() == Some("ok")).count();
        match result.as_str() {
            "dry_run" => format!("dry run: {} endpoints would get the request, {require} must be ok", results.len()),
            "empty" => format!("empty: there are too few endpoints ({}), {require} must be ok", results.len()),
            _ => format!("{result}: {ok} of {} endpoints ok, {require} must be", results.len()),
        }
    }
}
