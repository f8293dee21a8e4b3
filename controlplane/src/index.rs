//! What the watch has seen, kept by Service: every slice of a Service merged into one view, however they were cut.
//!
//! Pure: objects in, views out, no I/O and no clock.

mod slice;
mod touches;
mod view;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use slice::Slice;
pub(crate) use slice::{About, SERVICE_NAME};
pub(crate) use touches::{Observer, Observers, Touch, Touches};
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
    observers: Observers,
    /// Whether it is the slices without a Service that are kept.
    orphans: bool,
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
    /// An index of the slices that name no Service, each under its own name.
    pub(crate) fn of_orphans() -> Self {
        Self { orphans: true, ..Self::default() }
    }

    /// An object was added or modified. A slice without a Service is left out.
    pub fn apply(&mut self, object: &EndpointSlice) {
        for (service, addresses) in self.take_in(object) {
            self.observers.told(&service, &addresses);
        }
    }

    /// An object was deleted.
    pub fn delete(&mut self, key: &ObjectKey) {
        if let Some((service, addresses)) = self.take_out(key) {
            self.observers.told(&service, &addresses);
        }
    }

    /// A complete list: what is not in it is gone. Objects that are there but could not be read stay as they were.
    pub fn reset(&mut self, objects: &[EndpointSlice], unreadable: &[ObjectKey]) {
        let listed = objects.iter().map(|object| ObjectKey::of(&object.metadata));
        let there: BTreeSet<ObjectKey> = listed.chain(unreadable.iter().cloned()).collect();
        let gone: Vec<ObjectKey> = self.slices.keys().filter(|key| !there.contains(*key)).cloned().collect();
        let mut touched: HashMap<ServiceKey, HashSet<SocketAddr>> = HashMap::new();
        let went = gone.iter().filter_map(|key| self.take_out(key)).collect::<Vec<_>>();
        let changed = objects.iter().flat_map(|object| self.take_in(object)).collect::<Vec<_>>();
        for (service, addresses) in went.into_iter().chain(changed) {
            touched.entry(service).or_default().extend(addresses);
        }
        for (service, mut lost) in touched {
            let slices = self.services.get(&service).map(|service| &service.slices);
            for slice in slices.into_iter().flatten().filter_map(|key| self.slices.get(key)) {
                for address in slice.addresses() {
                    lost.remove(&address);
                }
            }
            self.observers.listed(&service, &lost);
        }
    }

    /// The view of one Service, if it has a slice.
    pub(crate) fn view(&mut self, key: &ServiceKey) -> Option<Arc<View>> {
        let slices = &self.slices;
        self.services.get_mut(key).map(|service| service.view(slices))
    }

    /// What the slices of one Service say about themselves.
    pub(crate) fn about(&self, key: &ServiceKey) -> impl Iterator<Item = &About> {
        let keys = self.services.get(key).into_iter().flat_map(|service| &service.slices);
        keys.filter_map(|key| self.slices.get(key)).map(|slice| &slice.about)
    }

    /// A further observer; every Service is new to it.
    pub(crate) fn observe(&mut self) -> Observer {
        self.observers.add(self.services.keys())
    }

    /// An observer goes.
    pub(crate) fn leave(&mut self, observer: Observer) {
        self.observers.remove(observer);
    }

    /// The Services that have changed since this observer asked last.
    pub(crate) fn touches(&mut self, observer: Observer) -> Touches {
        self.observers.take(observer)
    }

    /// The primary family of a Service became known (`Service.spec.ipFamilies[0]`). Returns whether that is news.
    pub fn set_primary(&mut self, key: &ServiceKey, family: Family) -> bool {
        match self.services.get_mut(key) {
            Some(service) if service.primary != Some(family) => {
                service.primary = Some(family);
                service.view = None;
                self.observers.told(key, &[]);
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

    /// Returns the Services that it changes, with the addresses that it had there or has now, if anybody wants to know.
    fn take_in(&mut self, object: &EndpointSlice) -> Vec<(ServiceKey, Vec<SocketAddr>)> {
        let key = ObjectKey::of(&object.metadata);
        let Some(slice) = Slice::read(object, self.orphans) else { return self.take_out(&key).into_iter().collect() };
        match self.slices.get(&key) {
            Some(old) if *old == slice => return Vec::new(),
            _ => {}
        }
        let mut changed = Vec::with_capacity(2);
        changed.extend(self.take_out_of_other(&key, &slice.service));
        let mut addresses = self.addresses_to_tell(&slice);
        addresses.extend(self.slices.get(&key).into_iter().flat_map(|old| self.addresses_to_tell(old)));
        changed.push((slice.service.clone(), addresses));
        let service = self.services.entry(slice.service.clone()).or_default();
        service.slices.insert(key.clone());
        service.view = None;
        self.slices.insert(key, slice);
        changed
    }

    /// A slice that moves to another Service leaves the one it was in.
    fn take_out_of_other(&mut self, key: &ObjectKey, to: &ServiceKey) -> Option<(ServiceKey, Vec<SocketAddr>)> {
        let moves = self.slices.get(key).is_some_and(|old| old.service != *to);
        if moves { self.take_out(key) } else { None }
    }

    fn take_out(&mut self, key: &ObjectKey) -> Option<(ServiceKey, Vec<SocketAddr>)> {
        let old = self.slices.remove(key)?;
        let addresses = self.addresses_to_tell(&old);
        if let Some(service) = self.services.get_mut(&old.service) {
            service.slices.remove(key);
            service.view = None;
            if service.slices.is_empty() {
                // A later Service of that name may have another primary family.
                self.services.remove(&old.service);
            }
        }
        Some((old.service, addresses))
    }

    fn addresses_to_tell(&self, slice: &Slice) -> Vec<SocketAddr> {
        if self.observers.is_empty() { Vec::new() } else { slice.addresses().collect() }
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

impl ServiceKey {
    /// That of the Service with this object key.
    pub(crate) fn of(object: &ObjectKey) -> Self {
        Self { namespace: object.namespace().clone(), name: object.name().clone() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
