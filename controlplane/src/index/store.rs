//! Stores of the objects of one watch, which record the changes for each observer.

use std::fmt::Debug;

use kube::{Resource, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;

use super::{Observer, Observers, ServiceKey, Touches};
use crate::watch::{Event, ObjectKey};

/// Keeps the objects of one kind, by Service.
pub(crate) trait Store: Send + 'static {
    /// The kind.
    type Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static;

    /// Adds or replaces an object.
    fn apply(&mut self, object: &Self::Object);

    /// Removes an object.
    fn delete(&mut self, key: &ObjectKey);

    /// Replaces everything by a complete list. Objects that exist but could not be read stay as they were.
    fn reset(&mut self, objects: &[Self::Object], unreadable: &[ObjectKey]);

    /// The Services that are known.
    fn services(&self) -> impl Iterator<Item = &ServiceKey>;

    /// The observers of the store.
    fn observers(&mut self) -> &mut Observers;

    /// Applies an event of the watch.
    fn fold(&mut self, event: Event<Self::Object>) {
        match event {
            Event::Reset { objects, unreadable } => self.reset(&objects, &unreadable),
            Event::Apply(object) => self.apply(&object),
            Event::Delete(key) => self.delete(&key),
        }
    }

    /// Adds an observer, for which every Service counts as changed.
    fn observe(&mut self) -> Observer {
        let known: Vec<ServiceKey> = self.services().cloned().collect();
        self.observers().add(known)
    }

    /// Removes an observer.
    fn leave(&mut self, observer: Observer) {
        self.observers().remove(observer);
    }

    /// The Services that have changed since the last call for this observer.
    fn touches(&mut self, observer: Observer) -> Touches {
        self.observers().take(observer)
    }
}
