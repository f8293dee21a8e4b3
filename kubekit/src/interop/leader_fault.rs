//! The sequence of faults in a test of elections, decided by a seed.

use std::time::Duration;

/// A fault of the leader, after which another candidate gets the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderFault {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT when another candidate leads.
    Stop,
    /// The network holds everything back until another candidate leads.
    Hang,
    /// Every connection is reset, until another candidate leads.
    Cut,
    /// Every write is refused with this status, until another candidate leads.
    Refuse(u16),
    /// It is asked to step down.
    StepDown,
}

/// One turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How long the leader leads before the fault.
    pub lead_time: Duration,
    /// The fault.
    pub fault: LeaderFault,
    /// How long the leader is stopped before the fault; it may lose the lock by that alone.
    pub pause: Option<Duration>,
    /// Which of the others is stopped meanwhile: the n-th, modulo their number.
    pub bystander: Option<usize>,
    /// Whether a leader that has died is started again before another candidate leads.
    pub back_at_once: bool,
}

/// An endless sequence of turns, decided by the seed.
pub fn turns(seed: u64, ttl: Duration) -> impl Iterator<Item = Turn> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || {
        // SIGTERM is the most frequent case in production, and the quickest to test.
        let fault = match random.u8(..12) {
            0..4 => LeaderFault::Terminate,
            4..6 => LeaderFault::Kill,
            6..8 => LeaderFault::Stop,
            8 => LeaderFault::Hang,
            9 => LeaderFault::Cut,
            10 => LeaderFault::Refuse(*random.choice(&[500, 503, 409, 401, 403, 429]).expect("there are some")),
            _ => LeaderFault::StepDown,
        };
        // Up to the end of the lease; a claim must have expired by then.
        let pause = ttl.mul_f64(random.f64());
        Turn {
            lead_time: ttl.mul_f64(random.f64() / 3.0),
            fault,
            pause: random.u8(..4).eq(&0).then_some(pause),
            bystander: random.u8(..3).eq(&0).then(|| random.usize(..16)),
            back_at_once: random.bool(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_and_everything_happens() {
        let ttl = Duration::from_secs(2);
        let take = |seed| turns(seed, ttl).take(200).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        let faults = [
            LeaderFault::Terminate,
            LeaderFault::Kill,
            LeaderFault::Stop,
            LeaderFault::Hang,
            LeaderFault::Cut,
            LeaderFault::Refuse(409),
            LeaderFault::StepDown,
        ];
        for fault in faults {
            assert!(take(1).iter().any(|turn| turn.fault == fault), "{fault:?}");
        }
        assert!(take(1).iter().any(|turn| turn.pause.is_some_and(|pause| pause < ttl)));
        assert!(take(1).iter().any(|turn| turn.bystander.is_some()));
    }
}
