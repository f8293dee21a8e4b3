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

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.count(duration);
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
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
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
