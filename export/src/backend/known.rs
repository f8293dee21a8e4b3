//! What is known of each Service: its entry, the ports that become backends, and the ports that it had while it had endpoints, because
//! its slices have none while it is scaled to zero.
//!
//! A Service whose entry is still the same one is not looked at again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use controlplane::{
    catalog::{Catalog, Entry},
    index::Port,
};

use super::{Model, units::Unit};

/// The Services of the last catalog, ordered by namespace and name.
#[derive(Clone, Debug, Default)]
pub(super) struct Services(Vec<Known>);

/// What is known of one Service.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) entry: Arc<Entry>,
    pub(super) units: Vec<Unit>,
    last: Last,
}

/// The last known ports of a Service that had endpoints.
pub(super) type Last = BTreeMap<Port, LastSeen>;

/// What was last known of a port with endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct LastSeen {
    /// The port numbers that its endpoints listened on.
    pub(super) numbers: BTreeSet<u16>,
    /// `appProtocol`; empty where there was none.
    pub(super) app_protocol: Arc<str>,
}

impl Services {
    /// Takes the next catalog. Returns whether anything is different that decides about names: the Services, their ages, or the
    /// names that their units want.
    pub(super) fn update(&mut self, model: &Model, catalog: &Catalog) -> bool {
        let mut is_other = self.0.len() != catalog.services.len();
        let mut before = std::mem::take(&mut self.0).into_iter().peekable();
        let services = catalog.services.values().map(|entry| {
            // Both are ordered by the key.
            while before.next_if(|known| known.entry.key < entry.key).is_some() {}
            match before.next_if(|known| known.entry.key == entry.key) {
                Some(known) if Arc::ptr_eq(&known.entry, entry) => known,
                former => {
                    let last = former.as_ref().map(|former| former.last.clone()).unwrap_or_default();
                    let known = Known::new(model, entry.clone(), last);
                    is_other |= former.is_none_or(|former| !former.wants_names_of(&known));
                    known
                }
            }
        });
        self.0 = services.collect();
        is_other
    }

    pub(super) fn all(&self) -> &[Known] {
        &self.0
    }
}

impl Known {
    /// `last` has the ports that were known before; those that no longer exist are forgotten.
    fn new(model: &Model, entry: Arc<Entry>, mut last: Last) -> Self {
        last.retain(|port, _seen| is_there(&entry, port));
        for port in entry.view.ports() {
            let endpoints = entry.view.endpoints(port).iter();
            let numbers: BTreeSet<u16> = endpoints.map(|endpoint| endpoint.address.port()).collect();
            if !numbers.is_empty() {
                let app_protocol = entry.view.app_protocol(port).into();
                last.insert(port.clone(), LastSeen { numbers, app_protocol });
            }
        }
        let units = model.units(&entry, &last);
        Self { entry, units, last }
    }

    /// Whether the other one, of the same Service, is as old and has units of the same names in the same order.
    fn wants_names_of(&self, other: &Self) -> bool {
        self.entry.facts.created == other.entry.facts.created
            && self.units.iter().map(|unit| &unit.local).eq(other.units.iter().map(|unit| &unit.local))
    }
}

/// Whether the Service or its slices still have the port. Also true if no ports are known, because the Service cannot be read.
fn is_there(entry: &Entry, port: &Port) -> bool {
    let told = entry.facts.ports.iter().map(|told| (&told.name, told.protocol));
    let mut all = told.chain(entry.view.ports().map(|port| (&port.name, port.protocol))).peekable();
    all.peek().is_none() || all.any(|(name, protocol)| *name == port.name && protocol == port.protocol)
}
