//! The output of the demo, for a terminal of 100 columns.

use std::{
    fmt::{Display, Write as _},
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use super::{
    Stage, origin,
    row::{Cell, REQUESTS, Row, Scenario},
};

/// Standard output, with colours on a terminal unless they are disabled.
pub(super) struct Screen {
    colours: bool,
}

/// The style of a text.
#[derive(Clone, Copy)]
enum Style {
    Title,
    Good,
    Bad,
    Aside,
}

/// The width of an origin's column.
const CELL: usize = 20;

/// The width of the rule below the table's heading, and above its end.
const WIDTH: usize = 96;

// === impl Screen ===

impl Screen {
    /// The process's standard output. <https://no-color.org>: `NO_COLOR` applies if it is not empty.
    pub(super) fn new() -> Self {
        let declined = |name: &str, value: fn(&str) -> bool| std::env::var(name).is_ok_and(|text| value(&text));
        let plain = declined("NO_COLOR", |text| !text.is_empty()) || declined("TERM", |text| text == "dumb");
        Self { colours: std::io::stdout().is_terminal() && !plain }
    }

    /// Prints the addresses.
    pub(super) fn introduction(&self, stage: &Stage) {
        let Stage { origins: [one, two, three], broadcaster, .. } = stage;
        let title = self.paint(Style::Title, "One request to every endpoint, one answer back");
        let you = format!("  you ── {broadcaster} ──");
        let indent = " ".repeat(you.chars().count());
        self.print(format_args!(
            "
{title}

Three origins and the broadcaster in front of them run here, in one process, on real sockets.

{indent}┌─ {} {}
{you}┼─ {} {}
{indent}└─ {} {}

The path chooses how many origins must answer with success: all of them, or a {} of them below
/majority/, or {} of them below /any/.
",
            self.paint(Style::Title, &format!("{:<5}", one.name())),
            one.address(),
            self.paint(Style::Title, &format!("{:<5}", two.name())),
            two.address(),
            self.paint(Style::Title, &format!("{:<5}", three.name())),
            three.address(),
            self.paint(Style::Title, "majority"),
            self.paint(Style::Title, "any one"),
        ));
    }

    /// Prints the head of the table.
    pub(super) fn heading(&self, stage: &Stage) {
        let mut columns = format!("{:<10}{:<10}{:<16}", "three is", "require", "you get");
        for origin in &stage.origins {
            let _ = write!(columns, "{:<CELL$}", origin.name());
        }
        self.print(format_args!(
            "{}: each line is a POST with a body, sent twice: for its answer, and for the report of what\n\
             every origin answered. {REQUESTS}/{REQUESTS}: both arrived there, byte for byte. ✓: all is as the rules say.\n\n{}\n{}",
            self.paint(Style::Title, "Self-check"),
            self.paint(Style::Title, columns.trim_end()),
            "─".repeat(WIDTH),
        ));
    }

    /// Prints one row.
    pub(super) fn row(&self, row: &Row, first: bool) {
        let mut line = format!("{:<10}{:<10}", if first { row.scenario.word() } else { "" }, row.policy);
        let status = row.answer.status;
        let style = if status.is_success() { Style::Good } else { Style::Bad };
        let after = format!("in {:>6}", milliseconds(row.answer.after));
        let _ = write!(line, "{} {:<12}", self.paint(style, status.as_str()), after);
        for (index, cell) in row.origins.iter().enumerate() {
            line.push_str(&self.cell(cell, index == 2 && row.scenario == Scenario::Down));
        }
        let verdict = if row.wrong.is_empty() { self.paint(Style::Good, "✓") } else { self.paint(Style::Bad, "✗") };
        self.print(format_args!("{line}{verdict}"));
        for wrong in &row.wrong {
            self.print(format_args!("{:>20}{}", "", self.paint(Style::Bad, wrong)));
        }
    }

    /// `200 in 1 ms  2/2`, with the padding of its column.
    fn cell(&self, cell: &Cell, down: bool) -> String {
        let (style, word, after) = match &cell.leg {
            Some(leg) => {
                let style = if leg.outcome == "ok" { Style::Good } else { Style::Bad };
                let word = leg.status.map_or_else(|| leg.outcome.clone(), |status| status.to_string());
                let after = leg
                    .status
                    .map(|_| format!(" in {:>6}", milliseconds(Duration::from_secs_f64(leg.ms.max(0.0) / 1e3))));
                (style, word, after.unwrap_or_default())
            }
            None => (Style::Bad, "missing".to_owned(), String::new()),
        };
        let received =
            if down && cell.received == 0 { "-".to_owned() } else { format!("{}/{REQUESTS}", cell.received) };
        let width = word.chars().count() + after.chars().count();
        let gap = " ".repeat(14_usize.saturating_sub(width));
        let tail = " ".repeat(CELL.saturating_sub(14 + received.len()));
        format!("{}{after}{gap}{}{tail}", self.paint(style, &word), self.paint(Style::Aside, &received))
    }

    /// Prints the end of the table.
    pub(super) fn verdict(&self, good: usize, rows: usize) {
        let verdict = if good == rows {
            self.paint(Style::Good, &format!("{good} of {rows} as expected"))
        } else {
            self.paint(Style::Bad, &format!("only {good} of {rows} as expected"))
        };
        self.print(format_args!("{}\n{verdict}", "─".repeat(WIDTH)));
    }

    /// Prints the commands to try.
    pub(super) fn lines_to_try(&self, stage: &Stage) {
        let Stage { origins, broadcaster, admin } = stage;
        let (third, slow) = (&origins[2], runtime::duration::format(origin::SLOW));
        let lines = [
            (
                "One request to all three, one answer back".to_owned(),
                vec![format!("curl -i http://{broadcaster}/hello")],
            ),
            (
                "Purge a cache everywhere; fine as soon as a majority has".to_owned(),
                vec![format!("curl -i -X PURGE http://{broadcaster}/majority/logo.png")],
            ),
            (
                "The complete report".to_owned(),
                vec![format!("curl -s -H 'Accept: {}' http://{broadcaster}/hello", super::client::REPORT)],
            ),
            (
                "A body goes to every origin, too".to_owned(),
                vec![format!("curl -i -d 'hello everyone' http://{broadcaster}/any/x")],
            ),
            (
                format!(
                    "Make {} slow ({slow}), failing, or healthy again; then try the lines above once more",
                    third.name()
                ),
                ["slow", "failing", "healthy"]
                    .map(|mode| format!("curl -X POST http://{}/-/{mode}", third.address()))
                    .into(),
            ),
            (
                "What the broadcaster knows and counts".to_owned(),
                vec![format!("curl -s http://{admin}/-/endpoints"), format!("curl -s http://{admin}/metrics")],
            ),
        ];
        self.print(format_args!("\n{}", self.paint(Style::Title, "Now try it yourself, in another terminal")));
        for (what, commands) in lines {
            self.print(format_args!("\n  {}", self.paint(Style::Aside, &format!("# {what}"))));
            for command in commands {
                self.print(format_args!("  {command}"));
            }
        }
        self.print(format_args!("\nCtrl-C ends the demo."));
    }

    /// Prints the last line.
    pub(super) fn goodbye(&self) {
        self.print(format_args!("\nDraining, goodbye."));
    }

    fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Title => "1",
            Style::Good => "32",
            Style::Bad => "31",
            Style::Aside => "2",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Ignores write errors, because the output may be piped into `head`.
    fn print(&self, text: impl Display) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

/// `0.4 ms`, `12 ms`, `812 ms`.
fn milliseconds(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if ms < 9.95 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}
