//! The metrics of redelivery, rendered as Prometheus text on request.

use crate::{
    Redelivery,
    core::{Event, State, Why},
};

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

/// Gauge `{endpoint}`: deliveries that an endpoint is owed.
pub const OWED: &str = "fanfare_deliveries_owed";
/// Counter `{route, result}`: deliveries that have ended; result is `delivered`, `expired`, `dropped` or `refused`.
pub const DELIVERIES: &str = "fanfare_deliveries_total";
/// Counter `{route, reason}`: those of them that were refused: by the endpoint (`answer`), or because they could not be kept.
pub const REFUSED: &str = "fanfare_deliveries_refused_total";
/// Histogram in seconds: the age of requests at their delivery.
pub const AGE: &str = "fanfare_delivery_age_seconds";
/// Gauge: the size of the journals.
pub const JOURNAL_BYTES: &str = "fanfare_journal_bytes";
/// Histogram in seconds: the duration of commits.
pub const COMMIT: &str = "fanfare_journal_commit_seconds";
/// Gauge: 1 if every journal can be written, else 0.
pub const WRITABLE: &str = "fanfare_journal_writable";
/// Counter: journals that were damaged when they were opened.
pub const DAMAGED: &str = "fanfare_journal_damaged_total";

/// The results of deliveries.
const RESULTS: [&str; 4] = ["delivered", "expired", "dropped", "refused"];
/// The reason of a refusal by the endpoint.
const ANSWER: &str = "answer";
/// All reasons: the endpoint's answer, and why a copy was not kept.
const REASONS: usize = 1 + Why::ALL.len();

/// Upper bounds in seconds for ages.
const AGES: [f64; 12] = [0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0, 86_400.0];
/// Upper bounds in seconds for commits.
const COMMITS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The metrics of one journal.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    routes: Mutex<BTreeMap<Arc<str>, Ended>>,
    ages: Histogram,
    commits: Histogram,
    bytes: AtomicU64,
    damaged: AtomicU64,
}

/// How the deliveries of a route have ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    results: [u64; RESULTS.len()],
    reasons: [u64; REASONS],
}

/// Twelve buckets and one for larger values. The bounds are kept elsewhere.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; 13],
    micros: AtomicU64,
}

impl Numbers {
    /// Registers the counters of a route with 0.
    pub(crate) fn route(&self, name: &str) {
        self.routes.lock().entry(name.into()).or_default();
    }

    pub(crate) fn ended(&self, event: &Event) {
        let result = match event.state {
            State::Delivered => 0,
            State::Expired => 1,
            State::Dropped => 2,
            State::Refused => 3,
            State::Held | State::Pending | State::Waiting | State::Merged | State::Sending => return,
        };
        let mut routes = self.routes.lock();
        let ended = routes.entry(event.route.clone()).or_default();
        ended.results[result] += 1;
        ended.reasons[0] += u64::from(event.state == State::Refused);
        drop(routes);
        if event.state == State::Delivered {
            self.ages.observe(&AGES, Duration::from_millis(event.age));
        }
    }

    /// Counts legs that were not deferred.
    pub(crate) fn refused(&self, route: &Arc<str>, legs: usize, why: Why) {
        let mut routes = self.routes.lock();
        let ended = routes.entry(route.clone()).or_default();
        ended.results[3] += legs as u64;
        if let Some(reason) = Why::ALL.iter().position(|known| *known == why) {
            ended.reasons[1 + reason] += legs as u64;
        }
    }

    pub(crate) fn committed(&self, took: Duration, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
        if !took.is_zero() {
            self.commits.observe(&COMMITS, took);
        }
    }

    pub(crate) fn damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }
}

impl Ended {
    fn add(&mut self, other: &Self) {
        self.results.iter_mut().zip(other.results).for_each(|(sum, count)| *sum += count);
        self.reasons.iter_mut().zip(other.reasons).for_each(|(sum, count)| *sum += count);
    }
}

impl Histogram {
    fn observe(&self, bounds: &[f64; 12], value: Duration) {
        let bucket = bounds.partition_point(|bound| *bound < value.as_secs_f64());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(value.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The number of pending deliveries of each endpoint, over all journals.
#[must_use]
pub fn owed_by_endpoint(all: &[Redelivery]) -> BTreeMap<Arc<str>, usize> {
    let mut owed: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for (endpoint, count) in all.iter().flat_map(Redelivery::owed_by_endpoint) {
        *owed.entry(endpoint).or_default() += count;
    }
    owed
}

/// Renders the metrics of all journals as Prometheus text.
pub fn render(all: &[Redelivery], to: &mut String) {
    family(to, OWED, "gauge", "Pending deliveries of an endpoint.");
    for (endpoint, count) in owed_by_endpoint(all) {
        sample(to, OWED, &[("endpoint", &endpoint)], count as f64);
    }
    family(to, DELIVERIES, "counter", "Deliveries that have ended, by result.");
    let mut routes: BTreeMap<Arc<str>, Ended> = BTreeMap::new();
    for one in all {
        for (route, ended) in &*one.numbers().routes.lock() {
            routes.entry(route.clone()).or_default().add(ended);
        }
    }
    for (route, ended) in &routes {
        for (result, count) in RESULTS.into_iter().zip(ended.results) {
            sample(to, DELIVERIES, &[("route", route), ("result", result)], count as f64);
        }
    }
    family(to, REFUSED, "counter", "Deliveries with the result refused, by reason.");
    let reasons = || iter::once(ANSWER).chain(Why::ALL.into_iter().map(Why::as_str));
    for (route, ended) in &routes {
        for (reason, count) in reasons().zip(ended.reasons) {
            sample(to, REFUSED, &[("route", route), ("reason", reason)], count as f64);
        }
    }
    histogram(to, AGE, "How old requests were when they were delivered.", &AGES, all, |numbers| &numbers.ages);
    let journals: Vec<_> = all.iter().filter_map(Redelivery::is_writable).collect();
    if journals.is_empty() {
        return;
    }
    family(to, JOURNAL_BYTES, "gauge", "The size of the journals.");
    let bytes: u64 = all.iter().map(|one| one.numbers().bytes.load(Ordering::Relaxed)).sum();
    sample(to, JOURNAL_BYTES, &[], bytes as f64);
    histogram(to, COMMIT, "How long commits of journals took.", &COMMITS, all, |numbers| &numbers.commits);
    family(to, WRITABLE, "gauge", "Whether every journal can be written.");
    sample(to, WRITABLE, &[], f64::from(u8::from(journals.iter().all(|writable| *writable))));
    family(to, DAMAGED, "counter", "Journals that were damaged when they were opened.");
    let damaged: u64 = all.iter().map(|one| one.numbers().damaged.load(Ordering::Relaxed)).sum();
    sample(to, DAMAGED, &[], damaged as f64);
}

fn family(to: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(to, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(to: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
    let labels = labels.collect::<Vec<_>>().join(",");
    let _ = if labels.is_empty() { writeln!(to, "{name} {value}") } else { writeln!(to, "{name}{{{labels}}} {value}") };
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn histogram(
    to: &mut String,
    name: &str,
    help: &str,
    bounds: &[f64; 12],
    all: &[Redelivery],
    of: impl Fn(&Numbers) -> &Histogram,
) {
    family(to, name, "histogram", help);
    let bucket =
        |index: usize| -> u64 { all.iter().map(|one| of(one.numbers()).buckets[index].load(Ordering::Relaxed)).sum() };
    let bounds = bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
    let mut count = 0;
    for (index, bound) in bounds.enumerate() {
        count += bucket(index);
        sample(to, &format!("{name}_bucket"), &[("le", &bound)], count as f64);
    }
    let micros: u64 = all.iter().map(|one| of(one.numbers()).micros.load(Ordering::Relaxed)).sum();
    sample(to, &format!("{name}_sum"), &[], micros as f64 / 1e6);
    sample(to, &format!("{name}_count"), &[], count as f64);
}
