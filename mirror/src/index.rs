//! The objects of one remote: its selected Services, and the slices of every Service, in a compact form.
//!
//! Pure: objects in, facts out, no I/O and no clock but the `now` it is given.

mod origin;
mod slice;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use controlplane::{
    index::ServiceKey,
    watch::{ObjectKey, vanished},
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
pub(crate) use origin::{Families, Kind, Origin};
pub(crate) use slice::{Address, AddressFamily, Attributes, PortFacts, Slice};

use crate::config::MaxDelete;

/// One remote's objects.
#[derive(Debug, Default)]
pub(crate) struct Index {
    services: BTreeMap<ServiceKey, Arc<Origin>>,
    slices: HashMap<ObjectKey, Arc<Slice>>,
    by_service: HashMap<ServiceKey, BTreeSet<ObjectKey>>,
    /// Services whose slices are kept although a list lacked them, together with those of too many others; and since when.
    emptied: BTreeMap<ServiceKey, Instant>,
}

/// What one complete list of Services changed.
#[derive(Debug, Default)]
pub(crate) struct Relisted {
    /// The Services that may have changed, vanished ones included.
    pub(crate) touched: BTreeSet<ServiceKey>,
    /// The Services that no longer exist.
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

    /// The slices of one Service, in arbitrary order.
    pub(crate) fn slices(&self, key: &ServiceKey) -> Vec<Arc<Slice>> {
        let keys = self.by_service.get(key);
        keys.into_iter().flatten().filter_map(|key| self.slices.get(key)).cloned().collect()
    }

    /// How many endpoints of selected Services cannot be mirrored because of their addresses.
    pub(crate) fn unusable(&self) -> usize {
        let selected = self.slices.values().filter(|slice| self.services.contains_key(&slice.service));
        selected.map(|slice| slice.unusable).sum()
    }

    /// How many Services keep slices that a list lacked.
    pub(crate) fn emptied(&self) -> usize {
        self.emptied.len()
    }

    /// Adds or replaces a Service. Returns its old and new state, if they differ.
    pub(crate) fn apply_service(&mut self, service: Service) -> Option<(Option<Arc<Origin>>, Arc<Origin>)> {
        let origin = Arc::new(Origin::read(service)?);
        if self.services.get(&origin.key).is_some_and(|old| *old == origin) {
            return None;
        }
        let old = self.services.insert(origin.key.clone(), origin.clone());
        Some((old, origin))
    }

    /// Removes a Service that was deleted or is no longer selected, and returns it.
    pub(crate) fn delete_service(&mut self, key: &ObjectKey) -> Option<Arc<Origin>> {
        self.services.remove(&ServiceKey::from(key))
    }

    /// Replaces the Services of one namespace, or of all of them, by a complete list.
    pub(crate) fn reset_services(
        &mut self,
        scope: Option<&str>,
        services: Vec<Service>,
        unreadable: &[ObjectKey],
    ) -> Relisted {
        let mut relisted = Relisted::default();
        let within = self.services.keys().filter(|key| scope.is_none_or(|scope| *key.namespace == *scope));
        let gone = vanished(within, &services, unreadable);
        for service in services {
            let key = ServiceKey::from(&ObjectKey::of(&service.metadata));
            if self.apply_service(service).is_some() {
                relisted.touched.insert(key);
            }
        }
        for key in gone {
            relisted.vanished.extend(self.services.remove(&key));
            relisted.touched.insert(key);
        }
        relisted
    }

    /// Adds or replaces a slice. Returns the Services whose endpoints may have changed.
    pub(crate) fn apply_slice(&mut self, object: &EndpointSlice) -> Vec<ServiceKey> {
        let key = ObjectKey::of(&object.metadata);
        let Some(slice) = Slice::read(object) else { return self.delete_slice(&key).into_iter().collect() };
        // This Service's slices are being written again, so that those that were only kept can be dropped.
        let mut touched: Vec<ServiceKey> = self.release(&slice.service, &key).into_iter().collect();
        touched.extend(self.put_slice(key, slice));
        touched
    }

    /// Removes a slice that was deleted. Returns the Service that it belonged to.
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

    /// Replaces the slices of one namespace, or of all of them, by a complete list. If more Services than `limit` permits would lose all
    /// endpoints although they still exist, they keep their slices.
    pub(crate) fn reset_slices(
        &mut self,
        scope: Option<&str>,
        objects: &[EndpointSlice],
        unreadable: &[ObjectKey],
        limit: MaxDelete,
        now: Instant,
    ) -> BTreeSet<ServiceKey> {
        let within = |key: &ServiceKey| scope.is_none_or(|scope| *key.namespace == *scope);
        let mut touched = BTreeSet::new();
        let before: BTreeSet<ServiceKey> = self.by_service.keys().filter(|key| within(key)).cloned().collect();
        for object in objects {
            touched.extend(self.apply_slice(object));
        }
        let vanished: HashSet<ObjectKey> = vanished(self.slices.keys(), objects, unreadable).into_iter().collect();
        let gone = |index: &Self, service: &ServiceKey| -> Vec<ObjectKey> {
            let keys = index.by_service.get(service);
            keys.into_iter().flatten().filter(|key| vanished.contains(*key)).cloned().collect()
        };
        let (mut emptied, mut shrunk) = (Vec::new(), Vec::new());
        for service in &before {
            let gone = gone(self, service);
            let all = self.by_service.get(service).is_some_and(|keys| keys.len() == gone.len());
            // Slices without their Service are not used, and need no guard.
            if all && self.services.contains_key(service) {
                emptied.push((service.clone(), gone));
            } else {
                shrunk.push((service.clone(), gone));
            }
        }
        let selected = before.iter().filter(|key| self.services.contains_key(*key)).count();
        if limit.permits(emptied.len(), selected) {
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

    /// Drops slices that have been kept since before `until`. Returns their Services.
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

    /// Drops the slices that were kept for a Service, except for the one that exists again.
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

#[cfg(test)]
mod tests;
