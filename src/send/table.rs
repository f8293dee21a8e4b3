//! The table of endpoints: written once, or updated in place on a terminal.

use std::io::{self, IsTerminal as _};

use serde_json::Value;

use super::report::{Leg, Report};
use crate::{
    columns,
    console::{Unwritable, print},
};

/// The row of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EndpointRow {
    endpoint: String,
    pod: String,
    zone: String,
    status: String,
    outcome: String,
    time: String,
    bytes: String,
    error: String,
}

/// The table on standard output.
pub(super) struct LiveTable {
    terminal: bool,
    /// The rows that are shown, and their number of lines.
    shown: Vec<EndpointRow>,
    lines: usize,
}

/// The columns.
const HEADINGS: [&str; 8] = ["ENDPOINT", "POD", "ZONE", "STATUS", "OUTCOME", "TIME", "BYTES", "ERROR"];

// === impl EndpointRow ===

impl EndpointRow {
    /// The state of an endpoint while the request is in progress.
    pub(super) fn so_far(endpoint: &Value) -> Self {
        let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
        let last = &endpoint["recent"][0];
        let outcome = last["outcome"].as_str().map(str::to_owned);
        let in_flight = endpoint["in_flight"].as_u64().unwrap_or_default() > 0;
        Self {
            endpoint: text("endpoint"),
            pod: text("pod"),
            zone: text("zone"),
            status: last["status"].as_u64().filter(|status| *status > 0).map(|s| s.to_string()).unwrap_or_default(),
            outcome: outcome.unwrap_or_else(|| if in_flight { "sending" } else { "waiting" }.to_owned()),
            ..Self::default()
        }
    }

    fn ended(leg: &Leg) -> Self {
        let attempts = if leg.attempts > 1 { format!(" ({} attempts)", leg.attempts) } else { String::new() };
        let outcome = match (&leg.outcome, leg.wave) {
            (Some(outcome), _) => outcome.clone() + &attempts,
            (None, Some(wave)) => format!("wave {wave}"),
            (None, None) => "not sent".to_owned(),
        };
        let ended = leg.outcome.is_some();
        Self {
            endpoint: leg.endpoint.clone(),
            pod: leg.pod.clone().unwrap_or_default(),
            zone: leg.zone.clone().unwrap_or_default(),
            status: leg.status.map(|status| status.to_string()).unwrap_or_default(),
            outcome,
            time: if ended { format!("{:.1} ms", leg.ms) } else { String::new() },
            bytes: if ended { leg.bytes.to_string() } else { String::new() },
            error: leg.error.clone().unwrap_or_default(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let Self { endpoint, pod, zone, status, outcome, time, bytes, error } = self.clone();
        vec![endpoint, pod, zone, status, outcome, time, bytes, error]
    }
}

// === impl LiveTable ===

impl LiveTable {
    pub(super) fn new() -> Self {
        let dumb = std::env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
        Self { terminal: io::stdout().is_terminal() && !dumb, shown: Vec::new(), lines: 0 }
    }

    /// Whether written lines can be replaced.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Replaces the shown rows by these, if they differ and the terminal is large enough.
    pub(super) fn show(&mut self, rows: &[EndpointRow]) {
        let size = terminal_size::terminal_size();
        let (width, height) = size.map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)));
        if rows == self.shown || rows.is_empty() || rows.len() + 2 > height {
            return;
        }
        let lines: Vec<String> = lines(rows).iter().map(|line| line.chars().take(width).collect()).collect();
        // The terminal may be gone, and then there is no place to report it.
        let _ = print(&format!("{}{}\n", self.back(), lines.join("\n")));
        (self.shown, self.lines) = (rows.to_vec(), lines.len());
    }

    /// Keeps the shown rows.
    pub(super) fn keep(&mut self) {
        self.lines = 0;
    }

    /// Shows the final results.
    pub(super) fn finish(self, report: &Report) -> Result<(), Unwritable> {
        let rows: Vec<EndpointRow> = report.results.iter().map(EndpointRow::ended).collect();
        let mut text = if rows.is_empty() { String::new() } else { lines(&rows).join("\n") + "\n" };
        text.push_str(&report.summary());
        print(&format!("{}{text}\n", self.back()))
    }

    /// Moves to where the table begins, and removes it.
    fn back(&self) -> String {
        if self.lines == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.lines) }
    }
}

/// The heading and a line for each row.
fn lines(rows: &[EndpointRow]) -> Vec<String> {
    columns::lines(&HEADINGS, &rows.iter().map(EndpointRow::cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_empty_ones_are_left_out() {
        let report: Report = serde_json::from_str(
            r#"{"require": "majority", "result": "failed", "results": [
                {"endpoint": "192.0.2.1:80", "pod": "cache-0", "status": 200, "outcome": "ok", "attempts": 1, "ms": 1.26, "bytes": 2},
                {"endpoint": "[2001:db8::1]:80", "pod": "cache-1", "status": null, "outcome": "connect", "attempts": 3, "ms": 0.1,
                 "bytes": 0, "error": "refused\u001b[2J"}]}"#,
        )
        .expect("it is a report");
        let rows: Vec<EndpointRow> = report.results.iter().map(EndpointRow::ended).collect();
        assert_eq!(
            lines(&rows),
            [
                "ENDPOINT          POD      STATUS  OUTCOME               TIME    BYTES  ERROR",
                "192.0.2.1:80      cache-0  200     ok                    1.3 ms  2",
                "[2001:db8::1]:80  cache-1          connect (3 attempts)  0.1 ms  0      refused?[2J",
            ]
        );
        assert_eq!(report.summary(), "failed: 1 of 2 endpoints ok, majority must be");
        assert!(!report.is_met());
    }

    #[test]
    fn an_endpoint_waits_until_its_leg_has_ended() {
        let endpoint = |recent: &str, in_flight: u64| {
            let recent: Value = serde_json::from_str(recent).expect("it is JSON");
            let row =
                EndpointRow::so_far(&serde_json::json!({"endpoint": "a:80", "recent": recent, "in_flight": in_flight}));
            (row.outcome, row.status)
        };
        assert_eq!(endpoint("[]", 0), ("waiting".into(), String::new()));
        assert_eq!(endpoint("[]", 1), ("sending".into(), String::new()));
        assert_eq!(endpoint(r#"[{"outcome": "ok", "status": 200}]"#, 0), ("ok".into(), "200".into()));
        assert_eq!(endpoint(r#"[{"outcome": "connect", "status": 0}]"#, 0), ("connect".into(), String::new()));
    }
}
