//! Waves: the legs begin in groups, in snapshot order; the next group once each leg of the former one is ok and the pause is over.
//! Where one is not, the rest is skipped, unless it is to go on.

use tokio::time::Instant;

use super::{Exchange, leg::Leg};
use crate::config::{OnFailure, Waves};

/// How far the waves of an exchange have got.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// None where all legs begin at once.
    waves: Option<Waves>,
    /// The first leg of the wave that runs.
    first: usize,
    /// The first leg of the next one.
    next: usize,
    /// When that begins, once the one that runs is over.
    next_at: Option<Instant>,
}

// === impl Progress ===

impl Progress {
    /// So many legs are to begin.
    pub(super) fn new(waves: Option<Waves>, total: usize) -> Self {
        let next = waves.map_or(total, |waves| waves.size.of(total).min(total));
        Self { waves, first: 0, next, next_at: None }
    }

    /// Whether a leg begins with the first wave.
    pub(super) fn is_first(&self, index: usize) -> bool {
        index < self.next
    }

    /// The first leg that has not begun yet.
    pub(super) fn begun(&self) -> usize {
        self.next
    }

    /// When the next wave begins, where that is known.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next_at
    }
}

// === impl Exchange ===

impl Exchange {
    /// Whether legs wait for their wave.
    pub(super) fn has_waves_to_come(&self) -> bool {
        self.waves.next < self.legs.len()
    }

    /// Begins the next wave or skips the rest, where it is time; whether some leg has changed.
    pub(super) fn advance_waves(&mut self, now: Instant) -> bool {
        let Some(waves) = self.waves.waves else { return false };
        let legs: &[Leg] = &self.legs;
        let wave = &legs[self.waves.first..self.waves.next];
        let due = match self.waves.next_at {
            Some(due) => due,
            None if wave.iter().any(|leg| leg.counted().is_none()) => return false,
            None => {
                let is_ok = |leg: &Leg| leg.counted() == Some(true);
                if waves.on_failure == OnFailure::Stop && !wave.iter().all(is_ok) {
                    self.skip_rest(now);
                    return true;
                }
                let due = now + waves.pause;
                // The time of the legs to come begins with them.
                (self.waves.next_at, self.deadline) = (Some(due), Some(due + self.total));
                due
            }
        };
        if now < due {
            return false;
        }
        self.begin_wave(waves, now);
        true
    }

    fn begin_wave(&mut self, waves: Waves, now: Instant) {
        let (first, total) = (self.waves.next, self.legs.len());
        self.waves = Progress { first, next: (first + waves.size.of(total)).min(total), next_at: None, ..self.waves };
        self.total = self.time_left(now);
        self.deadline = Some(now + self.total);
        for index in first..self.waves.next {
            if self.legs[index].result().is_none() {
                self.legs.get_mut(index).start(&self.terms, self.cap, now);
            }
            self.wakers.flag(index);
        }
    }

    fn skip_rest(&mut self, now: Instant) {
        let rest = self.waves.next..self.legs.len();
        self.waves.next = self.legs.len();
        for index in rest {
            if self.legs[index].result().is_none() {
                self.legs.get_mut(index).skip("an endpoint of an earlier wave was not ok", now);
                self.settle(index);
            }
        }
    }
}
