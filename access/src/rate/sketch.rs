//! Estimates the requests of callers beyond the exact counts: pingora's count-min sketch, over two windows of time.
//!
//! The estimate is never too low, so nobody gets more than its rate. If very many callers share the counters it may be too high,
//! and some get less. Pingora's own `Rate` is not used: it reads the clock, and asserts that threads are never a second apart.

use std::{
    fmt,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use pingora_limits::estimator::Estimator;

use super::{Rate, Verdict};

/// Independent counters of each caller.
const HASHES: usize = 4;

/// Counters of each hash: half a megabyte for both windows.
const SLOTS: usize = 8192;

/// Counts of callers in the current window of time and in the one before. A window is as long as the burst lasts.
pub(super) struct Sketch {
    windows: [Estimator; 2],
    /// The number of the current window since the limiter was created.
    current: AtomicU64,
    turning: Mutex<()>,
}

impl Sketch {
    pub(super) fn new() -> Self {
        let windows = [Estimator::new(HASHES, SLOTS), Estimator::new(HASHES, SLOTS)];
        Self { windows, current: AtomicU64::new(0), turning: Mutex::new(()) }
    }

    /// Counts a request, if its caller may send it; `now` in nanoseconds since the limiter was created.
    pub(super) fn admit<K: Hash>(&self, key: &K, rate: Rate, now: u64) -> Verdict {
        let length = rate.bucket().interval().saturating_mul(u64::from(rate.burst.get()));
        let (number, into) = (now / length, now % length);
        self.turn_to(number);
        let (current, before) = (self.window(number), self.window(number + 1));
        let sent = |window: &Estimator| u64::try_from(window.get(key)).unwrap_or(u64::MAX);
        // The window before counts in proportion to its overlap with the window length that ends now.
        let share = u128::from(sent(before)) * u128::from(length - into) / u128::from(length);
        let estimate = u128::from(sent(current)) + share;
        if estimate < u128::from(rate.burst.get()) {
            current.incr(key, 1);
            return Verdict::Within;
        }
        Verdict::Over(Duration::from_nanos(rate.bucket().interval().max(length - into)))
    }

    fn window(&self, number: u64) -> &Estimator {
        &self.windows[usize::from(number % 2 == 1)]
    }

    /// Clears the windows that are over.
    fn turn_to(&self, number: u64) {
        if self.current.load(Ordering::Acquire) >= number {
            return;
        }
        let _turning = self.turning.lock();
        let current = self.current.load(Ordering::Relaxed);
        if current >= number {
            return;
        }
        self.window(number).reset();
        if number - current > 1 {
            self.window(number + 1).reset();
        }
        self.current.store(number, Ordering::Release);
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sketch")
    }
}
