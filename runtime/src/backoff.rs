//! The one retry delay policy: exponential, jittered, capped, endless, reset by success.

use std::time::Duration;

/// How long to wait before each retry. The n-th delay is drawn evenly from the upper half of `min(cap, base * factor^n)`, so that
/// many processes that failed together do not come back together, and none comes back at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    factor: f64,
    cap: Duration,
    ceiling: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    /// A policy whose first delay is at most `base`, each next one at most `factor` times longer, none above `cap`. A factor
    /// below 1 (or not a number) counts as 1, a cap below the base as the base.
    #[must_use]
    pub fn new(base: Duration, factor: f64, cap: Duration) -> Self {
        Self::build(base, factor, cap, fastrand::Rng::new())
    }

    /// The same with a fixed seed: equal seeds give equal delays.
    #[must_use]
    pub fn with_seed(base: Duration, factor: f64, cap: Duration, seed: u64) -> Self {
        Self::build(base, factor, cap, fastrand::Rng::with_seed(seed))
    }

    fn build(base: Duration, factor: f64, cap: Duration, rng: fastrand::Rng) -> Self {
        let factor = if factor >= 1.0 { factor } else { 1.0 };
        Self { base, factor, cap: cap.max(base), ceiling: base, rng }
    }

    /// The delay before the next retry. There is always one more.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling;
        // An overflow of the product means far beyond any cap.
        self.ceiling =
            Duration::try_from_secs_f64(ceiling.as_secs_f64() * self.factor).unwrap_or(self.cap).min(self.cap);
        ceiling.mul_f64(0.5 + 0.5 * self.rng.f64())
    }

    /// Starts over from the base: call it after a success.
    pub fn reset(&mut self) {
        self.ceiling = self.base;
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_delay())
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
        let mut backoff = Backoff::with_seed(BASE, 2.0, CAP, 7);
        let ceilings = [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(Duration::from_millis);
        for ceiling in ceilings {
            let delay = backoff.next_delay();
            assert!(delay >= ceiling / 2 && delay <= ceiling, "{delay:?} is not within {ceiling:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= BASE);
    }

    #[test]
    fn equal_seeds_give_equal_delays_and_others_do_not() {
        let delays = |seed| Backoff::with_seed(BASE, 2.0, CAP, seed).take(20).collect::<Vec<_>>();
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }

    proptest! {
        #[test]
        fn never_above_the_cap_whatever_the_numbers(base: u32, factor: f64, cap: u32, seed: u64) {
            let (base, cap) = (Duration::from_micros(base.into()), Duration::from_micros(cap.into()));
            for delay in Backoff::with_seed(base, factor, cap, seed).take(200) {
                prop_assert!(delay <= cap.max(base));
            }
        }
    }
}
