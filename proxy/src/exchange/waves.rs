//! Waves: the legs begin in groups, in snapshot order; the next group once each leg of the former one is ok and the pause is over.
//! Where one is not, the rest is skipped, unless it is to go on.

use tokio::time::Instant;

use super::{Exchange, leg::Leg};
use crate::config::{OnFailure, Waves};

/// The progress of an exchange's waves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// None if all legs begin at once.
    waves: Option<Waves>,
    /// The first leg of the running wave.
    first: usize,
    /// The first leg of the next one.
    next: usize,
    /// When the next wave begins, once the running one is over.
    next_at: Option<Instant>,
}

// === impl Progress ===

impl Progress {
    /// The progress before the first wave.
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

    /// When the next wave begins, if known.
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

    /// Begins the next wave or skips the rest, if it is time. Returns whether a leg has changed.
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
                // The time-out of later legs begins with them.
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
