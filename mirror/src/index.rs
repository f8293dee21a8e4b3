//! What is known of one remote: its selected Services, and the slices of every Service, kept small.
//!
//! Pure: objects in, facts out, no I/O and no clock but the `now` it is given.

mod origin;
mod slice;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use controlplane::{index::ServiceKey, watch::ObjectKey};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
pub(crate) use origin::{Families, Kind, Origin};
pub(crate) use slice::{Address, AddressFamily, Attributes, PortFacts, Slice};

use crate::{config::MaxDelete, guard};

/// One remote's objects.
#[derive(Debug, Default)]
pub(crate) struct Index {
    services: BTreeMap<ServiceKey, Arc<Origin>>,
    slices: HashMap<ObjectKey, Arc<Slice>>,
    by_service: HashMap<ServiceKey, BTreeSet<ObjectKey>>,
    /// Services whose slices a list no longer had, all of a sudden, like those of too many others: they are kept.
    emptied: BTreeMap<ServiceKey, Instant>,
}

/// What one complete list of Services changed.
#[derive(Debug, Default)]
pub(crate) struct Relisted {
    /// What may be different now, vanished ones included.
    pub(crate) touched: BTreeSet<ServiceKey>,
    /// What is no longer there.
    pub(crate) vanished: Vec<Arc<Origin>>,
}

impl Index {
    /// The Service of this name.
    pub(crate) fn service(&self, key: &ServiceKey) -> Option<&Arc<Origin>> {
        self.services.get(key)
    }

    /// Every Service.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Origin>> {
        self.services.values()
    }

    /// The slices of one Service, in no order that means anything.
    pub(crate) fn slices(&self, key: &ServiceKey) -> Vec<Arc<Slice>> {
        let keys = self.by_service.get(key);
        keys.into_iter().flatten().filter_map(|key| self.slices.get(key)).cloned().collect()
    }

    /// How many endpoints of selected Services cannot be mirrored because of their addresses.
    pub(crate) fn unusable(&self) -> usize {
        let selected = self.slices.values().filter(|slice| self.services.contains_key(&slice.service));
        selected.map(|slice| slice.unusable).sum()
    }

    /// How many Services keep slices that a list no longer had.
    pub(crate) fn emptied(&self) -> usize {
        self.emptied.len()
    }

    /// A Service was added or modified. Returns what it was before, if that is not what it is now.
    pub(crate) fn apply_service(&mut self, service: Service) -> Option<(Option<Arc<Origin>>, Arc<Origin>)> {
        let origin = Arc::new(Origin::read(service)?);
        if self.services.get(&origin.key).is_some_and(|old| *old == origin) {
            return None;
        }
        let old = self.services.insert(origin.key.clone(), origin.clone());
        Some((old, origin))
    }

    /// A Service was deleted, or is no longer selected. Returns what it was.
    pub(crate) fn delete_service(&mut self, key: &ObjectKey) -> Option<Arc<Origin>> {
        self.services.remove(&service_key(key))
    }

    /// A complete list of the Services of one namespace, or of all of them.
    pub(crate) fn reset_services(
        &mut self,
        scope: Option<&str>,
        services: Vec<Service>,
        unreadable: &[ObjectKey],
    ) -> Relisted {
        let mut relisted = Relisted::default();
        let mut there: HashSet<ServiceKey> = unreadable.iter().map(service_key).collect();
        for service in services {
            let key = service_key(&ObjectKey::of(&service.metadata));
            if self.apply_service(service).is_some() {
                relisted.touched.insert(key.clone());
            }
            there.insert(key);
        }
        let gone = |key: &ServiceKey| scope.is_none_or(|scope| *key.namespace == *scope) && !there.contains(key);
        let vanished: Vec<ServiceKey> = self.services.keys().filter(|key| gone(key)).cloned().collect();
        for key in vanished {
            relisted.vanished.extend(self.services.remove(&key));
            relisted.touched.insert(key);
        }
        relisted
    }

    /// A slice was added or modified. Returns the Services whose endpoints may be different now.
    pub(crate) fn apply_slice(&mut self, object: &EndpointSlice) -> Vec<ServiceKey> {
        let key = ObjectKey::of(&object.metadata);
        let Some(slice) = Slice::read(object) else { return self.delete_slice(&key).into_iter().collect() };
        // Somebody writes this Service's slices: what was only kept need not be.
        let mut touched: Vec<ServiceKey> = self.release(&slice.service, &key).into_iter().collect();
        touched.extend(self.put_slice(key, slice));
        touched
    }

    /// A slice was deleted. Returns the Service that it belonged to.
    pub(crate) fn delete_slice(&mut self, key: &ObjectKey) -> Option<ServiceKey> {
        let service = self.slices.remove(key)?.service.clone();
        if let Some(keys) = self.by_service.get_mut(&service) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_service.remove(&service);
                self.emptied.remove(&service);
            }
        }
        Some(service)
    }

    /// A complete list of the slices of one namespace, or of all of them. Where it takes the endpoints of more Services
    /// than `limit` permits, though they are still there, these keep what they had.
    pub(crate) fn reset_slices(
        &mut self,
        scope: Option<&str>,
        objects: &[EndpointSlice],
        unreadable: &[ObjectKey],
        limit: MaxDelete,
        now: Instant,
    ) -> BTreeSet<ServiceKey> {
        let within = |key: &ServiceKey| scope.is_none_or(|scope| *key.namespace == *scope);
        let mut there: HashSet<ObjectKey> = unreadable.iter().cloned().collect();
        let mut touched = BTreeSet::new();
        let before: BTreeSet<ServiceKey> = self.by_service.keys().filter(|key| within(key)).cloned().collect();
        for object in objects {
            let key = ObjectKey::of(&object.metadata);
            touched.extend(self.apply_slice(object));
            there.insert(key);
        }
        let gone = |index: &Self, service: &ServiceKey| -> Vec<ObjectKey> {
            let keys = index.by_service.get(service);
            keys.into_iter().flatten().filter(|key| !there.contains(*key)).cloned().collect()
        };
        let (mut emptied, mut shrunk) = (Vec::new(), Vec::new());
        for service in &before {
            let gone = gone(self, service);
            let all = self.by_service.get(service).is_some_and(|keys| keys.len() == gone.len());
            // Without the Service nobody looks at its slices: they need no guard.
            if all && self.services.contains_key(service) {
                emptied.push((service.clone(), gone));
            } else {
                shrunk.push((service.clone(), gone));
            }
        }
        let selected = before.iter().filter(|key| self.services.contains_key(*key)).count();
        if guard::permits(limit, emptied.len(), selected) {
            shrunk.append(&mut emptied);
        }
        for (service, gone) in shrunk {
            self.emptied.remove(&service);
            for key in gone {
                touched.extend(self.delete_slice(&key));
            }
        }
        for (service, _gone) in emptied {
            self.emptied.entry(service).or_insert(now);
        }
        touched
    }

    /// Lets go of slices that were kept since before `until`: nobody has brought them back. Returns whose they were.
    pub(crate) fn confirm_emptied(&mut self, until: Instant) -> Vec<ServiceKey> {
        let due: Vec<ServiceKey> =
            self.emptied.iter().filter(|(_service, since)| **since <= until).map(|(key, _)| key.clone()).collect();
        for service in &due {
            self.emptied.remove(service);
            for key in self.by_service.remove(service).into_iter().flatten() {
                self.slices.remove(&key);
            }
        }
        due
    }

    /// Lets go of the slices that were kept for a Service, but for the one that is there again.
    fn release(&mut self, service: &ServiceKey, but: &ObjectKey) -> Option<ServiceKey> {
        self.emptied.remove(service)?;
        let keys: Vec<ObjectKey> = self.by_service.get(service)?.iter().filter(|key| *key != but).cloned().collect();
        for key in keys {
            self.delete_slice(&key);
        }
        Some(service.clone())
    }

    fn put_slice(&mut self, key: ObjectKey, slice: Slice) -> Vec<ServiceKey> {
        let mut touched = vec![slice.service.clone()];
        match self.slices.get(&key) {
            Some(old) if **old == slice => return Vec::new(),
            Some(old) if old.service != slice.service => touched.extend(self.delete_slice(&key)),
            _ => {}
        }
        self.by_service.entry(slice.service.clone()).or_default().insert(key.clone());
        self.slices.insert(key, Arc::new(slice));
        touched
    }
}

/// An object's key as that of a Service.
pub(crate) fn service_key(key: &ObjectKey) -> ServiceKey {
    ServiceKey { namespace: key.namespace().clone(), name: key.name().clone() }
}

#[cfg(test)]
mod tests;
