//! Token buckets, which permit a burst and then a steady rate.
//!
//! The state of a bucket is one number, the time at which it will be full again (the generic cell rate algorithm), so that it fits
//! into an atomic as well as into a map. Nothing here reads the clock: times are nanoseconds since an origin that the owner of the
//! state chooses, and an unused bucket is 0.

use std::time::Duration;

/// The capacity of a kind of bucket, and the rate at which it is refilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// The time after which one token is added, in nanoseconds.
    interval: u64,
    /// The time in which an empty bucket gets all tokens but one, in nanoseconds.
    tolerance: u64,
}

// === impl TokenBucket ===

impl TokenBucket {
    /// Buckets that hold `burst` tokens and get one in each `interval`, which is at least a nanosecond.
    #[must_use]
    pub const fn new(interval: Duration, burst: u32) -> Self {
        let interval = if interval.is_zero() { 1 } else { nanoseconds(interval) };
        Self { interval, tolerance: interval.saturating_mul(burst.saturating_sub(1) as u64) }
    }

    /// Buckets that hold `burst` tokens and get `count` a second.
    #[must_use]
    pub const fn per_second(count: u32, burst: u32) -> Self {
        let count = if count == 0 { 1 } else { count };
        Self::new(Duration::from_nanos(1_000_000_000 / count as u64), burst)
    }

    /// The time after which one token is added, in nanoseconds.
    #[must_use]
    pub const fn interval(self) -> u64 {
        self.interval
    }

    /// Takes a token at `now` from a bucket that will be full at `full_at`. Returns the new time at which it will be full.
    ///
    /// # Errors
    /// The time until a token is available.
    pub fn take(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        match full_at.saturating_sub(now.saturating_add(self.tolerance)) {
            0 => Ok(full_at.max(now).saturating_add(self.interval)),
            too_early => Err(Duration::from_nanos(too_early)),
        }
    }

    /// Puts tokens back into a bucket, which never holds more than its burst.
    #[must_use]
    pub fn give(self, full_at: u64, tokens: u32) -> u64 {
        full_at.saturating_sub(self.interval.saturating_mul(u64::from(tokens)))
    }
}

/// A time in nanoseconds: 584 years at most.
#[must_use]
pub const fn nanoseconds(time: Duration) -> u64 {
    let nanoseconds = time.as_nanos();
    if nanoseconds > u64::MAX as u128 { u64::MAX } else { nanoseconds as u64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_at_once_then_one_in_each_interval_and_never_more_than_the_burst() {
        let (bucket, second) = (TokenBucket::per_second(2, 3), 1_000_000_000);
        let mut full_at = 0;
        let mut taken =
            |now| (0..100).take_while(|_| bucket.take(full_at, now).map(|then| full_at = then).is_ok()).count();
        assert_eq!(taken(0), 3);
        assert_eq!(taken(second / 2 - 1), 0);
        assert_eq!(taken(second / 2), 1);
        assert_eq!(taken(second), 1);
        assert_eq!(taken(100 * second), 3);
        assert_eq!(bucket.take(full_at, 100 * second), Err(Duration::from_millis(500)));
    }

    proptest! {
        /// Compared with a bucket that is filled and emptied token by token.
        #[test]
        fn it_behaves_like_a_bucket_that_counts_tokens(
            burst in 1..20_u32,
            steps in proptest::collection::vec((0..40_u64, prop_oneof![4 => Just(0_u32), 1 => 1..12_u32]), 0..200),
        ) {
            const INTERVAL: u64 = 10;
            let bucket = TokenBucket::new(Duration::from_nanos(INTERVAL), burst);
            let (mut full_at, mut now) = (0, 0);
            // In tenths of a token.
            let most = i64::from(burst) * 10;
            let mut left = most;
            for (passed, given) in steps {
                now += passed;
                left = (left + passed as i64 + i64::from(given) * 10).min(most);
                full_at = bucket.give(full_at, given);
                match bucket.take(full_at, now) {
                    Ok(then) => {
                        prop_assert!(left >= 10, "one was given of {left}");
                        left -= 10;
                        full_at = then;
                    }
                    Err(wait) => prop_assert_eq!(wait.as_nanos() as i64, 10 - left),
                }
            }
        }
    }
}
