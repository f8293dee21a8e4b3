//! Rate limits: `100/s,burst=200`, for each identity, else for each client address.
//!
//! Callers are counted exactly, with a token bucket each. Identities and addresses have separate maps of bounded size, so that a
//! flood of addresses cannot displace an identity. Callers beyond the bound are counted by estimates, whose memory does not grow
//! (`sketch`).

mod sketch;

use std::{
    fmt,
    hash::Hash,
    net::IpAddr,
    num::NonZeroU32,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::{DashMap, Entry};
use serde::{Serialize, Serializer};

use self::sketch::Sketch;
use crate::{
    identity::Identity,
    network::ClientNetwork,
    token_bucket::{TokenBucket, nanoseconds},
};

/// The most callers of one kind that are counted exactly.
const MAX_EXACT: usize = 64 * 1024;

/// Shortest interval between two removals of callers whose buckets are full again.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    per: Per,
    burst: NonZeroU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

/// The text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    /// Not of the form.
    #[error("{0:?} is not a rate: use for instance 100/s, 100/s,burst=200, 600/m or 1000/h")]
    Form(String),
    /// Not a number of requests.
    #[error("{0:?} is not a number of requests: use 1 to {max}", max = u32::MAX)]
    Number(String),
}

/// Limits each caller to a rate.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    began: Instant,
    identities: BoundedCounts<Identity>,
    addresses: BoundedCounts<ClientNetwork>,
}

/// Whether a request is within its caller's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Within,
    /// It is not; the next one is permitted after this time.
    Over(Duration),
}

/// Counts of callers of one kind.
#[derive(Debug)]
struct BoundedCounts<K: Eq + Hash> {
    /// When the bucket of each caller is full again, in nanoseconds since the limiter was created.
    full_at: DashMap<K, u64>,
    /// The number of entries.
    len: AtomicUsize,
    most: usize,
    swept: AtomicU64,
    /// Created when it is first needed.
    beyond: OnceLock<Sketch>,
}

// === impl Rate ===

impl Rate {
    /// The bucket of each caller.
    fn bucket(self) -> TokenBucket {
        let seconds: u64 = match self.per {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Hour => 3600,
        };
        let interval = Duration::from_nanos(seconds * 1_000_000_000 / u64::from(self.count.get()));
        TokenBucket::new(interval, self.burst.get())
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InvalidRate::Form(text.to_owned());
        let number = |digits: &str| {
            let number = digits.trim();
            let plain = number.bytes().all(|b| b.is_ascii_digit()).then_some(number);
            plain.and_then(|number| number.parse().ok()).ok_or_else(|| InvalidRate::Number(number.to_owned()))
        };
        let (rate, burst) = text.split_once(',').map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (count, per) = rate.split_once('/').ok_or_else(form)?;
        let per = match per.trim() {
            "s" => Per::Second,
            "m" => Per::Minute,
            "h" => Per::Hour,
            _ => return Err(form()),
        };
        let count = number(count)?;
        let burst = match burst {
            None => count,
            Some(burst) => number(burst.trim().strip_prefix("burst=").ok_or_else(form)?)?,
        };
        Ok(Self { count, per, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Second => 's',
            Per::Minute => 'm',
            Per::Hour => 'h',
        };
        write!(f, "{}/{per}", self.count)?;
        if self.burst == self.count { Ok(()) } else { write!(f, ",burst={}", self.burst) }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Limiter ===

impl Limiter {
    /// Limits callers to this rate from now on.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, began: now, identities: BoundedCounts::new(MAX_EXACT), addresses: BoundedCounts::new(MAX_EXACT) }
    }

    /// The rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Counts a request if it is within the caller's rate; a refused one is not counted.
    pub fn admit(&self, identity: Option<&Identity>, address: IpAddr, now: Instant) -> Verdict {
        let now = nanoseconds(now.saturating_duration_since(self.began));
        match identity {
            Some(identity) => self.identities.admit(identity.clone(), self.rate, now),
            None => self.addresses.admit(address.into(), self.rate, now),
        }
    }
}

impl Verdict {
    /// `Retry-After` in whole seconds, for a refused request.
    #[must_use]
    pub fn retry_after(self) -> Option<u64> {
        match self {
            Self::Within => None,
            Self::Over(wait) => Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
        }
    }

    fn of(decided: Result<u64, Duration>) -> Self {
        decided.map_or_else(Self::Over, |_| Self::Within)
    }
}

// === impl BoundedCounts ===

impl<K: Eq + Hash> BoundedCounts<K> {
    fn new(most: usize) -> Self {
        let (full_at, len, swept) = (DashMap::new(), AtomicUsize::new(0), AtomicU64::new(0));
        Self { full_at, len, most, swept, beyond: OnceLock::new() }
    }

    fn admit(&self, key: K, rate: Rate, now: u64) -> Verdict {
        if let Some(mut full_at) = self.full_at.get_mut(&key) {
            let decided = rate.bucket().take(*full_at, now);
            if let Ok(next) = decided {
                *full_at = next;
            }
            return Verdict::of(decided);
        }
        if self.len.load(Ordering::Relaxed) >= self.most {
            self.sweep(now);
        }
        if self.len.load(Ordering::Relaxed) >= self.most {
            return self.beyond.get_or_init(Sketch::new).admit(&key, rate, now);
        }
        match self.full_at.entry(key) {
            // Another thread inserted the entry meanwhile.
            Entry::Occupied(mut entry) => {
                let decided = rate.bucket().take(*entry.get(), now);
                if let Ok(next) = decided {
                    entry.insert(next);
                }
                Verdict::of(decided)
            }
            Entry::Vacant(entry) => {
                self.len.fetch_add(1, Ordering::Relaxed);
                let decided = rate.bucket().take(0, now);
                entry.insert(decided.unwrap_or(now));
                Verdict::of(decided)
            }
        }
    }

    /// Removes callers whose buckets are full, which are equal to new callers.
    fn sweep(&self, now: u64) {
        let last = self.swept.load(Ordering::Relaxed);
        let due = last.saturating_add(nanoseconds(SWEEP_INTERVAL));
        // The first sweep is always due.
        let is_due = last == 0 || now >= due;
        if !is_due || self.swept.compare_exchange(last, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        self.full_at.retain(|_, full_at| {
            let keep = *full_at > now;
            if !keep {
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests;
