//! How the legs to an endpoint ended: numbers that go on while it is the same pod, whatever becomes of the way to it.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::outcome::Outcome;

/// How many recent outcomes a target remembers.
const RECENT_OUTCOMES: usize = 8;

/// Legs by how they ended. Nothing is kept until one has, or until they are shared.
#[derive(Debug, Default)]
pub struct LegCounts(OnceLock<Arc<Ended>>);

#[derive(Debug)]
struct Ended {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    recent: [AtomicU64; RECENT_OUTCOMES],
    recorded: AtomicUsize,
    /// What the times of the recent outcomes count from.
    made: Instant,
}

/// How one leg ended, as `/-/endpoints` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Recent {
    /// Unix time in seconds.
    pub at: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The status of the response, 0 without one.
    pub status: u16,
}

impl LegCounts {
    /// The same numbers for another target.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(OnceLock::from(self.made(Instant::now()).clone()))
    }

    /// Whether both are the same numbers, or nothing is kept of either.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.address() == other.address()
    }

    /// Tells numbers that are shared from others; none if nothing is kept.
    #[must_use]
    pub fn address(&self) -> Option<*const ()> {
        self.0.get().map(|ended| Arc::as_ptr(ended).cast())
    }

    fn made(&self, now: Instant) -> &Arc<Ended> {
        self.0.get_or_init(|| {
            let (outcomes, recent, recorded) = Default::default();
            Arc::new(Ended { outcomes, recent, recorded, made: now })
        })
    }

    /// Legs that ended so.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.0.get().map_or(0, |ended| ended.outcomes[outcome as usize].load(Ordering::Relaxed))
    }

    /// Counts how a leg ended, and when.
    pub fn record(&self, outcome: Outcome, status: Option<u16>, now: Instant) {
        let ended = self.made(now);
        ended.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        let at = millis(now.saturating_duration_since(ended.made));
        let packed = (at << 24) | (u64::from(status.unwrap_or(0)) << 8) | (outcome as u64 + 1);
        // No addition that is one for all threads: two at once may take the same slot, of which the later one is left.
        let recorded = ended.recorded.load(Ordering::Relaxed);
        ended.recorded.store(recorded.wrapping_add(1), Ordering::Relaxed);
        ended.recent[recorded % RECENT_OUTCOMES].store(packed, Ordering::Relaxed);
    }

    /// How the last legs ended, the latest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Recent> {
        let Some(ended) = self.0.get() else { return Vec::new() };
        let recorded = ended.recorded.load(Ordering::Relaxed);
        // Only who asks has to know what time of day that was.
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let made = millis(today.saturating_sub(ended.made.elapsed()));
        let slots = (0..RECENT_OUTCOMES.min(recorded))
            .map(|back| ended.recent[(recorded - 1 - back) % RECENT_OUTCOMES].load(Ordering::Relaxed));
        slots
            .filter_map(|packed| {
                let outcome = *Outcome::ALL.get(usize::try_from(packed & 0xff).ok()?.checked_sub(1)?)?;
                Some(Recent { at: (made + (packed >> 24)) / 1000, outcome, status: (packed >> 8 & 0xffff) as u16 })
            })
            .collect()
    }
}

/// Milliseconds; of centuries, far fewer than 2^40.
fn millis(duration: Duration) -> u64 {
    duration.as_secs() * 1000 + u64::from(duration.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_outcomes_come_latest_first_and_are_bounded() {
        let counts = LegCounts::default();
        for status in 0..20 {
            counts.record(Outcome::ServerError, Some(500 + status), Instant::now());
        }
        counts.record(Outcome::Connect, None, Instant::now());
        let recent = counts.recent();
        assert_eq!(recent.len(), RECENT_OUTCOMES);
        assert_eq!((recent[0].outcome, recent[0].status), (Outcome::Connect, 0));
        assert_eq!((recent[1].outcome, recent[1].status), (Outcome::ServerError, 519));
        assert_eq!(counts.ended(Outcome::ServerError), 20);
    }
}
