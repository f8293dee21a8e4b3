//! The clock that goes on while the machine is suspended (`CLOCK_BOOTTIME`).
//!
//! `std::time::Instant` and tokio's timers stop while a machine or a virtual machine is suspended: what is valid until a moment on
//! those clocks would be valid for too long.

use std::{
    future::{Future, poll_fn},
    ops::{Add, Sub},
    pin::pin,
    task::{Poll, ready},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep};

/// The longest sleep of [`sleep_until`] between two looks at the clock, and so how late it may be after the machine was suspended.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// A moment on `CLOCK_BOOTTIME` (`clock_gettime(2)`), which all processes of a machine share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(Duration);

impl BootTime {
    /// The current time.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // It counts up from 0, so that neither part is ever negative.
        Self(Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default()))
    }

    /// The moment this long after boot.
    #[must_use]
    pub const fn since_boot(duration: Duration) -> Self {
        Self(duration)
    }

    /// How long after boot this moment is.
    #[must_use]
    pub const fn elapsed_since_boot(self) -> Duration {
        self.0
    }

    /// How long after `earlier` this is; nothing if it is before.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    /// Saturates at the latest moment.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub<Duration> for BootTime {
    type Output = Self;

    /// Saturates at boot.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

/// Sleeps until this moment. The clock is read at every poll, so that whatever wakes the task after the machine was suspended or
/// the process was stopped finds the sleep ended. Where nothing else wakes it, it may be late by a quarter of a second.
pub async fn sleep_until(moment: BootTime) {
    let mut nap = pin!(sleep(Duration::ZERO));
    poll_fn(|context| {
        loop {
            let left = moment.saturating_since(BootTime::now());
            if left.is_zero() {
                return Poll::Ready(());
            }
            ready!(nap.as_mut().poll(context));
            nap.as_mut().reset(Instant::now() + left.min(LONGEST_SLEEP));
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back_and_counts_no_less_than_the_monotonic_clock() {
        let (before, instant) = (BootTime::now(), std::time::Instant::now());
        std::thread::yield_now();
        let (monotonic, after) = (instant.elapsed(), BootTime::now());
        assert!(after.saturating_since(before) >= monotonic);
        assert_eq!(before.saturating_since(after + Duration::from_nanos(1)), Duration::ZERO);
    }

    #[test]
    fn neither_end_of_the_clock_panics() {
        let end = BootTime::since_boot(Duration::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(BootTime::default() - Duration::from_secs(1), BootTime::default());
    }

    #[tokio::test]
    async fn sleeping_ends_at_the_moment_and_not_before() {
        let moment = BootTime::now() + Duration::from_millis(300);
        sleep_until(moment).await;
        assert!(BootTime::now() >= moment);
    }
}
