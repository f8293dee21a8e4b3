//! Brings a journal that could not be written for a while up to date with the queues.

use super::{Change, Core, Receipt, Write};
use crate::JobId;

use std::collections::HashMap;

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

impl Core {
    /// From now on a journal confirms what is written. What it has is compared with what is owed, and what differs is
    /// written. Writes that it has been given and has not yet taken come before these, and nothing is undone by them.
    pub fn reconcile(&mut self, on_disk: &[Entry]) {
        self.journalled = true;
        let mut tries: HashMap<(JobId, u32), u32> =
            on_disk.iter().map(|entry| ((entry.job, entry.index), entry.attempts)).collect();
        let mut writes = Vec::new();
        for (id, job) in self.jobs.iter().filter(|(_, job)| job.is_owed()) {
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
        // The rest is not owed any more, or was never accepted.
        let mut left: Vec<(JobId, u32)> = tries.into_keys().collect();
        left.sort_unstable();
        for (id, index) in left {
            let change = match self.jobs.get(&id) {
                Some(job) if job.is_owed() => Change::Settled { index, last: false },
                _ => Change::Withdrawn,
            };
            writes.push(Write { job: id, change, receipt: Receipt::None });
        }
        self.writes.append(&mut writes);
    }
}
