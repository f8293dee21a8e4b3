//! The least speed of a client, in sending a body and in reading an answer: the longest pause, and the least average rate over the
//! time in which it is waited for.

use std::time::Duration;

use tokio::time::Instant;

/// The total time of waiting for a client before its average rate counts.
pub const GRACE: Duration = Duration::from_secs(10);

/// The least speed of a client.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The longest pause.
    pub idle: Duration,
    /// The least average of bytes a second, after [`GRACE`]; 0 means no limit.
    pub rate: u64,
}

/// How a client was too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// It paused for longer than this.
    Idle(Duration),
    /// It moved fewer bytes in a second than this.
    Rate(u64),
}

/// The accumulated time of waiting for a client. Other time does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
    before: Duration,
}

// === impl Pace ===

impl Pace {
    /// The least speed of a client without a request.
    pub const UNKNOWN: Self = Self { idle: Duration::from_secs(30), rate: 1024 };
}

// === impl Patience ===

impl Patience {
    /// Begins to wait for the client, unless already waiting.
    pub fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Ends the wait.
    pub fn end(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.before += now.saturating_duration_since(since);
        }
    }

    /// Whether it is being waited for.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it ever was.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.is_waiting() || self.before > Duration::ZERO
    }

    /// When a client that has moved this number of bytes will have been too slow; none if it is not waited for.
    #[must_use]
    pub fn due(&self, pace: Pace, moved: u64) -> Option<Instant> {
        let since = self.since?;
        let left = allowance(pace.rate, moved).map_or(pace.idle, |all| all.saturating_sub(self.before).min(pace.idle));
        Some(since + left)
    }

    /// How it was too slow, if it was.
    #[must_use]
    pub fn slow(&self, pace: Pace, moved: u64, now: Instant) -> Option<Slow> {
        let since = self.since?;
        match self.due(pace, moved) {
            Some(due) if now >= due && now >= since + pace.idle => Some(Slow::Idle(pace.idle)),
            Some(due) if now >= due => Some(Slow::Rate(pace.rate)),
            _ => None,
        }
    }
}

/// The longest total time for this number of bytes; none without a limit.
fn allowance(rate: u64, moved: u64) -> Option<Duration> {
    (rate > 0).then(|| {
        let (seconds, rest) = (moved / rate, moved % rate);
        // Below one second, whatever the numbers.
        let nanos = u128::from(rest) * 1_000_000_000 / u128::from(rate);
        (Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))).max(GRACE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pause_is_too_long_by_itself() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        let pace = Pace { idle: SECOND * 3, rate: 0 };
        assert_eq!((patience.due(pace, 0), patience.slow(pace, 0, now + SECOND * 9)), (None, None), "not waited for");
        patience.begin(now);
        patience.begin(now + SECOND);
        assert_eq!(patience.due(pace, 0), Some(now + SECOND * 3));
        assert_eq!(patience.slow(pace, 0, now + SECOND * 2), None);
        assert_eq!(patience.slow(pace, 0, now + SECOND * 3), Some(Slow::Idle(SECOND * 3)));
        patience.end(now + SECOND * 2);
        patience.begin(now + SECOND * 2);
        assert_eq!(patience.due(pace, 0), Some(now + SECOND * 5), "each pause counts for itself");
    }

    #[test]
    fn the_average_counts_after_the_first_ten_seconds_of_waiting() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let pace = Pace { idle: SECOND * 30, rate: 1024 };
        // 100 bytes a second.
        for second in 0..10 {
            patience.begin(now);
            assert_eq!(patience.slow(pace, second * 100, now), None, "after {second} s");
            now += SECOND;
            patience.end(now);
            now += SECOND * 100;
        }
        patience.begin(now);
        assert_eq!(
            patience.slow(pace, 1000, now),
            Some(Slow::Rate(1024)),
            "while it was not waited for does not count"
        );
        assert_eq!(patience.slow(pace, 10 * 1024 + 512, now), None, "that is more than the rate");
        assert_eq!(patience.due(pace, 10 * 1024 + 512), Some(now + SECOND / 2));
        assert_eq!(patience.slow(Pace { rate: 0, ..pace }, 0, now), None);
    }

    #[test]
    fn no_number_is_too_large() {
        assert_eq!(allowance(1, u64::MAX), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(allowance(u64::MAX, u64::MAX - 1), Some(GRACE));
        assert_eq!(allowance(0, 1), None);
    }
}
