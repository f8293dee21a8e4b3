//! What keeps the objects of one watch: it takes in what the watch tells, and remembers for each observer what has changed.

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

    /// An object was added or modified.
    fn apply(&mut self, object: &Self::Object);

    /// An object was deleted.
    fn delete(&mut self, key: &ObjectKey);

    /// A complete list: what is not in it is gone. Objects that are there but could not be read stay as they were.
    fn reset(&mut self, objects: &[Self::Object], unreadable: &[ObjectKey]);

    /// The Services that are known.
    fn services(&self) -> impl Iterator<Item = &ServiceKey>;

    /// Those who are told what has changed.
    fn observers(&mut self) -> &mut Observers;

    /// Takes in what a watch tells.
    fn fold(&mut self, event: Event<Self::Object>) {
        match event {
            Event::Reset { objects, unreadable } => self.reset(&objects, &unreadable),
            Event::Apply(object) => self.apply(&object),
            Event::Delete(key) => self.delete(&key),
        }
    }

    /// Adds an observer, to whom every Service is new.
    fn observe(&mut self) -> Observer {
        let known: Vec<ServiceKey> = self.services().cloned().collect();
        self.observers().add(known)
    }

    /// Removes an observer.
    fn leave(&mut self, observer: Observer) {
        self.observers().remove(observer);
    }

    /// The Services that have changed since this observer asked last.
    fn touches(&mut self, observer: Observer) -> Touches {
        self.observers().take(observer)
    }
}
