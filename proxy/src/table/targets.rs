//! The targets of a table by their places, so that routes share them: changed in place from one table to the next.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;
use snapshot::{Endpoint, Place};

use crate::{config::Policy, target::Target};

/// The targets of all routes. There are several at a place if routes see its endpoint differently, or use different protocols.
#[derive(Debug, Default)]
pub(super) struct TargetIndex {
    targets: HashTable<Shared>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Shared {
    target: Arc<Target>,
    /// How many routes have it.
    routes: u32,
}

// === impl TargetIndex ===

impl TargetIndex {
    /// The target of an endpoint for another route with this policy. One that is there is taken while its endpoint is the same; another pod
    /// at the same place is another endpoint.
    pub(super) fn acquire(
        &mut self,
        endpoint: &Endpoint<Place>,
        policy: &Policy,
        make: impl FnOnce() -> Target,
    ) -> Arc<Target> {
        let hash = self.hasher.hash_one(&endpoint.address);
        let is_kept = |shared: &Shared| *shared.target.endpoint == *endpoint && shared.target.is_reached_by(policy);
        if let Some(shared) = self.targets.find_mut(hash, is_kept) {
            shared.routes += 1;
            return shared.target.clone();
        }
        let mut target = make();
        // Its numbers go on where it only has other conditions, or is spoken to in another way.
        let is_former = |shared: &&Shared| {
            let former = &shared.target.endpoint;
            former.address == endpoint.address && former.pod == endpoint.pod
        };
        if let Some(former) = self.targets.iter_hash(hash).find(is_former) {
            target.counts = former.target.counts.clone();
        }
        let target = Arc::new(target);
        self.insert(hash, target.clone());
        target
    }

    /// Another route has this target.
    #[cfg(any(test, feature = "bench"))]
    pub(super) fn share(&mut self, target: &Arc<Target>) {
        let hash = self.hasher.hash_one(&target.endpoint.address);
        match self.targets.find_mut(hash, |shared| Arc::ptr_eq(&shared.target, target)) {
            Some(shared) => shared.routes += 1,
            None => self.insert(hash, target.clone()),
        }
    }

    /// A route no longer has this target. Returns whether none has it any more.
    pub(super) fn release(&mut self, target: &Arc<Target>) -> bool {
        let hash = self.hasher.hash_one(&target.endpoint.address);
        let Ok(mut shared) = self.targets.find_entry(hash, |shared| Arc::ptr_eq(&shared.target, target)) else {
            return false;
        };
        shared.get_mut().routes -= 1;
        let is_gone = shared.get().routes == 0;
        if is_gone {
            shared.remove();
        }
        is_gone
    }

    fn insert(&mut self, hash: u64, target: Arc<Target>) {
        let hasher = |shared: &Shared| self.hasher.hash_one(&shared.target.endpoint.address);
        self.targets.insert_unique(hash, Shared { target, routes: 1 }, hasher);
    }
}
