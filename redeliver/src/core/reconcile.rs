//! Brings a journal that could not be written for a while up to date with the queues.

use super::{Change, Core, Receipt, Write};
use crate::JobId;

use std::{collections::HashMap, vec};

/// A delivery that a journal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its job.
    pub job: JobId,
    /// Its index within the job.
    pub index: u32,
    /// How many tries there were.
    pub attempts: u32,
}

/// The comparison of what a journal has with what is owed, one turn after the other.
#[derive(Debug)]
pub struct Reconciliation {
    /// What the journal has and no job has been found for, by job and index, with the attempts.
    tries: HashMap<(JobId, u32), u32>,
    /// The job to go on with.
    next: JobId,
    /// The rest, once all jobs have been looked at: it is owed no more, or was never taken.
    left: Option<vec::IntoIter<(JobId, u32)>>,
}

impl Reconciliation {
    /// With a journal that has these deliveries.
    #[must_use]
    pub fn new(on_disk: &[Entry]) -> Self {
        let tries = on_disk.iter().map(|entry| ((entry.job, entry.index), entry.attempts)).collect();
        Self { tries, next: JobId::FIRST, left: None }
    }
}

impl Core {
    /// From now on a journal confirms what is written. What it has is compared with what is owed, and what differs is
    /// written. Writes that it has been given and has not yet taken come before these, and nothing is undone by them. Returns whether
    /// that was all; what changes between two turns is written by itself.
    pub fn reconcile(&mut self, with: &mut Reconciliation) -> bool {
        self.journalled = true;
        let most = self.limits.per_turn.max(1);
        match &mut with.left {
            None => self.compare(with, most),
            Some(left) => {
                let left: Vec<_> = left.take(most).collect();
                let done = left.len() < most;
                self.settle_left(left);
                done
            }
        }
    }

    /// Compares so many jobs.
    fn compare(&mut self, with: &mut Reconciliation, most: usize) -> bool {
        let tries = &mut with.tries;
        let mut writes = Vec::new();
        let mut last = None;
        for (id, job) in self.jobs.range(with.next..).take(most) {
            last = Some(id.next());
            if !job.is_owed() {
                continue;
            }
            let mut is_missing = false;
            for delivery in job.deliveries.iter().filter(|delivery| delivery.state.is_owed()) {
                match tries.remove(&(*id, delivery.index)) {
                    None => is_missing = true,
                    Some(attempts) if attempts != delivery.attempts => {
                        let (index, whom, attempts) = (delivery.index, delivery.whom.clone(), delivery.attempts);
                        let change = Change::Tried { index, whom, attempts };
                        writes.push(Write { job: *id, change, receipt: Receipt::None });
                    }
                    Some(_) => {}
                }
            }
            // One that is not acknowledged is on its way to the journal, and fails or succeeds there.
            if is_missing && job.is_acknowledged() {
                let route = &self.routes[job.route.0 as usize].name;
                writes.push(Write::of_stored(&job.stored(*id, route)));
            }
        }
        self.writes.append(&mut writes);
        match last {
            Some(next) => with.next = next,
            None => {
                let mut left: Vec<(JobId, u32)> = std::mem::take(&mut with.tries).into_keys().collect();
                left.sort_unstable();
                with.left = Some(left.into_iter());
            }
        }
        false
    }

    fn settle_left(&mut self, left: Vec<(JobId, u32)>) {
        for (id, index) in left {
            let change = match self.jobs.get(&id) {
                Some(job) if job.is_owed() => Change::Settled { index, last: false },
                _ => Change::Withdrawn,
            };
            self.writes.push(Write { job: id, change, receipt: Receipt::None });
        }
    }
}
