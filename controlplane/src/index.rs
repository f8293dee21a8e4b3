//! The objects of the watches, by Service: all slices of a Service merged into one view, and the facts of the Service itself.
//!
//! Pure: objects in, views and facts out, no I/O and no clock.

mod services;
mod slice;
mod store;
mod touches;
mod view;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};
use k8s_openapi::api::discovery::v1::EndpointSlice;
pub(crate) use services::Services;
pub use services::{Facts, ServicePort};
use slice::Slice;
pub(crate) use slice::{About, SERVICE_NAME};
pub(crate) use store::Store;
pub(crate) use touches::{Observer, Observers, Touch, Touches};
pub use view::{IpFamily, Port, Protocol, View};

use crate::watch::{ObjectKey, vanished};

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
    /// The view of every Service, but for those that are outdated.
    views: OrdMap<ServiceKey, Arc<View>>,
    /// Services that have changed since their view was built.
    outdated: HashSet<ServiceKey>,
    /// Services with endpoints of both families and an unknown primary one.
    undecided: OrdSet<ServiceKey>,
    observers: Observers,
    /// Whether this index is for slices without a Service.
    orphans: bool,
}

/// The slices of one Service.
#[derive(Debug, Default)]
struct Service {
    slices: BTreeSet<ObjectKey>,
    /// The Service's primary address family, if known.
    primary: Option<IpFamily>,
}

impl Index {
    /// An index of the slices that name no Service, each under its own name.
    pub(crate) fn of_orphans() -> Self {
        Self { orphans: true, ..Self::default() }
    }

    /// Adds or replaces a slice.
    pub fn apply(&mut self, object: &EndpointSlice) {
        Store::apply(self, object);
    }

    /// The view of one Service, if it has a slice.
    pub(crate) fn view(&mut self, key: &ServiceKey) -> Option<Arc<View>> {
        if self.outdated.remove(key) {
            self.make_view(key);
        }
        self.views.get(key).cloned()
    }

    /// The metadata of one Service's slices.
    pub(crate) fn about(&self, key: &ServiceKey) -> impl Iterator<Item = &About> {
        let keys = self.services.get(key).into_iter().flat_map(|service| &service.slices);
        keys.filter_map(|key| self.slices.get(key)).map(|slice| &slice.about)
    }

    /// Sets the primary family of a Service (`Service.spec.ipFamilies[0]`). Returns whether it has changed.
    pub fn set_primary(&mut self, key: &ServiceKey, family: IpFamily) -> bool {
        match self.services.get_mut(key) {
            Some(service) if service.primary != Some(family) => {
                service.primary = Some(family);
                self.outdated.insert(key.clone());
                self.observers.told(key, &[]);
                true
            }
            _ => false,
        }
    }

    /// Every Service that has a slice, with its view. The returned map is a snapshot; unchanged views are shared.
    pub fn views(&mut self) -> OrdMap<ServiceKey, Arc<View>> {
        self.make_views();
        self.views.clone()
    }

    /// The Services with endpoints of both families whose primary one is not known.
    pub(crate) fn undecided(&mut self) -> OrdSet<ServiceKey> {
        self.make_views();
        self.undecided.clone()
    }

    fn make_views(&mut self) {
        for key in std::mem::take(&mut self.outdated) {
            self.make_view(&key);
        }
    }

    fn make_view(&mut self, key: &ServiceKey) {
        let Some(service) = self.services.get(key) else { return };
        let slices = service.slices.iter().filter_map(|key| self.slices.get(key));
        let view = View::merge(slices, service.primary);
        // An unchanged set is not written, so that others can compare it by pointer.
        match (view.is_dual_stack() && service.primary.is_none(), self.undecided.contains(key)) {
            (true, false) => drop(self.undecided.insert(key.clone())),
            (false, true) => drop(self.undecided.remove(key)),
            (true, true) | (false, false) => {}
        }
        self.views.insert(key.clone(), Arc::new(view));
    }

    /// Adds or replaces a slice. Returns the Services that change, with the old and new addresses of the slice; without observers
    /// the addresses are left out.
    fn insert(&mut self, object: &EndpointSlice) -> Vec<(ServiceKey, Vec<SocketAddr>)> {
        let key = ObjectKey::of(&object.metadata);
        let Some(slice) = Slice::read(object, self.orphans) else { return self.remove(&key).into_iter().collect() };
        match self.slices.get(&key) {
            Some(old) if *old == slice => return Vec::new(),
            _ => {}
        }
        let mut changed = Vec::with_capacity(2);
        changed.extend(self.remove_from_other(&key, &slice.service));
        let mut addresses = self.addresses_to_report(&slice);
        addresses.extend(self.slices.get(&key).into_iter().flat_map(|old| self.addresses_to_report(old)));
        changed.push((slice.service.clone(), addresses));
        let service = self.services.entry(slice.service.clone()).or_default();
        service.slices.insert(key.clone());
        self.outdated.insert(slice.service.clone());
        self.slices.insert(key, slice);
        changed
    }

    /// Removes a slice from its former Service if it has moved to another one.
    fn remove_from_other(&mut self, key: &ObjectKey, to: &ServiceKey) -> Option<(ServiceKey, Vec<SocketAddr>)> {
        let moves = self.slices.get(key).is_some_and(|old| old.service != *to);
        if moves { self.remove(key) } else { None }
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<(ServiceKey, Vec<SocketAddr>)> {
        let old = self.slices.remove(key)?;
        let addresses = self.addresses_to_report(&old);
        if let Some(service) = self.services.get_mut(&old.service) {
            service.slices.remove(key);
            if service.slices.is_empty() {
                // A later Service of that name may have another primary family.
                self.services.remove(&old.service);
                self.views.remove(&old.service);
                self.undecided.remove(&old.service);
                self.outdated.remove(&old.service);
            } else {
                self.outdated.insert(old.service.clone());
            }
        }
        Some((old.service, addresses))
    }

    fn addresses_to_report(&self, slice: &Slice) -> Vec<SocketAddr> {
        if self.observers.is_empty() { Vec::new() } else { slice.addresses().collect() }
    }
}

impl Store for Index {
    type Object = EndpointSlice;

    fn apply(&mut self, object: &EndpointSlice) {
        for (service, addresses) in self.insert(object) {
            self.observers.told(&service, &addresses);
        }
    }

    fn delete(&mut self, key: &ObjectKey) {
        if let Some((service, addresses)) = self.remove(key) {
            self.observers.told(&service, &addresses);
        }
    }

    fn reset(&mut self, objects: &[EndpointSlice], unreadable: &[ObjectKey]) {
        let gone = vanished(self.slices.keys(), objects, unreadable);
        let mut touched: HashMap<ServiceKey, HashSet<SocketAddr>> = HashMap::new();
        let went = gone.iter().filter_map(|key| self.remove(key)).collect::<Vec<_>>();
        let changed = objects.iter().flat_map(|object| self.insert(object)).collect::<Vec<_>>();
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

    fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.keys()
    }

    fn observers(&mut self) -> &mut Observers {
        &mut self.observers
    }
}

impl From<&ObjectKey> for ServiceKey {
    fn from(object: &ObjectKey) -> Self {
        Self { namespace: object.namespace().clone(), name: object.name().clone() }
    }
}

impl From<&ServiceKey> for ObjectKey {
    fn from(service: &ServiceKey) -> Self {
        Self::new(service.namespace.clone(), service.name.clone())
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
