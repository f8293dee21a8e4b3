//! The process's one metrics recorder, and its text for `/metrics`.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use ::metrics::Label;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::build_info;

mod open_metrics;
mod process;

pub use open_metrics::{Exposition, OpenMetrics};

/// Upper bounds in seconds of every histogram whose name does not end in `_bytes`: from below a millisecond on loopback to a minute.
pub const SECONDS: [f64; 18] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0,
];

/// Upper bounds in bytes of every histogram whose name ends in `_bytes`: powers of 8 from 64 B to 1 GiB.
pub const BYTES: [f64; 9] =
    [64.0, 512.0, 4_096.0, 32_768.0, 262_144.0, 2_097_152.0, 16_777_216.0, 134_217_728.0, 1_073_741_824.0];

/// How often [`Metrics::upkeep`] folds fresh samples into the histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The recorder's handle. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

/// Why the recorder cannot be installed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MetricsError {
    /// Another recorder is installed.
    #[error("another metrics recorder was installed in this process first: {0}")]
    Occupied(String),
    /// The bucket bounds are refused.
    #[error("the histogram buckets are refused: {0}")]
    Buckets(String),
}

static INSTALLED: OnceLock<Result<Metrics, MetricsError>> = OnceLock::new();

/// Installs the recorder that the `metrics` macros of the whole process write to. There is one per process: every call returns the same, so several
/// instances in one process (tests) share it.
///
/// # Errors
/// Another recorder was installed before the first call.
pub fn install() -> Result<Metrics, MetricsError> {
    INSTALLED.get_or_init(build).clone()
}

fn build() -> Result<Metrics, MetricsError> {
    let buckets = |error: metrics_exporter_prometheus::BuildError| MetricsError::Buckets(error.to_string());
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .map_err(buckets)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES)
        .map_err(buckets)?
        .install_recorder()
        .map_err(|error| MetricsError::Occupied(error.to_string()))?;
    Ok(Metrics { handle })
}

/// Shows a counter as 0 for every combination of these labels' values, before it has counted anything: a first increase is
/// then seen as one.
pub fn from_zero(name: &'static str, labels: &[(&'static str, &[&str])]) {
    let mut combinations: Vec<Vec<Label>> = vec![Vec::new()];
    for (label, values) in labels {
        let with = |before: &Vec<Label>, value: &str| {
            let mut labels = before.clone();
            labels.push(Label::new(*label, value.to_owned()));
            labels
        };
        combinations = combinations.iter().flat_map(|before| values.iter().map(|value| with(before, value))).collect();
    }
    for labels in combinations {
        ::metrics::counter!(name, labels).increment(0);
    }
}

// === impl Metrics ===

impl Metrics {
    /// Every metric in the Prometheus text format, with the process's own (`process_*`) and `fanfare_build_info` read at this moment.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        render_build_info(&mut text);
        process::render(&mut text);
        crate::tls::render_metrics(&mut text);
        text
    }

    /// Keeps the histograms' sample buffers small while nobody scrapes. Run it as a task; it ends only by being dropped.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
        }
    }
}

fn render_build_info(text: &mut String) {
    text.push_str("# HELP fanfare_build_info Which build this is; always 1.\n# TYPE fanfare_build_info gauge\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "fanfare_build_info{{version=\"{}\",commit=\"{}\"}} 1",
        label(build_info::VERSION),
        label(build_info::commit())
    );
}

/// A label value, escaped as the text format demands.
pub(crate) fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(text: &str, name: &str) -> f64 {
        let line = text
            .lines()
            .find(|line| line.split([' ', '{']).next() == Some(name))
            .unwrap_or_else(|| panic!("no {name} in:\n{text}"));
        let value = line.rsplit(' ').next().expect("a sample has a value");
        value.parse().unwrap_or_else(|_| panic!("no number in {line}"))
    }

    #[test]
    fn instances_share_one_recorder() {
        let (one, two) = (install().expect("installs"), install().expect("installs again"));
        metrics::counter!("runtime_test_shared_total").increment(2);
        for text in [one.render(), two.render()] {
            assert_eq!(sample(&text, "runtime_test_shared_total"), 2.0);
        }
    }

    #[test]
    fn a_counter_is_shown_before_it_has_counted() {
        let metrics = install().expect("installs");
        from_zero("runtime_test_zero_total", &[("a", &["1"]), ("result", &["ok", "failed"])]);
        metrics::counter!("runtime_test_zero_total", "a" => "1", "result" => "ok").increment(2);
        let text = metrics.render();
        for line in ["{a=\"1\",result=\"ok\"} 2", "{a=\"1\",result=\"failed\"} 0"] {
            assert!(
                text.lines().any(|l| l.strip_prefix("runtime_test_zero_total") == Some(line)),
                "no {line} in:\n{text}"
            );
        }
    }

    #[test]
    fn histograms_have_buckets_by_unit() {
        let metrics = install().expect("installs");
        metrics::histogram!("runtime_test_duration_seconds").record(0.0004);
        metrics::histogram!("runtime_test_size_bytes").record(100.0);
        let text = metrics.render();
        for line in [
            "runtime_test_duration_seconds_bucket{le=\"0.00025\"} 0",
            "runtime_test_duration_seconds_bucket{le=\"0.0005\"} 1",
            "runtime_test_duration_seconds_bucket{le=\"60\"} 1",
            "runtime_test_size_bytes_bucket{le=\"64\"} 0",
            "runtime_test_size_bytes_bucket{le=\"512\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
        }
    }

    #[test]
    fn the_process_describes_itself() {
        let metrics = install().expect("installs");
        let _open = std::fs::File::open("/proc/self/stat").expect("opens");
        let text = metrics.render();
        assert!(sample(&text, "process_resident_memory_bytes") > 1e6);
        assert!(sample(&text, "process_open_fds") >= 4.0);
        assert!(sample(&text, "process_max_fds") >= sample(&text, "process_open_fds"));
        assert!(sample(&text, "process_cpu_seconds_total") >= 0.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let age = now - sample(&text, "process_start_time_seconds");
        assert!((-2.0..3_600.0).contains(&age), "the process seems {age} s old");
        assert_eq!(sample(&text, "fanfare_build_info"), 1.0);
        assert!(text.contains(&format!("version=\"{}\"", build_info::VERSION)));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(label("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }
}
