//! The policy as a pure state machine: outcomes in, a decision out. No clock, no I/O, no bodies.

/// Counts the outcomes of the legs of one request and says when they decide it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// How many legs there are.
    pub total: usize,
    /// How many must be ok; may be out of reach from the start.
    pub required: usize,
    /// How many were ok.
    pub ok: usize,
    /// How many failed.
    pub failed: usize,
    /// The job that the request has become, if it has.
    pub deferred: Option<Deferred>,
    /// How many answers differ from most, as far as that is known when the answer goes out.
    pub divergent: usize,
    /// Whether failure waits for every leg (`all` reports each of them).
    waits_for_all: bool,
}

/// A request that has become a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferred {
    /// How many legs failed and are sent again. Those that still run may join them.
    pub count: usize,
    /// The id of the job.
    pub job: redeliver::JobId,
}

/// The decision of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Enough legs are ok.
    Success,
    /// Enough can no longer be ok; with `all`, every leg has ended as well.
    Failure,
}

impl Quorum {
    /// The machine before any outcome.
    #[must_use]
    pub fn new(require: crate::config::Require, total: usize) -> Self {
        let waits_for_all = require == crate::config::Require::All;
        Self { total, required: require.required(total), ok: 0, failed: 0, deferred: None, divergent: 0, waits_for_all }
    }

    /// Takes the outcome of one more leg.
    pub fn record(&mut self, ok: bool) {
        if ok {
            self.ok += 1;
        } else {
            self.failed += 1;
        }
    }

    /// A leg that counted as ok turns out to have failed.
    pub fn revoke(&mut self) {
        self.ok -= 1;
        self.failed += 1;
    }

    /// How many legs have not ended.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.total - self.ok - self.failed
    }

    /// Whether enough legs could still be ok if `without` of the pending ones were given up.
    #[must_use]
    pub fn reachable(&self, without: usize) -> bool {
        self.ok + self.pending().saturating_sub(without) >= self.required
    }

    /// The decision, as soon as there is one. Once made it never changes, whatever is
    /// recorded after it.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        if self.required == 0 || self.ok >= self.required {
            Some(Decision::Success)
        } else if self.reachable(0) || (self.waits_for_all && self.pending() > 0) {
            None
        } else {
            Some(Decision::Failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Require;

    /// The rules, implemented naively on the whole list of outcomes.
    fn oracle(require: Require, total: usize, outcomes: &[bool]) -> Option<Decision> {
        let ok = outcomes.iter().filter(|ok| **ok).count();
        let failed = outcomes.len() - ok;
        let need = match require {
            Require::All => total,
            Require::Any => 1,
            Require::Majority => (1..=total + 1).find(|k| 2 * k > total).unwrap(),
            Require::Count(k) => k.get(),
            Require::Percent(p) => (1..).find(|k| k * 100 >= total * usize::from(p)).unwrap(),
        };
        match require {
            Require::All if outcomes.len() == total => {
                Some(if failed == 0 { Decision::Success } else { Decision::Failure })
            }
            Require::All => None,
            _ if ok >= need => Some(Decision::Success),
            _ if failed + need > total => Some(Decision::Failure),
            _ => None,
        }
    }

    #[test]
    fn every_order_of_outcomes_of_up_to_5_legs_under_every_policy() {
        let policies = ["all", "any", "majority", "1", "2", "3", "5", "6", "1%", "34%", "50%", "67%", "100%"];
        let mut checked = 0;
        for require in policies.map(|text| text.parse::<Require>().unwrap()) {
            for total in 1..=5_usize {
                // Legs differ only in their outcome, so all orders are all sequences of ok and failed.
                for sequence in 0..1_u32 << total {
                    let outcomes: Vec<bool> = (0..total).map(|i| sequence & (1 << i) != 0).collect();
                    let mut quorum = Quorum::new(require, total);
                    let mut first = quorum.decision();
                    assert_eq!(first, oracle(require, total, &[]), "{require} of {total} before any outcome");
                    for seen in 1..=total {
                        quorum.record(outcomes[seen - 1]);
                        let want = first.or(oracle(require, total, &outcomes[..seen]));
                        assert_eq!(first.or(quorum.decision()), want, "{require} of {total}: {:?}", &outcomes[..seen]);
                        if let Some(first) = first {
                            assert_eq!(quorum.decision(), Some(first), "a decision never changes");
                        }
                        first = want;
                        checked += 1;
                    }
                    assert!(first.is_some(), "{require} of {total}: {outcomes:?} ends undecided");
                    assert_eq!(quorum.pending(), 0);
                }
            }
        }
        assert!(checked > 3000, "only {checked} steps");
    }
}
