//! Converts the Prometheus text format to OpenMetrics, and negotiates the format.

use std::io;

/// The formats of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// The Prometheus text format.
    Text,
    /// OpenMetrics, which supports exemplars.
    OpenMetrics,
}

/// Converts metrics from the Prometheus text format, which may have exemplars, while they are written.
pub struct OpenMetrics<'a> {
    out: &'a mut dyn io::Write,
    /// The start of a line whose end has not been written yet.
    partial: Vec<u8>,
    /// The name and the help of the next family.
    help: Option<(String, String)>,
}

// === impl Exposition ===

impl Exposition {
    /// The format that an `Accept` field prefers; OpenMetrics only if it is named explicitly.
    #[must_use]
    pub fn preferred(accept: &str) -> Self {
        let (mut text, mut open) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|parameter| parameter.strip_prefix("q="));
            let quality: f32 = quality.map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            match media_type.as_str() {
                "application/openmetrics-text" => open = quality.max(open),
                "text/plain" | "text/*" | "*/*" => text = quality.max(text),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// Its media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

// === impl OpenMetrics ===

impl<'a> OpenMetrics<'a> {
    /// Writes OpenMetrics to `out`.
    #[must_use]
    pub fn new(out: &'a mut dyn io::Write) -> Self {
        Self { out, partial: Vec::new(), help: None }
    }

    /// Writes the end marker.
    ///
    /// # Errors
    /// That of the writer.
    pub fn finish(mut self) -> io::Result<()> {
        let last = std::mem::take(&mut self.partial);
        self.line(&last)?;
        self.out.write_all(b"# EOF\n")
    }

    /// Samples are the same in both formats. Families of counters lose their `_total`.
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if !line.starts_with(b"#") {
            return if line.is_empty() { Ok(()) } else { self.put(&[line]) };
        }
        let line = String::from_utf8_lossy(line);
        if let Some(said) = line.strip_prefix("# HELP ") {
            self.help = said.split_once(' ').map(|(name, help)| (name.to_owned(), help.replace('"', "\\\"")));
        } else if let Some(said) = line.strip_prefix("# TYPE ") {
            let (name, kind) = said.split_once(' ').unwrap_or((said, "untyped"));
            let (family, kind) = match (name.strip_suffix("_total"), kind) {
                (Some(family), "counter") => (family, kind),
                // Counters must end in `_total`.
                (_, "counter" | "untyped") => (name, "unknown"),
                _ => (name, kind),
            };
            self.put(&[b"# TYPE ", family.as_bytes(), b" ", kind.as_bytes()])?;
            if let Some((_, help)) = self.help.take().filter(|(of, _)| of == name) {
                self.put(&[b"# HELP ", family.as_bytes(), b" ", help.as_bytes()])?;
            }
        }
        Ok(())
    }

    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        parts.iter().try_for_each(|part| self.out.write_all(part))?;
        self.out.write_all(b"\n")
    }
}

impl io::Write for OpenMetrics<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                None => self.partial.extend_from_slice(piece),
                Some(end) if self.partial.is_empty() => self.line(end)?,
                Some(end) => {
                    let mut line = std::mem::take(&mut self.partial);
                    line.extend_from_slice(end);
                    self.line(&line)?;
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_used_where_a_reader_prefers_it() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [PROMETHEUS, "application/openmetrics-text", "Application/OpenMetrics-Text; version=1.0.0, */*"] {
            assert_eq!(Exposition::preferred(accept), Exposition::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "text/plain, application/openmetrics-text;q=0.1",
            "application/openmetrics-text;q=0",
        ] {
            assert_eq!(Exposition::preferred(accept), Exposition::Text, "{accept}");
        }
    }

    #[test]
    fn samples_stay_and_counters_are_named_without_their_end() {
        let text = "# HELP a_total Some \"a\".\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\n# TYPE d counter\nd 2\n\
                    # HELP e_seconds Time.\n# TYPE e_seconds histogram\ne_seconds_bucket{le=\"+Inf\"} 1 # {trace_id=\"0a\"} 0.5 1.000\n\
                    e_seconds_sum 0.5\ne_seconds_count 1\n# HELP f F.\n# TYPE f untyped\nf 1\n";
        let want = "# TYPE a counter\n# HELP a Some \\\"a\\\".\na_total{b=\"c\"} 1\n# TYPE d unknown\nd 2\n\
                    # TYPE e_seconds histogram\n# HELP e_seconds Time.\ne_seconds_bucket{le=\"+Inf\"} 1 # {trace_id=\"0a\"} 0.5 1.000\n\
                    e_seconds_sum 0.5\ne_seconds_count 1\n# TYPE f unknown\n# HELP f F.\nf 1\n# EOF\n";
        // Whatever the pieces that it is written in.
        for size in [1, 7, text.len()] {
            let mut written = Vec::new();
            let mut open = OpenMetrics::new(&mut written);
            text.as_bytes().chunks(size).for_each(|piece| io::Write::write_all(&mut open, piece).unwrap());
            open.finish().unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), want, "pieces of {size}");
        }
    }
}
