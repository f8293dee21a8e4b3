//! The metrics: name, unit and good direction of each number.

use std::collections::BTreeMap;

/// The numbers of one turn, by key.
pub(crate) type Metrics = BTreeMap<String, f64>;

/// One number of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// Its key in the results.
    pub(crate) key: &'static str,
    /// Its title in tables.
    pub(crate) title: &'static str,
    unit: Unit,
    /// Whether less is better; `None` if neither is.
    pub(crate) less_is_better: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Micros,
    Bytes,
    BytesPerSecond,
    Count,
    Number,
    Percent,
}

const LESS: Option<bool> = Some(true);
const MORE: Option<bool> = Some(false);

/// Every number.
pub(crate) const ALL: &[Metric] = &[
    metric("cpu_us_per_request", "CPU per request", Unit::Micros, LESS),
    metric("cpu_us_at_rate", "CPU per request at a low rate", Unit::Micros, LESS),
    metric("cpu_us_per_mib", "CPU per MiB of body", Unit::Micros, LESS),
    metric("cpu_system_percent", "of it in the kernel", Unit::Percent, None),
    metric("requests_per_second", "requests/s", Unit::Count, MORE),
    metric("handshakes_per_cpu_second", "handshakes per second of CPU", Unit::Count, MORE),
    metric("bytes_per_second", "body bytes/s", Unit::BytesPerSecond, MORE),
    metric("saturated_p50_us", "p50 saturated", Unit::Micros, LESS),
    metric("saturated_p99_us", "p99 saturated", Unit::Micros, LESS),
    metric("p50_us", "p50", Unit::Micros, LESS),
    metric("p90_us", "p90", Unit::Micros, LESS),
    metric("p99_us", "p99", Unit::Micros, LESS),
    metric("p99_beside_us", "p99 beside it, owing nothing", Unit::Micros, LESS),
    metric("p99_to_beside", "ratio of p99 to that beside it", Unit::Number, LESS),
    metric("p999_us", "p99.9", Unit::Micros, LESS),
    metric("max_us", "longest", Unit::Micros, LESS),
    metric("rss_bytes", "resident", Unit::Bytes, LESS),
    metric("peak_bytes", "peak resident", Unit::Bytes, LESS),
    metric("growth_bytes", "peak above start", Unit::Bytes, LESS),
    metric("bytes_per_connection", "resident per connection", Unit::Bytes, LESS),
    metric("connections", "connections", Unit::Count, None),
    metric("syscalls_per_request", "system calls per request", Unit::Number, LESS),
    metric("voluntary_switches_per_request", "waits per request", Unit::Number, LESS),
    metric("involuntary_switches_per_request", "preemptions per request", Unit::Number, LESS),
    metric("requests", "requests", Unit::Count, None),
    metric("errors", "errors", Unit::Count, LESS),
    metric("unsent", "never sent", Unit::Count, LESS),
    metric("lost_copies", "copies lost", Unit::Count, LESS),
    metric("extra_copies", "copies too many", Unit::Count, LESS),
    metric("rewrites", "rewrites", Unit::Count, None),
    metric("owed", "deliveries owed", Unit::Count, None),
    metric("journal_commits", "commits of the journal", Unit::Count, None),
    metric("journal_alone_per_second", "journal alone, requests/s", Unit::Count, None),
    metric("log_dropped", "log entries lost", Unit::Count, LESS),
    metric("rate_per_second", "requests/s that were due", Unit::Count, None),
    metric("stripped_bytes", "stripped binary", Unit::Bytes, LESS),
    metric("version_us", "printing the version", Unit::Micros, LESS),
    metric("start_us", "start to first answer", Unit::Micros, LESS),
    metric("threads", "threads", Unit::Count, None),
    metric("metrics_bytes", "size of /metrics", Unit::Bytes, LESS),
    metric("cpu_us_per_second", "CPU per second at rest", Unit::Micros, LESS),
    metric("cpu_us_per_change", "CPU per change of one", Unit::Micros, LESS),
    metric("recovery_us", "restart to all deliveries known", Unit::Micros, LESS),
];

const fn metric(key: &'static str, title: &'static str, unit: Unit, less_is_better: Option<bool>) -> Metric {
    Metric { key, title, unit, less_is_better }
}

/// The number with this key.
pub(crate) fn find(key: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| metric.key == key)
}

impl Metric {
    /// A value as tables show it.
    pub(crate) fn format(&self, value: f64) -> String {
        match self.unit {
            Unit::Micros if value >= 10_000.0 => format!("{} ms", digits(value / 1_000.0)),
            Unit::Micros => format!("{} µs", digits(value)),
            Unit::Bytes => binary(value),
            Unit::BytesPerSecond => format!("{}/s", binary(value)),
            Unit::Count => format!("{value:.0}"),
            Unit::Number => digits(value),
            Unit::Percent => format!("{value:.0} %"),
        }
    }
}

/// The value with six significant digits.
pub(crate) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(5 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// Three significant digits.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn binary(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value.abs() >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", digits(value), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_for_people() {
        let format = |key: &str, value| find(key).unwrap().format(value);
        assert_eq!(format("cpu_us_per_request", 46.04), "46.0 µs");
        assert_eq!(format("p99_us", 1_000_400.0), "1000 ms");
        assert_eq!(format("peak_bytes", 3.5 * 1024.0 * 1024.0), "3.50 MiB");
        assert_eq!(format("bytes_per_second", 1e9), "954 MiB/s");
        assert_eq!(format("errors", 0.0), "0");
    }

    #[test]
    fn six_digits_are_kept() {
        assert_eq!([123_456_789.0, 0.001_234_567_8, 0.0, 2.0].map(rounded), [123_457_000.0, 0.001_234_57, 0.0, 2.0]);
    }

    #[test]
    fn no_key_comes_twice() {
        let keys: std::collections::HashSet<_> = ALL.iter().map(|metric| metric.key).collect();
        assert_eq!(keys.len(), ALL.len());
    }
}
