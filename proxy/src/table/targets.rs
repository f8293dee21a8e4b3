//! The targets of a table by their places, so that routes share them: changed in place from one table to the next.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    slice,
    sync::Arc,
};

use snapshot::{Endpoint, Place};

use crate::{config::Policy, target::Target};

/// The targets of all routes. There are several at a place if routes see its endpoint differently, or use different protocols.
#[derive(Debug, Default)]
pub(super) struct TargetIndex {
    /// By the hash of their place, which is smaller than the place: places with the same hash are compared.
    targets: HashMap<u64, Same>,
    hasher: RandomState,
}

/// The targets with one hash, usually a single one, for which nothing is allocated.
#[derive(Debug)]
enum Same {
    One(SharedTarget),
    #[expect(clippy::box_collection, reason = "a vector would make every entry larger")]
    Several(Box<Vec<SharedTarget>>),
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
        let entry = self.targets.entry(self.hasher.hash_one(&endpoint.address));
        let mut same = match entry {
            Entry::Occupied(same) => same,
            Entry::Vacant(place) => {
                let target = Arc::new(make());
                place.insert(Same::One(SharedTarget { target: target.clone(), routes: 1 }));
                return target;
            }
        };
        let is_kept =
            |shared: &&mut SharedTarget| *shared.target.endpoint == *endpoint && shared.target.is_reached_by(policy);
        if let Some(shared) = same.get_mut().all_mut().iter_mut().find(is_kept) {
            shared.routes += 1;
            return shared.target.clone();
        }
        let mut target = make();
        // Its numbers go on where it only has other conditions, or is spoken to in another way.
        let is_former = |shared: &&SharedTarget| {
            let former = &shared.target.endpoint;
            former.address == endpoint.address && former.pod == endpoint.pod
        };
        if let Some(former) = same.get().all().iter().find(is_former) {
            target.counts = former.target.counts.share();
        }
        let target = Arc::new(target);
        let (key, others) = same.remove_entry();
        self.targets.insert(key, others.and(SharedTarget { target: target.clone(), routes: 1 }));
        target
    }

    /// Another route has this target.
    #[cfg(any(test, feature = "bench"))]
    pub(super) fn share(&mut self, target: &Arc<Target>) {
        let key = self.hasher.hash_one(&target.endpoint.address);
        let shared = SharedTarget { target: target.clone(), routes: 1 };
        let same = match self.targets.remove(&key) {
            None => Same::One(shared),
            Some(mut same) => match same.all_mut().iter_mut().find(|shared| Arc::ptr_eq(&shared.target, target)) {
                Some(known) => {
                    known.routes += 1;
                    same
                }
                None => same.and(shared),
            },
        };
        self.targets.insert(key, same);
    }

    /// A route no longer has this target. Returns whether none has it any more.
    pub(super) fn release(&mut self, target: &Arc<Target>) -> bool {
        let Entry::Occupied(mut same) = self.targets.entry(self.hasher.hash_one(&target.endpoint.address)) else {
            return false;
        };
        let is_it = |shared: &SharedTarget| Arc::ptr_eq(&shared.target, target);
        let Some(shared) = same.get_mut().all_mut().iter_mut().find(|shared| is_it(shared)) else { return false };
        shared.routes -= 1;
        if shared.routes > 0 {
            return false;
        }
        match same.get_mut() {
            Same::Several(several) if several.len() > 1 => several.retain(|shared| !is_it(shared)),
            Same::One(_) | Same::Several(_) => drop(same.remove()),
        }
        true
    }
}

// === impl Same ===

impl Same {
    fn all(&self) -> &[SharedTarget] {
        match self {
            Self::One(one) => slice::from_ref(one),
            Self::Several(several) => several,
        }
    }

    fn all_mut(&mut self) -> &mut [SharedTarget] {
        match self {
            Self::One(one) => slice::from_mut(one),
            Self::Several(several) => several,
        }
    }

    /// These, and another one.
    fn and(self, another: SharedTarget) -> Self {
        Self::Several(match self {
            Self::One(one) => Box::new(vec![one, another]),
            Self::Several(mut several) => {
                several.push(another);
                several
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_takes_little_memory() {
        assert_eq!(size_of::<(u64, Same)>(), 24);
    }
}
