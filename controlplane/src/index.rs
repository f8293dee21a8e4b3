//! What the watch has seen, kept by Service: every slice of a Service merged into one view, however they were cut.
//!
//! Pure: objects in, views out, no I/O and no clock.

mod slice;
mod view;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use slice::Slice;
pub use view::{Family, Port, Protocol, View};

use crate::watch::ObjectKey;

/// A Service's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name (`kubernetes.io/service-name` of its slices).
    pub name: Arc<str>,
}

/// All slices of one watch, by Service.
#[derive(Debug, Default)]
pub struct Index {
    slices: HashMap<ObjectKey, Slice>,
    services: HashMap<ServiceKey, Service>,
}

/// One Service, as its slices tell about it.
#[derive(Debug, Default)]
struct Service {
    slices: BTreeSet<ObjectKey>,
    /// The Service's primary address family, where that is known.
    primary: Option<Family>,
    /// Made when somebody looks, until the next change.
    view: Option<Arc<View>>,
}

impl Index {
    /// An object was added or modified. A slice without a Service is left out.
    pub fn apply(&mut self, object: &EndpointSlice) {
        let key = ObjectKey::of(&object.metadata);
        match Slice::read(object) {
            Some(slice) => self.put(key, slice),
            None => self.delete(&key),
        }
    }

    /// An object was deleted.
    pub fn delete(&mut self, key: &ObjectKey) {
        let Some(old) = self.slices.remove(key) else { return };
        let Some(service) = self.services.get_mut(&old.service) else { return };
        service.slices.remove(key);
        service.view = None;
        if service.slices.is_empty() {
            // A later Service of that name may have another primary family.
            self.services.remove(&old.service);
        }
    }

    /// A complete list: what is not in it is gone. Objects that are there but could not be read stay as they were.
    pub fn reset(&mut self, objects: &[EndpointSlice], unreadable: &[ObjectKey]) {
        let listed = objects.iter().map(|object| ObjectKey::of(&object.metadata));
        let there: BTreeSet<ObjectKey> = listed.chain(unreadable.iter().cloned()).collect();
        let gone: Vec<ObjectKey> = self.slices.keys().filter(|key| !there.contains(*key)).cloned().collect();
        for key in gone {
            self.delete(&key);
        }
        for object in objects {
            self.apply(object);
        }
    }

    /// The primary family of a Service became known (`Service.spec.ipFamilies[0]`). Returns whether that is news.
    pub fn set_primary(&mut self, key: &ServiceKey, family: Family) -> bool {
        match self.services.get_mut(key) {
            Some(service) if service.primary != Some(family) => {
                service.primary = Some(family);
                service.view = None;
                true
            }
            _ => false,
        }
    }

    /// Every Service that has a slice, with its view, in no particular order.
    pub fn views(&mut self) -> impl Iterator<Item = (&ServiceKey, Arc<View>)> {
        let slices = &self.slices;
        self.services.iter_mut().map(|(key, service)| (key, service.view(slices)))
    }

    /// The Services with endpoints of both families whose primary one is not known.
    pub fn undecided(&mut self) -> Vec<ServiceKey> {
        let slices = &self.slices;
        let undecided = |service: &mut Service| service.primary.is_none() && service.view(slices).is_dual_stack();
        self.services.iter_mut().filter_map(|(key, service)| undecided(service).then(|| key.clone())).collect()
    }

    fn put(&mut self, key: ObjectKey, slice: Slice) {
        match self.slices.get(&key) {
            Some(old) if *old == slice => return,
            Some(old) if old.service != slice.service => self.delete(&key),
            _ => {}
        }
        let service = self.services.entry(slice.service.clone()).or_default();
        service.slices.insert(key.clone());
        service.view = None;
        self.slices.insert(key, slice);
    }
}

impl Service {
    fn view(&mut self, all: &HashMap<ObjectKey, Slice>) -> Arc<View> {
        let merge = || {
            let slices = self.slices.iter().filter_map(|key| all.get(key));
            Arc::new(View::merge(slices, self.primary))
        };
        self.view.get_or_insert_with(merge).clone()
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
