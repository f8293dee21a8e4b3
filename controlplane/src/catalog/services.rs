//! What the watch on Services has seen: the facts about each that do not stand in its slices.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};

use super::{Facts, ServicePort};
use crate::{
    index::{About, Family, Observer, Observers, Protocol, ServiceKey, Touches},
    watch::ObjectKey,
};

/// All Services of one watch.
#[derive(Debug, Default)]
pub(crate) struct Services {
    known: HashMap<ServiceKey, Arc<Known>>,
    observers: Observers,
}

/// One Service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) facts: Facts,
    /// `spec.ipFamilies[0]`.
    pub(crate) primary: Option<Family>,
}

// === impl Services ===

impl Services {
    /// An object was added or modified.
    pub(crate) fn apply(&mut self, object: &Service) {
        if let Some(key) = self.take_in(object) {
            self.observers.told(&key, &[]);
        }
    }

    /// An object was deleted.
    pub(crate) fn delete(&mut self, key: &ObjectKey) {
        let key = ServiceKey::of(key);
        if self.known.remove(&key).is_some() {
            self.observers.told(&key, &[]);
        }
    }

    /// A complete list: what is not in it is gone. Objects that are there but could not be read stay as they were.
    pub(crate) fn reset(&mut self, objects: &[Service], unreadable: &[ObjectKey]) {
        let listed = objects.iter().map(|object| ObjectKey::of(&object.metadata));
        let there: BTreeSet<ServiceKey> =
            listed.chain(unreadable.iter().cloned()).map(|key| ServiceKey::of(&key)).collect();
        let gone: Vec<ServiceKey> = self.known.keys().filter(|key| !there.contains(*key)).cloned().collect();
        for key in &gone {
            self.known.remove(key);
        }
        let changed: Vec<ServiceKey> = objects.iter().filter_map(|object| self.take_in(object)).collect();
        for key in gone.iter().chain(&changed) {
            self.observers.listed(key, &HashSet::new());
        }
    }

    /// What is known about one.
    pub(crate) fn get(&self, key: &ServiceKey) -> Option<&Arc<Known>> {
        self.known.get(key)
    }

    /// A further observer; every Service is new to it.
    pub(crate) fn observe(&mut self) -> Observer {
        self.observers.add(self.known.keys())
    }

    /// An observer goes.
    pub(crate) fn leave(&mut self, observer: Observer) {
        self.observers.remove(observer);
    }

    /// The Services that have changed since this observer asked last.
    pub(crate) fn touches(&mut self, observer: Observer) -> Touches {
        self.observers.take(observer)
    }

    /// Returns the Service's key if anything about it is new.
    fn take_in(&mut self, object: &Service) -> Option<ServiceKey> {
        let key = ServiceKey::of(&ObjectKey::of(&object.metadata));
        let known = Known::read(object);
        if self.known.get(&key).is_some_and(|before| **before == known) {
            return None;
        }
        self.known.insert(key.clone(), Arc::new(known));
        Some(key)
    }
}

// === impl Known ===

impl Known {
    fn read(object: &Service) -> Self {
        let About { created, labels, annotations } = About::of(&object.metadata);
        let uid = object.metadata.uid.as_deref().unwrap_or_default().into();
        let spec = object.spec.as_ref();
        let ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
        let ports = ports.filter_map(|port| {
            Some(ServicePort {
                name: port.name.as_deref().unwrap_or_default().into(),
                number: u16::try_from(port.port).ok()?,
                target: match &port.target_port {
                    Some(IntOrString::String(_)) => None,
                    Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
                    None => u16::try_from(port.port).ok(),
                }
                .filter(|number| *number > 0),
                protocol: Protocol::read(port.protocol.as_deref())?,
                app_protocol: port.app_protocol.as_deref().unwrap_or_default().into(),
            })
        });
        let facts = Facts { uid, created, labels, annotations, ports: ports.collect() };
        let families = spec.and_then(|spec| spec.ip_families.as_ref());
        let primary = families.and_then(|families| families.first()).and_then(|family| Family::read(family));
        Self { facts, primary }
    }
}
