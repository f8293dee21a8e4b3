//! Identifiers of jobs, which are ordered by arrival, within a process and across restarts.

use crate::Millis;

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

/// The bits of an identifier below the millisecond.
const LOW_BITS: u32 = 18;
/// The random bits of a process among them, so that concurrent processes give different identifiers.
const SALT_BITS: u32 = 10;

/// The identifier of a job. A later arrival has a greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u64);

/// Generates identifiers, each greater than all before it. Every request writes it, so what others read is not beside it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Ids {
    last: AtomicU64,
    salt: u64,
}

/// The text is not the id of a job.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the id of a job: 16 hexadecimal digits are expected")]
pub struct NotAnId(String);

impl JobId {
    /// Before every job.
    pub(crate) const FIRST: Self = Self(0);
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// The identifier with this number.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for JobId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or_else(|| NotAnId(text.chars().take(40).collect()))
    }
}

impl Ids {
    /// A generator without earlier identifiers. `salt` should be random.
    #[must_use]
    pub fn new(salt: u64) -> Self {
        Self { last: AtomicU64::new(0), salt: salt & ((1 << SALT_BITS) - 1) }
    }

    /// The next identifier.
    pub fn next(&self, now: Millis) -> JobId {
        let floor = (now << LOW_BITS) | self.salt;
        let mut next = 0;
        let _ = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            next = floor.max(last.saturating_add(1));
            Some(next)
        });
        JobId(next)
    }

    /// Continues after an identifier of the journal.
    pub fn after(&self, id: JobId) {
        self.last.fetch_max(id.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_arrival_has_a_greater_id_also_when_the_clock_goes_back() {
        let ids = Ids::new(7);
        let first = ids.next(1_000);
        assert!(ids.next(1_000) > first);
        assert!(ids.next(10) > first);
        ids.after(JobId::new(u64::MAX - 5));
        assert_eq!(ids.next(1_000), JobId::new(u64::MAX - 4));
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = Ids::new(3).next(1_790_000_000_000);
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        for wrong in ["", "12", "+000000000000001", "zzzzzzzzzzzzzzzz", "00000000000000001"] {
            assert!(wrong.parse::<JobId>().is_err(), "{wrong}");
        }
    }
}
