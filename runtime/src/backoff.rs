//! The one policy for delays between retries: exponential, jittered, capped, endless, reset by success.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// How long to wait before each retry. The n-th delay is drawn evenly from the upper half of `min(cap, base * factor^n)`, so that
/// many processes that failed together do not come back together, and none comes back at once.
#[derive(Debug)]
pub struct Backoff {
    policy: ExponentialBuilder,
    delays: ExponentialBackoff,
    cap: Duration,
}

impl Backoff {
    /// A policy whose first delay is at most `base`, each next one at most `factor` times longer, none above `cap`. A factor
    /// below 1 (or not a number) counts as 1, a cap below the base as the base.
    #[must_use]
    pub fn new(base: Duration, factor: f64, cap: Duration) -> Self {
        let cap = cap.max(base);
        let factor = if factor >= 1.0 { factor } else { 1.0 };
        // The library's jitter adds up to the whole delay, so that half of each delay is given to it.
        let policy = ExponentialBuilder::new()
            .with_min_delay(base / 2)
            .with_factor(factor as f32)
            .with_max_delay(cap / 2)
            .without_max_times()
            .with_jitter();
        Self { policy, delays: policy.build(), cap }
    }

    /// The delay before the next retry. There is always one more.
    pub fn next_delay(&mut self) -> Duration {
        // The library computes with f32, which may round up.
        self.delays.next().map_or(self.cap, |delay| delay.min(self.cap))
    }

    /// Starts over from the base: call it after a success.
    pub fn reset(&mut self) {
        self.delays = self.policy.build();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn grows_to_the_cap_and_starts_over_after_success() {
        let mut backoff = Backoff::new(BASE, 2.0, CAP);
        let ceilings = [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Duration::from_millis);
        for ceiling in ceilings {
            let delay = backoff.next_delay();
            assert!(delay >= ceiling / 2 && delay <= ceiling, "{delay:?} is not within {ceiling:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= BASE);
    }

    #[test]
    fn processes_that_failed_together_do_not_come_back_together() {
        let delays = || {
            let mut backoff = Backoff::new(BASE, 2.0, CAP);
            [(); 20].map(|()| backoff.next_delay())
        };
        assert_ne!(delays(), delays());
    }

    proptest! {
        #[test]
        fn never_above_the_cap_whatever_the_numbers(base: u32, factor: f64, cap: u32) {
            let (base, cap) = (Duration::from_micros(base.into()), Duration::from_micros(cap.into()));
            let mut backoff = Backoff::new(base, factor, cap);
            for _retry in 0..200 {
                prop_assert!(backoff.next_delay() <= cap.max(base));
            }
        }
    }
}
