//! A histogram of durations with fixed buckets: observing is two additions, and nothing ever has to be cleaned up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

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
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
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
    }
}
