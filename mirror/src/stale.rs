//! What happens to a remote's mirrors while it is unavailable. Pure: the time that it has been unavailable is an argument.

use std::time::Duration;

use crate::config::Stale;

/// The verdict on a remote's mirrors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They stay as last known.
    #[default]
    AsKnown,
    /// They stay as last known, but without a ready endpoint.
    NotReady,
    /// They are deleted.
    Gone,
}

/// The verdict on a remote that has been unavailable for this time; `None`: it is available.
pub(crate) fn judge(policy: Stale, lost_after: Duration, away: Option<Duration>) -> Verdict {
    let Some(away) = away else { return Verdict::AsKnown };
    match policy {
        Stale::Ttl(ttl) if away >= ttl => Verdict::Gone,
        Stale::NotReady if away >= lost_after => Verdict::NotReady,
        Stale::Delete if away >= lost_after => Verdict::Gone,
        Stale::Keep | Stale::Ttl(_) | Stale::NotReady | Stale::Delete => Verdict::AsKnown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Duration = Duration::from_secs(30);

    #[test]
    fn each_policy_has_its_moment() {
        let after = |policy, seconds| judge(policy, LOST, Some(Duration::from_secs(seconds)));
        assert_eq!(after(Stale::Keep, 1_000_000), Verdict::AsKnown);
        assert_eq!((after(Stale::NotReady, 29), after(Stale::NotReady, 30)), (Verdict::AsKnown, Verdict::NotReady));
        assert_eq!((after(Stale::Delete, 29), after(Stale::Delete, 30)), (Verdict::AsKnown, Verdict::Gone));
        let ttl = Stale::Ttl(Duration::from_secs(600));
        assert_eq!((after(ttl, 599), after(ttl, 600)), (Verdict::AsKnown, Verdict::Gone));
    }

    #[test]
    fn a_remote_that_is_there_is_believed_under_every_policy() {
        for policy in [Stale::Keep, Stale::Ttl(Duration::ZERO), Stale::NotReady, Stale::Delete] {
            assert_eq!(judge(policy, Duration::ZERO, None), Verdict::AsKnown);
        }
    }
}
