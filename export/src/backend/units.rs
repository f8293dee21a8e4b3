//! The ports of one Service that become backends, before they are named.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use controlplane::{
    catalog::{Entry, ServicePort},
    index::{Port, Protocol},
};
use snapshot::Endpoint;

use super::{Application, Backend, Model, PortChoice, names, template::Fields};

/// A backend without its final name.
#[derive(Debug)]
pub(super) struct Unit {
    /// Its name as far as its own Service decides it; unique within the Service.
    pub(super) local: Arc<str>,
    port: Port,
    number: u16,
    service_port: u16,
    application: Application,
    app_protocol: Arc<str>,
    endpoints: Vec<Endpoint>,
}

impl Unit {
    pub(super) fn into_backend(self, name: Arc<str>, entry: Arc<Entry>) -> Backend {
        Backend {
            name,
            entry,
            port: self.port,
            number: self.number,
            service_port: self.service_port,
            application: self.application,
            app_protocol: self.app_protocol,
            endpoints: self.endpoints,
        }
    }
}

impl Model {
    /// The units of one Service, in the order in which it lists its ports, TCP first: the first of several that would have
    /// the same name keeps it.
    pub(super) fn units(&self, entry: &Entry) -> Vec<Unit> {
        let mut ports: BTreeSet<Port> = entry.view.ports().cloned().collect();
        if !self.names.has_port() {
            // Slices tell nothing about the ports of a Service that has been scaled to nothing.
            ports
                .extend(entry.facts.ports.iter().map(|told| Port { name: told.name.clone(), protocol: told.protocol }));
        }
        let mut ports: Vec<(&Port, Option<(usize, &ServicePort)>)> =
            ports.iter().map(|port| (port, listed(entry, port))).collect();
        ports.sort_by_key(|(port, listed)| (port.protocol, listed.map_or(usize::MAX, |(place, _)| place), *port));
        let mut units: Vec<Unit> = Vec::new();
        let mut taken: HashMap<Arc<str>, usize> = HashMap::new();
        for (port, listed) in ports {
            for (number, endpoints) in self.groups(entry, port) {
                let unit = self.unit(entry, port, listed.map(|(_, told)| told), number, endpoints);
                match taken.get(&unit.local).map(|at| &mut units[*at]) {
                    // Two names for one port of the pods.
                    Some(first) if self.names.has_port() && first.port.protocol == unit.port.protocol => {
                        first.endpoints = union(std::mem::take(&mut first.endpoints), unit.endpoints);
                        continue;
                    }
                    _ => {}
                }
                let local = distinct(&unit, |name| taken.contains_key(name));
                taken.insert(local.clone(), units.len());
                units.push(Unit { local, ..unit });
            }
        }
        for unit in &mut units {
            unit.endpoints = self.members.of(std::mem::take(&mut unit.endpoints));
        }
        units
    }

    /// The endpoints of a port that become a backend each.
    fn groups(&self, entry: &Entry, port: &Port) -> Vec<(u16, Vec<Endpoint>)> {
        let named = self.ports.iter().any(|choice| matches!(choice, PortChoice::Named(name) if *name == port.name));
        let numbered = |number: u16| self.ports.contains(&PortChoice::Number(number));
        let all = named || self.ports.is_empty();
        let chosen = entry.view.endpoints(port).iter().filter(|endpoint| all || numbered(endpoint.address.port()));
        if !self.names.has_port() {
            let endpoints: Vec<Endpoint> = chosen.cloned().collect();
            let lowest = endpoints.iter().map(|endpoint| endpoint.address.port()).min();
            return if all || lowest.is_some() { vec![(lowest.unwrap_or(0), endpoints)] } else { Vec::new() };
        }
        let mut groups: BTreeMap<u16, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in chosen {
            groups.entry(endpoint.address.port()).or_default().push(endpoint.clone());
        }
        groups.into_iter().collect()
    }

    fn unit(
        &self,
        entry: &Entry,
        port: &Port,
        told: Option<&ServicePort>,
        number: u16,
        endpoints: Vec<Endpoint>,
    ) -> Unit {
        let in_slices = entry.view.app_protocol(port);
        let app_protocol: Arc<str> = match told {
            Some(told) if !told.app_protocol.is_empty() => told.app_protocol.clone(),
            _ => in_slices.into(),
        };
        let application = Application::of(port.protocol, &app_protocol, &port.name);
        let service_port = told.map_or(0, |told| told.number);
        let local = names::safe(&self.names.fill(Fields {
            service: &entry.key.name,
            namespace: &entry.key.namespace,
            port: number,
            port_name: &port.name,
            service_port,
            protocol: application,
        }));
        Unit { local, port: port.clone(), number, service_port, application, app_protocol, endpoints }
    }
}

/// What the Service says about a port, and where in its list.
fn listed<'a>(entry: &'a Entry, port: &Port) -> Option<(usize, &'a ServicePort)> {
    let same = |(_, told): &(usize, &ServicePort)| told.name == port.name && told.protocol == port.protocol;
    entry.facts.ports.iter().enumerate().find(same)
}

/// A name for a unit that no other of its Service has.
fn distinct(unit: &Unit, taken: impl Fn(&str) -> bool) -> Arc<str> {
    let local = &unit.local;
    if !taken(local) {
        return local.clone();
    }
    let transport = match unit.port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let port = if unit.port.name.is_empty() { unit.number.to_string() } else { unit.port.name.to_string() };
    let suffixes = [transport.to_owned(), port.clone(), format!("{port}-{transport}-{}", unit.number)];
    // A TCP port is told apart by what it is called, one of another protocol by that.
    let first = usize::from(unit.port.protocol == Protocol::Tcp);
    let mut candidates = suffixes[first..].iter().map(|suffix| names::safe(&format!("{local}-{suffix}")));
    candidates.find(|name| !taken(name)).unwrap_or_else(|| {
        // Names of ports that differ only in what cannot stand in a name: not from an API server.
        let numbered = (2_u32..).map(|n| names::safe(&format!("{local}-{n}")));
        numbered.into_iter().find(|name| !taken(name)).expect("there are more numbers than ports")
    })
}

/// Both lists as one, ordered by address; where both have one, the first list's.
fn union(first: Vec<Endpoint>, second: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut all = first;
    all.extend(second);
    // Stable: of two with one address the first list's stays in front.
    all.sort_by_key(|endpoint| endpoint.address);
    all.dedup_by_key(|endpoint| endpoint.address);
    all
}
