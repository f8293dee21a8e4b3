//! The configuration of one candidate: lock, identity and three periods, checked.

use std::{fmt, str::FromStr, time::Duration};

/// The jitter of client-go: a period is stretched by up to this factor.
pub(super) const JITTER: f64 = 1.2;
/// The shortest lease: a shorter one would leave too little time to renew a claim.
const MIN_LEASE: Duration = Duration::from_secs(2);
/// The longest lease: the limit of `leaseDurationSeconds` (int32).
const MAX_LEASE: Duration = Duration::from_secs(i32::MAX as u64);
/// The least time by which a claim ends before the lease, because some locks have times in whole seconds.
const CLAIM_MARGIN: Duration = Duration::from_secs(1);

/// One candidate in one election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The lock's name, which is the election's.
    pub name: String,
    /// The lock's namespace.
    pub namespace: String,
    /// The kind of lock.
    pub lock: LockKind,
    /// The candidate's name in the lock. If another process uses the same identity, the leader changes more often, but there are
    /// never two.
    pub identity: String,
    /// The periods.
    pub timing: Timing,
}

/// The kind of object, or of two objects, that hold the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// A Lease (`coordination.k8s.io/v1`).
    #[default]
    Leases,
    /// An annotation of a ConfigMap.
    ConfigMaps,
    /// An annotation of a v1 Endpoints object.
    Endpoints,
    /// A ConfigMap and a Lease, for a fleet that migrates from one to the other.
    ConfigMapsLeases,
    /// An Endpoints object and a Lease, likewise.
    EndpointsLeases,
}

/// Lease duration, renew deadline and retry period, in such proportions that a claim can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew: Duration,
    retry: Duration,
}

/// Why a configuration is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no name.
    #[error("the election has no name: give the lock one")]
    NoName,
    /// There is no namespace.
    #[error("election {0}: the lock has no namespace")]
    NoNamespace(String),
    /// There is no identity.
    #[error(
        "election {0}: the candidate has no identity: give it one that no other candidate has, such as its pod's name"
    )]
    NoIdentity(String),
    /// It is reserved, because client-go uses it for two locks with different holders.
    #[error("election {0}: the identity {UNKNOWN} is reserved: choose another one")]
    Reserved(String),
}

/// Why periods do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The lease is too short to be kept safely.
    #[error("a ttl or lease duration of {0:?} is too short: it must be 2s or more")]
    TooShort(Duration),
    /// The lease is longer than the lock can express.
    #[error("a ttl or lease duration of {0:?} is too long: it must be at most 2147483647s")]
    TooLong(Duration),
    /// As client-go has it.
    #[error("the renew deadline ({renew:?}) must be shorter than the lease duration ({lease:?})")]
    Renew {
        /// The lease duration.
        lease: Duration,
        /// The renew deadline.
        renew: Duration,
    },
    /// As client-go has it.
    #[error(
        "the retry period ({retry:?}) must be above zero, and 1.2 times it shorter than the renew deadline ({renew:?})"
    )]
    Retry {
        /// The renew deadline.
        renew: Duration,
        /// The retry period.
        retry: Duration,
    },
    /// A claim would end before it is renewed.
    #[error(
        "with a lease duration of {lease:?} a claim lasts {claim:?}, and 1.2 times the retry period ({retry:?}) must be shorter"
    )]
    Claim {
        /// The lease duration.
        lease: Duration,
        /// The duration of a claim.
        claim: Duration,
        /// The retry period.
        retry: Duration,
    },
}

/// The text is not a kind of lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of lock: use leases, configmaps, endpoints, configmapsleases or endpointsleases")]
pub struct LockKindError(String);

/// The reported holder of two locks with different holders, as in client-go.
pub const UNKNOWN: &str = "leaderelection.k8s.io/unknown";

// === impl Config ===

impl Config {
    /// Checks that all names are set.
    ///
    /// # Errors
    /// [`ConfigError`], the first one.
    pub fn check(&self) -> Result<(), ConfigError> {
        let name = || self.name.clone();
        match self {
            Self { name, .. } if name.is_empty() => Err(ConfigError::NoName),
            Self { namespace, .. } if namespace.is_empty() => Err(ConfigError::NoNamespace(name())),
            Self { identity, .. } if identity.is_empty() => Err(ConfigError::NoIdentity(name())),
            Self { identity, .. } if identity == UNKNOWN => Err(ConfigError::Reserved(name())),
            _ => Ok(()),
        }
    }
}

// === impl Timing ===

impl Timing {
    /// The periods for a ttl: the lease is the ttl, the renew deadline a third of it, the retry period a sixth. A ttl is rounded up
    /// to whole seconds, the resolution of locks.
    ///
    /// # Errors
    /// [`TimingError`] if the rounded ttl is below 2 s or beyond the limit of a lock.
    pub fn from_ttl(ttl: Duration) -> Result<Self, TimingError> {
        let lease = whole_seconds(ttl);
        Self::new(lease, lease / 3, lease / 6)
    }

    /// Periods that are given one by one. The lease duration is rounded up to whole seconds.
    ///
    /// # Errors
    /// [`TimingError`].
    pub fn new(lease: Duration, renew: Duration, retry: Duration) -> Result<Self, TimingError> {
        let lease = whole_seconds(lease);
        if lease < MIN_LEASE {
            return Err(TimingError::TooShort(lease));
        }
        if lease > MAX_LEASE {
            return Err(TimingError::TooLong(lease));
        }
        if renew >= lease {
            return Err(TimingError::Renew { lease, renew });
        }
        if retry.is_zero() || retry.mul_f64(JITTER) >= renew {
            return Err(TimingError::Retry { renew, retry });
        }
        let timing = Self { lease, renew, retry };
        let claim = timing.claim();
        if retry.mul_f64(JITTER) >= claim {
            return Err(TimingError::Claim { lease, claim, retry });
        }
        Ok(timing)
    }

    /// The time for which a record is valid without a renewal, in whole seconds.
    #[must_use]
    pub fn lease(self) -> Duration {
        self.lease
    }

    /// The time for which a leader keeps trying to renew.
    #[must_use]
    pub fn renew_deadline(self) -> Duration {
        self.renew
    }

    /// The time between two renewals of a leader. Other candidates wait 1 to 2.2 times as long between attempts.
    #[must_use]
    pub fn retry_period(self) -> Duration {
        self.retry
    }

    /// The duration of a claim from the moment at which its write was sent. Rule: the sum of retry period and renew deadline, but
    /// never the last second plus the last tenth of the lease, which allow for whole seconds and for clocks that run at different
    /// rates.
    #[must_use]
    pub fn claim(self) -> Duration {
        (self.retry + self.renew).min(self.lease.saturating_sub(CLAIM_MARGIN + self.lease / 10))
    }

    /// The time after that moment during which nobody else can lead, even with a clock that is faster by a tenth. All work of the
    /// leader must have ended by then. It is a second less if renewals follow each other within a second, because client-go cannot
    /// distinguish them. For a ttl of 2 s no time is left after the end of a claim.
    #[must_use]
    pub fn exclusive(self) -> Duration {
        let unseen = if self.retry < CLAIM_MARGIN { CLAIM_MARGIN } else { Duration::ZERO };
        self.lease - self.lease / 10 - unseen
    }

    /// The tolerated difference of clocks over a lease.
    pub(super) fn skew(self) -> Duration {
        self.lease / 10
    }

    /// The time limit of one request. Rule: half the renew deadline, also while acquiring.
    #[must_use]
    pub fn request(self) -> Duration {
        self.renew / 2
    }

    /// The value for the record.
    pub(super) fn lease_seconds(self) -> i64 {
        i64::try_from(self.lease.as_secs()).unwrap_or(i32::MAX.into())
    }
}

fn whole_seconds(duration: Duration) -> Duration {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    Duration::from_secs(seconds)
}

// === impl LockKind ===

impl LockKind {
    /// Its name on the command line, which is that of client-go.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leases => "leases",
            Self::ConfigMaps => "configmaps",
            Self::Endpoints => "endpoints",
            Self::ConfigMapsLeases => "configmapsleases",
            Self::EndpointsLeases => "endpointsleases",
        }
    }
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LockKind {
    type Err = LockKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Leases, Self::ConfigMaps, Self::Endpoints, Self::ConfigMapsLeases, Self::EndpointsLeases];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| LockKindError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_ttl_is_rounded_up_to_whole_seconds_and_refused_below_two() {
        for (ttl, lease) in [(1_001, 2), (2_000, 2), (2_001, 3), (9_999, 10), (10_000, 10)] {
            let timing = Timing::from_ttl(ms(ttl)).expect("long enough");
            assert_eq!(timing.lease(), Duration::from_secs(lease), "{ttl}");
        }
        for ttl in [0, 1, 999, 1_000] {
            assert!(matches!(Timing::from_ttl(ms(ttl)), Err(TimingError::TooShort(_))), "{ttl}");
        }
        assert!(matches!(Timing::from_ttl(Duration::MAX), Err(TimingError::TooLong(_))));
        let timing = Timing::from_ttl(ms(10_000)).expect("long enough");
        assert_eq!((timing.renew_deadline(), timing.retry_period()), (ms(10_000) / 3, ms(10_000) / 6));
        assert_eq!(timing.request(), ms(10_000) / 3 / 2);
    }

    #[test]
    fn a_claim_ends_after_retry_period_and_renew_deadline_but_well_before_the_lease() {
        let timing = |lease, renew, retry| Timing::new(ms(lease), ms(renew), ms(retry)).expect("they fit");
        assert_eq!(timing(15_000, 10_000, 2_000).claim(), ms(12_000), "the first is shorter");
        assert_eq!(timing(15_000, 14_000, 2_000).claim(), ms(12_500), "the second is shorter");
        assert_eq!(Timing::from_ttl(ms(2_000)).expect("just long enough").claim(), ms(800));
        assert_eq!(timing(15_000, 10_000, 2_000).exclusive(), ms(13_500));
        assert_eq!(timing(15_000, 10_000, 999).exclusive(), ms(12_500));
        for seconds in 2..200 {
            let timing = Timing::from_ttl(Duration::from_secs(seconds)).expect("long enough");
            assert!(timing.claim() + timing.lease() / 10 + CLAIM_MARGIN <= timing.lease(), "{seconds}");
            assert!(timing.claim() <= timing.exclusive() && timing.exclusive() < timing.lease(), "{seconds}");
        }
    }

    #[test]
    fn every_ttl_leaves_time_to_renew() {
        for seconds in 2..10_000 {
            Timing::from_ttl(Duration::from_secs(seconds)).unwrap_or_else(|e| panic!("{seconds} s: {e}"));
        }
    }

    #[test]
    fn the_inequalities_of_client_go_hold_and_one_more() {
        let refused = |lease, renew, retry| Timing::new(ms(lease), ms(renew), ms(retry)).expect_err("refused");
        assert!(matches!(refused(10_000, 10_000, 2_000), TimingError::Renew { .. }));
        assert!(matches!(refused(10_000, 11_000, 2_000), TimingError::Renew { .. }));
        assert!(matches!(refused(15_000, 2_400, 2_000), TimingError::Retry { .. }), "equal is not longer");
        assert!(Timing::new(ms(15_000), ms(2_401), ms(2_000)).is_ok());
        assert!(matches!(refused(15_000, 10_000, 0), TimingError::Retry { .. }));
        assert!(matches!(refused(0, 10_000, 2_000), TimingError::TooShort(_)));
        assert!(matches!(refused(2_000, 1_900, 1_500), TimingError::Claim { .. }));
    }

    #[test]
    fn the_lock_and_the_candidate_must_be_named() {
        let good = Config {
            name: "example".into(),
            namespace: "default".into(),
            lock: LockKind::Leases,
            identity: "a".into(),
            timing: Timing::from_ttl(ms(10_000)).expect("long enough"),
        };
        assert_eq!(good.check(), Ok(()));
        assert_eq!(Config { name: String::new(), ..good.clone() }.check(), Err(ConfigError::NoName));
        let nowhere = Config { namespace: String::new(), ..good.clone() };
        assert_eq!(nowhere.check(), Err(ConfigError::NoNamespace("example".into())));
        let nobody = Config { identity: String::new(), ..good.clone() };
        assert_eq!(nobody.check(), Err(ConfigError::NoIdentity("example".into())));
        let reserved = Config { identity: UNKNOWN.into(), ..good };
        assert_eq!(reserved.check(), Err(ConfigError::Reserved("example".into())));
    }

    #[test]
    fn kinds_of_lock_are_read_as_they_are_written() {
        for text in ["leases", "configmaps", "endpoints", "configmapsleases", "endpointsleases"] {
            assert_eq!(text.parse::<LockKind>().map(LockKind::as_str), Ok(text));
        }
        assert!("Leases".parse::<LockKind>().expect_err("none").to_string().contains("configmapsleases"));
        assert_eq!(LockKind::default(), LockKind::Leases);
    }
}
