//! The faults that the candidates of an election suffer, turn by turn: a sequence that a seed decides.

use std::time::Duration;

/// A fault of the leader, after which somebody else gets the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT when somebody else leads.
    Stop,
    /// The network loses everything, and brings it late when somebody else leads.
    Hang,
    /// Every connection is reset, until somebody else leads.
    Cut,
    /// Every write is refused with this status, until somebody else leads.
    Refuse(u16),
    /// It is asked to step down.
    StepDown,
}

/// One turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How long the leader leads before the fault.
    pub reign: Duration,
    /// The fault.
    pub blow: Blow,
    /// How long it is stopped before the fault; it may lose the lock by that alone.
    pub pause: Option<Duration>,
    /// Which of the others is stopped meanwhile: the n-th, modulo their number.
    pub bystander: Option<usize>,
    /// Whether a leader that has died is started again before somebody else leads.
    pub back_at_once: bool,
}

/// Turns without end, decided by the seed.
pub fn turns(seed: u64, ttl: Duration) -> impl Iterator<Item = Turn> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || {
        // The first is the likeliest in real life, and the quickest.
        let blow = match random.u8(..12) {
            0..4 => Blow::Terminate,
            4..6 => Blow::Kill,
            6..8 => Blow::Stop,
            8 => Blow::Hang,
            9 => Blow::Cut,
            10 => Blow::Refuse(*random.choice(&[500, 503, 409, 401, 403, 429]).expect("there are some")),
            _ => Blow::StepDown,
        };
        // Up to the end of the lease, by which a claim must have ended by itself.
        let pause = ttl.mul_f64(random.f64());
        Turn {
            reign: ttl.mul_f64(random.f64() / 3.0),
            blow,
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
        let blows = [Blow::Terminate, Blow::Kill, Blow::Stop, Blow::Hang, Blow::Cut, Blow::Refuse(409), Blow::StepDown];
        for blow in blows {
            assert!(take(1).iter().any(|turn| turn.blow == blow), "{blow:?}");
        }
        assert!(take(1).iter().any(|turn| turn.pause.is_some_and(|pause| pause < ttl)));
        assert!(take(1).iter().any(|turn| turn.bystander.is_some()));
    }
}
