//! The targets of a table by their places, so that routes share them: changed in place from one table to the next.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use snapshot::{Endpoint, Place};

use crate::{config::Policy, target::Target};

/// The targets of all routes. There are several at a place if routes see its endpoint differently, or use different protocols.
#[derive(Debug, Default)]
pub(super) struct TargetIndex {
    /// By the hash of their place, which is smaller than the place: places with the same hash are compared.
    targets: HashMap<u64, Vec<SharedTarget>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct SharedTarget {
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
        let same = self.targets.entry(self.hasher.hash_one(&endpoint.address)).or_default();
        let is_kept =
            |shared: &&mut SharedTarget| *shared.target.endpoint == *endpoint && shared.target.is_reached_by(policy);
        if let Some(shared) = same.iter_mut().find(is_kept) {
            shared.routes += 1;
            return shared.target.clone();
        }
        let mut target = make();
        // Its numbers go on where it only has other conditions, or is spoken to in another way.
        let is_former = |shared: &&SharedTarget| {
            let former = &shared.target.endpoint;
            former.address == endpoint.address && former.pod == endpoint.pod
        };
        if let Some(former) = same.iter().find(is_former) {
            target.counts = former.target.counts.clone();
        }
        let target = Arc::new(target);
        same.reserve_exact(1);
        same.push(SharedTarget { target: target.clone(), routes: 1 });
        target
    }

    /// Another route has this target.
    #[cfg(any(test, feature = "bench"))]
    pub(super) fn share(&mut self, target: &Arc<Target>) {
        let same = self.targets.entry(self.hasher.hash_one(&target.endpoint.address)).or_default();
        match same.iter_mut().find(|shared| Arc::ptr_eq(&shared.target, target)) {
            Some(shared) => shared.routes += 1,
            None => same.push(SharedTarget { target: target.clone(), routes: 1 }),
        }
    }

    /// A route no longer has this target. Returns whether none has it any more.
    pub(super) fn release(&mut self, target: &Arc<Target>) -> bool {
        let Entry::Occupied(mut same) = self.targets.entry(self.hasher.hash_one(&target.endpoint.address)) else {
            return false;
        };
        let Some(at) = same.get().iter().position(|shared| Arc::ptr_eq(&shared.target, target)) else { return false };
        let shared = &mut same.get_mut()[at];
        shared.routes -= 1;
        if shared.routes > 0 {
            return false;
        }
        same.get_mut().swap_remove(at);
        if same.get().is_empty() {
            same.remove();
        }
        true
    }
}
