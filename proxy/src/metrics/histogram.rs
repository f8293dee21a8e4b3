//! A histogram of durations with fixed buckets: observing is two additions, and nothing ever has to be cleaned up.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use spans::TraceId;

/// Upper bounds of the buckets in microseconds: 100 µs to 60 s. A last bucket takes the rest.
const BOUNDS: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 60_000_000,
];

/// Counts durations in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In microseconds.
    sum: AtomicU64,
    /// The last recorded trace of each bucket; allocated for the first one.
    exemplars: OnceLock<Box<Exemplars>>,
}

/// Counts in a list of counters. Counts for the same counter in a row become one addition, because an addition that other threads may
/// see takes the time of dozens of instructions.
pub(super) struct Tally<'a> {
    counters: &'a [AtomicU64],
    index: usize,
    count: u64,
}

type Exemplars = Mutex<[Option<Exemplar>; BOUNDS.len() + 1]>;

/// A counted duration with its trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The trace.
    pub trace: TraceId,
    /// The duration in seconds.
    pub value: f64,
    /// When it was counted.
    pub at: SystemTime,
}

// === impl Tally ===

impl<'a> Tally<'a> {
    pub(super) fn of(counters: &'a [AtomicU64]) -> Self {
        Self { counters, index: 0, count: 0 }
    }

    pub(super) fn count(&mut self, index: usize) {
        if index != self.index {
            self.add();
            self.index = index;
        }
        self.count += 1;
    }

    fn add(&mut self) {
        if self.count > 0
            && let Some(counter) = self.counters.get(self.index)
        {
            counter.fetch_add(std::mem::take(&mut self.count), Ordering::Relaxed);
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.add();
    }
}

// === impl Histogram ===

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.count(duration);
    }

    /// Counts several durations.
    pub fn observe_all(&self, durations: impl Iterator<Item = Duration>) {
        let (mut tally, mut sum) = (Tally::of(&self.buckets), 0_u64);
        for duration in durations {
            let micros = micros(duration);
            tally.count(bucket(micros));
            sum = sum.wrapping_add(micros);
        }
        self.sum.fetch_add(sum, Ordering::Relaxed);
    }

    /// Counts a duration, with its trace as the exemplar of the bucket.
    pub fn observe_traced(&self, duration: Duration, trace: TraceId) {
        let bucket = self.count(duration);
        // Another thread sets an exemplar at the same time: one of them is enough.
        if let Some(mut exemplars) = self.exemplars.get_or_init(Box::default).try_lock() {
            exemplars[bucket] = Some(Exemplar { trace, value: duration.as_secs_f64(), at: SystemTime::now() });
        }
    }

    /// Counts it, and returns its bucket.
    fn count(&self, duration: Duration) -> usize {
        let micros = micros(duration);
        let bucket = bucket(micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
        bucket
    }

    /// The exemplars of the buckets.
    #[must_use]
    pub fn exemplars(&self) -> [Option<Exemplar>; BOUNDS.len() + 1] {
        self.exemplars.get().map(|exemplars| *exemplars.lock()).unwrap_or_default()
    }

    /// Each bucket's upper bound in seconds with the count of everything up to it; the last is infinity and all.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter()).scan(0, |all, (bound, bucket)| {
            *all += bucket.load(Ordering::Relaxed);
            Some((bound, *all))
        })
    }

    /// The sum of all durations in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1e6
    }
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

/// The bucket of a duration.
fn bucket(micros: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let counts: Vec<_> = histogram.cumulative().collect();
        assert_eq!((counts[0], counts[1]), ((0.0001, 2), (0.00025, 3)));
        assert_eq!((counts[16], counts[17]), ((60.0, 4), (f64::INFINITY, 5)));
        assert!((histogram.sum() - 120.000_202).abs() < 1e-9);
        assert_eq!(histogram.exemplars(), [None; BOUNDS.len() + 1]);
    }

    #[test]
    fn durations_count_together_as_they_do_one_by_one() {
        let (together, one_by_one) = (Histogram::default(), Histogram::default());
        let durations = [3, 5, 700, 4, 4, 60_000_001, 700, 700].map(Duration::from_micros);
        durations.into_iter().for_each(|duration| one_by_one.observe(duration));
        together.observe_all(durations.into_iter());
        together.observe_all(std::iter::empty());
        assert_eq!(together.cumulative().collect::<Vec<_>>(), one_by_one.cumulative().collect::<Vec<_>>());
        assert!((together.sum() - one_by_one.sum()).abs() < 1e-9);
    }

    #[test]
    fn each_bucket_has_the_last_trace_as_its_exemplar() {
        let (histogram, trace) = (Histogram::default(), |byte| TraceId::from_bytes([byte; 16]).unwrap());
        for (micros, byte) in [(150, 1), (200, 2), (120_000_000, 3)] {
            histogram.observe_traced(Duration::from_micros(micros), trace(byte));
        }
        let exemplars = histogram.exemplars();
        let of = |bucket: usize| exemplars[bucket].map(|exemplar| (exemplar.trace, exemplar.value));
        assert_eq!((of(0), of(1), of(17)), (None, Some((trace(2), 0.0002)), Some((trace(3), 120.0))));
        assert_eq!(histogram.cumulative().last(), Some((f64::INFINITY, 3)));
    }
}
