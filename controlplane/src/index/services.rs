//! The Services of a watch, with the facts that their slices do not have.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};

use super::{About, IpFamily, Observers, Protocol, ServiceKey, Store};
use crate::watch::{ObjectKey, vanished};

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
    pub(crate) primary: Option<IpFamily>,
}

/// What is known about a Service besides its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `metadata.uid`; empty if only slices are known.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp`, in seconds since 1970; without a Service that of the oldest slice.
    pub created: i64,
    /// `metadata.labels`; of several slices the oldest one's.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`, without kubectl's copy of the object; of several slices the oldest one's.
    pub annotations: BTreeMap<String, String>,
    /// `spec.ports`, or the ports of the slices.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service (`Service.spec.ports[]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty for an unnamed one.
    pub name: Arc<str>,
    /// `port`: the Service's own number, not its endpoints'; 0 if only slices are known.
    pub number: u16,
    /// `targetPort`, the number that its endpoints listen on; none if it is the name of a container port.
    pub target: Option<u16>,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// `appProtocol`; empty if there is none.
    pub app_protocol: Arc<str>,
}

// === impl Services ===

impl Store for Services {
    type Object = Service;

    fn apply(&mut self, object: &Service) {
        if let Some(key) = self.insert(object) {
            self.observers.told(&key, &[]);
        }
    }

    fn delete(&mut self, key: &ObjectKey) {
        let key = ServiceKey::from(key);
        if self.known.remove(&key).is_some() {
            self.observers.told(&key, &[]);
        }
    }

    fn reset(&mut self, objects: &[Service], unreadable: &[ObjectKey]) {
        let gone = vanished(self.known.keys(), objects, unreadable);
        for key in &gone {
            self.known.remove(key);
        }
        let changed: Vec<ServiceKey> = objects.iter().filter_map(|object| self.insert(object)).collect();
        for key in gone.iter().chain(&changed) {
            self.observers.listed(key, &HashSet::new());
        }
    }

    fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.known.keys()
    }

    fn observers(&mut self) -> &mut Observers {
        &mut self.observers
    }
}

impl Services {
    /// The facts of one Service.
    pub(crate) fn get(&self, key: &ServiceKey) -> Option<&Arc<Known>> {
        self.known.get(key)
    }

    /// Adds or replaces a Service. Returns its key if it has changed.
    fn insert(&mut self, object: &Service) -> Option<ServiceKey> {
        let key = ServiceKey::from(&ObjectKey::of(&object.metadata));
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
        let primary = families.and_then(|families| families.first()).and_then(|family| IpFamily::read(family));
        Self { facts, primary }
    }
}
