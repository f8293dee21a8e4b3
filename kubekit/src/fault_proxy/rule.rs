//! Rules that decide which request gets which fault, in the order in which they were added.

use std::{collections::VecDeque, fmt};

use super::{Call, Fault};

/// One rule.
pub(super) struct Rule {
    when: Box<dyn Fn(&Call) -> bool + Send>,
    plan: Plan,
}

/// The faults of a rule.
pub(super) enum Plan {
    /// The same fault for every request.
    Always(Fault),
    /// The next of these for each request; later requests pass.
    Script(VecDeque<Option<Fault>>),
    /// One of these for a share of the requests, in per cent.
    Seeded { random: fastrand::Rng, percent: u8, faults: Vec<Fault> },
}

impl Rule {
    pub(super) fn new(when: impl Fn(&Call) -> bool + Send + 'static, plan: Plan) -> Self {
        Self { when: Box::new(when), plan }
    }

    /// The fault for this request; `None` leaves the decision to the next rule.
    pub(super) fn fault(&mut self, call: &Call) -> Option<Fault> {
        if !(self.when)(call) {
            return None;
        }
        match &mut self.plan {
            Plan::Always(fault) => Some(*fault),
            Plan::Script(faults) => faults.pop_front().flatten(),
            Plan::Seeded { random, percent, faults } => {
                // Both are drawn every time, so that the sequence depends on the seed and the number of requests only.
                let (hit, which) = (random.u8(..100) < *percent, random.usize(..faults.len()));
                hit.then(|| faults[which])
            }
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = match &self.plan {
            Plan::Always(fault) => format!("always {fault:?}"),
            Plan::Script(faults) => format!("next {faults:?}"),
            Plan::Seeded { percent, faults, .. } => format!("{percent} % of {faults:?}"),
        };
        write!(f, "Rule({plan})")
    }
}
