//! Prometheus' text exposition format (version 0.0.4), written in pieces of bounded size.

use std::{
    fmt::{Display, Write as _},
    io,
    time::SystemTime,
};

use super::{Exemplar, Histogram};

/// The size at which text is passed on.
const PIECE: usize = 32 * 1024;

/// Text on its way to a writer.
pub(super) struct Text<'a> {
    piece: String,
    out: &'a mut dyn io::Write,
    /// The first error of the writer; nothing is written after it.
    result: io::Result<()>,
    /// Leaves out samples of 0, where the same family has thousands of them.
    pub(super) sparse: bool,
    /// Whether buckets have exemplars, which only OpenMetrics supports.
    exemplars: bool,
}

// === impl Text ===

// Formatting into a string cannot fail, so the results are not looked at.
impl<'a> Text<'a> {
    pub(super) fn new(out: &'a mut dyn io::Write, exemplars: bool) -> Self {
        Self { piece: String::with_capacity(PIECE * 2), out, result: Ok(()), sparse: false, exemplars }
    }

    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.piece, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.sample_of(name, labels, value, None);
    }

    fn sample_of(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display, exemplar: Option<Exemplar>) {
        self.piece.push_str(name);
        let mut separator = '{';
        for (label, text) in labels {
            let _ = write!(self.piece, "{separator}{label}=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.piece.push_str("\\\\"),
                    '"' => self.piece.push_str("\\\""),
                    '\n' => self.piece.push_str("\\n"),
                    other => self.piece.push(other),
                }
            }
            self.piece.push('"');
            separator = ',';
        }
        if !labels.is_empty() {
            self.piece.push('}');
        }
        let _ = write!(self.piece, " {value}");
        if let Some(Exemplar { trace, value, at }) = exemplar {
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            let _ = write!(self.piece, " # {{trace_id=\"{trace}\"}} {value} {at:.3}");
        }
        self.piece.push('\n');
        if self.piece.len() >= PIECE {
            self.pass_on();
        }
    }

    /// A number of something, which is left out if it is 0 and the text is sparse.
    pub(super) fn count(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        if value > 0 || !self.sparse {
            self.sample(name, labels, value);
        }
    }

    /// A histogram, which is left out if it is empty and the text is sparse.
    pub(super) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let counts: Vec<(f64, u64)> = histogram.cumulative().collect();
        let all = counts.last().map_or(0, |(_, count)| *count);
        if all == 0 && self.sparse {
            return;
        }
        let bucket = format!("{name}_bucket");
        let exemplars = if self.exemplars { histogram.exemplars() } else { Default::default() };
        for ((bound, count), exemplar) in counts.into_iter().zip(exemplars) {
            let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
            let labels: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
            self.sample_of(&bucket, &labels, count, exemplar);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum());
        self.sample(&format!("{name}_count"), labels, all);
    }

    /// Text of somebody else: whole families, each line ended.
    pub(super) fn others(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.piece);
    }

    /// Passes on what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.pass_on();
        self.result
    }

    fn pass_on(&mut self) {
        if self.result.is_ok() {
            self.result = self.out.write_all(self.piece.as_bytes());
        }
        self.piece.clear();
    }
}
