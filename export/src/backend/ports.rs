//! The ports that a Service had while it had endpoints: its slices have none while it is scaled to zero.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use controlplane::{
    catalog::{Catalog, Entry},
    index::{Port, ServiceKey},
};

/// The last known ports of every Service that has had endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports(BTreeMap<ServiceKey, Last>);

/// The ports of one Service.
pub(super) type Last = BTreeMap<Port, LastSeen>;

/// What was last known of a port with endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct LastSeen {
    /// The port numbers that its endpoints listened on.
    pub(super) numbers: BTreeSet<u16>,
    /// `appProtocol`; empty where there was none.
    pub(super) app_protocol: Arc<str>,
}

impl Ports {
    /// Updates the ports from a catalog, and forgets those that no longer exist.
    pub(super) fn update(&mut self, catalog: &Catalog) {
        self.0.retain(|key, _last| catalog.services.contains_key(key));
        for entry in catalog.services.values() {
            let mut last = self.0.remove(&entry.key).unwrap_or_default();
            last.retain(|port, _seen| is_there(entry, port));
            for port in entry.view.ports() {
                let endpoints = entry.view.endpoints(port).iter();
                let numbers: BTreeSet<u16> = endpoints.map(|endpoint| endpoint.address.port()).collect();
                if !numbers.is_empty() {
                    let app_protocol = entry.view.app_protocol(port).into();
                    last.insert(port.clone(), LastSeen { numbers, app_protocol });
                }
            }
            if !last.is_empty() {
                self.0.insert(entry.key.clone(), last);
            }
        }
    }

    /// The ports of one Service.
    pub(super) fn of(&self, service: &ServiceKey) -> Option<&Last> {
        self.0.get(service)
    }
}

/// Whether the Service or its slices still have the port. Also true if no ports are known, because the Service cannot be read.
fn is_there(entry: &Entry, port: &Port) -> bool {
    let told = entry.facts.ports.iter().map(|told| (&told.name, told.protocol));
    let mut all = told.chain(entry.view.ports().map(|port| (&port.name, port.protocol))).peekable();
    all.peek().is_none() || all.any(|(name, protocol)| *name == port.name && protocol == port.protocol)
}
