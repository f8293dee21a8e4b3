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

use super::{
    Application, Backend, Model, PortChoice,
    known::{Last, LastSeen},
    names,
    template::Fields,
};

/// A backend without its final name.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Its name without regard to other Services; unique within its Service.
    pub(super) local: Arc<str>,
    port: Port,
    number: u16,
    service_port: u16,
    application: Application,
    app_protocol: Arc<str>,
    endpoints: Arc<[Endpoint]>,
}

impl Unit {
    pub(super) fn backend(&self, name: Arc<str>, entry: Arc<Entry>) -> Backend {
        let Self { local: _, port, number, service_port, application, app_protocol, endpoints } = self;
        Backend {
            name,
            entry,
            port: port.clone(),
            number: *number,
            service_port: *service_port,
            application: *application,
            app_protocol: app_protocol.clone(),
            endpoints: endpoints.clone(),
        }
    }
}

impl Model {
    /// The units of one Service, in the order of its ports, TCP first: of several that would have the same name the first keeps it.
    /// `last` has the last known ports of the Service.
    pub(super) fn units(&self, entry: &Entry, last: &Last) -> Vec<Unit> {
        // Slices of a Service that is scaled to zero have no ports.
        let told = entry.facts.ports.iter().map(|told| Port { name: told.name.clone(), protocol: told.protocol });
        let ports: BTreeSet<Port> = entry.view.ports().chain(last.keys()).cloned().chain(told).collect();
        let mut ports: Vec<(&Port, Option<(usize, &ServicePort)>)> =
            ports.iter().map(|port| (port, listed(entry, port))).collect();
        ports.sort_by_key(|(port, listed)| {
            // The number of a port without endpoints is assumed, so it takes no name from a port that has endpoints.
            let assumed = self.names.has_port() && entry.view.endpoints(port).is_empty();
            (port.protocol, assumed, listed.map_or(usize::MAX, |(place, _)| place), *port)
        });
        let mut units: Vec<Unit> = Vec::new();
        let mut taken: HashMap<Arc<str>, usize> = HashMap::new();
        for (port, listed) in ports {
            let (told, seen) = (listed.map(|(_, told)| told), last.get(port));
            for (number, endpoints) in self.groups(entry, port, told, seen) {
                let unit = self.unit(entry, port, told, seen, number, endpoints);
                match taken.get(&unit.local).map(|at| &mut units[*at]) {
                    // Two ports of the Service lead to the same port of the pods.
                    Some(first) if self.names.has_port() && first.port.protocol == unit.port.protocol => {
                        first.endpoints = union(&first.endpoints, &unit.endpoints);
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

    /// The groups of a port's endpoints, with their port number; each group becomes a backend.
    fn groups(
        &self,
        entry: &Entry,
        port: &Port,
        told: Option<&ServicePort>,
        seen: Option<&LastSeen>,
    ) -> Vec<(u16, Arc<[Endpoint]>)> {
        let named = self.ports.iter().any(|choice| matches!(choice, PortChoice::Named(name) if *name == port.name));
        let all = named || self.ports.is_empty();
        let chosen = |number: &u16| all || self.ports.contains(&PortChoice::Number(*number));
        let known = entry.view.endpoints(port);
        if let Some(number) = known.first().map(|first| first.address.port()).filter(chosen)
            && known.iter().all(|endpoint| endpoint.address.port() == number)
        {
            return vec![(number, entry.view.shared_endpoints(port))];
        }
        let mut groups: BTreeMap<u16, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in known.iter().filter(|endpoint| chosen(&endpoint.address.port())) {
            groups.entry(endpoint.address.port()).or_default().push(endpoint.clone());
        }
        if known.is_empty() {
            groups.extend(assumed(told, seen).into_iter().filter(chosen).map(|number| (number, Vec::new())));
        }
        if self.names.has_port() {
            return groups.into_iter().map(|(number, endpoints)| (number, endpoints.into())).collect();
        }
        let lowest = groups.keys().next().copied();
        if lowest.is_none() && !all {
            return Vec::new();
        }
        let mut endpoints: Vec<Endpoint> = groups.into_values().flatten().collect();
        endpoints.sort_by_key(|endpoint| endpoint.address);
        vec![(lowest.unwrap_or(0), endpoints.into())]
    }

    fn unit(
        &self,
        entry: &Entry,
        port: &Port,
        told: Option<&ServicePort>,
        seen: Option<&LastSeen>,
        number: u16,
        endpoints: Arc<[Endpoint]>,
    ) -> Unit {
        let said = [told.map(|told| &*told.app_protocol), Some(entry.view.app_protocol(port))];
        let before = seen.map(|seen| &*seen.app_protocol);
        let app_protocol = said.into_iter().chain([before]).flatten().find(|said| !said.is_empty());
        let app_protocol: Arc<str> = app_protocol.unwrap_or_default().into();
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

/// The assumed port numbers of a port without endpoints: those of its last ones, else the Service's.
fn assumed(told: Option<&ServicePort>, seen: Option<&LastSeen>) -> BTreeSet<u16> {
    if let Some(seen) = seen {
        return seen.numbers.clone();
    }
    told.and_then(|told| told.target.or(Some(told.number))).filter(|number| *number > 0).into_iter().collect()
}

/// The Service's entry for a port, and its index.
fn listed<'a>(entry: &'a Entry, port: &Port) -> Option<(usize, &'a ServicePort)> {
    let same = |(_, told): &(usize, &ServicePort)| told.name == port.name && told.protocol == port.protocol;
    entry.facts.ports.iter().enumerate().find(same)
}

/// A name for a unit that no other unit of its Service has.
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
    // A TCP port is distinguished by its name, a port of another protocol by the protocol.
    let first = usize::from(unit.port.protocol == Protocol::Tcp);
    let mut candidates = suffixes[first..].iter().map(|suffix| names::safe(&format!("{local}-{suffix}")));
    candidates.find(|name| !taken(name)).unwrap_or_else(|| {
        // Port names that differ only in characters which are not allowed in names. No API server has such.
        let numbered = (2_u32..).map(|n| names::safe(&format!("{local}-{n}")));
        numbered.into_iter().find(|name| !taken(name)).expect("there are more numbers than ports")
    })
}

/// Both lists merged, ordered by address. Of two endpoints with the same address, the one of the first list is kept.
fn union(first: &[Endpoint], second: &[Endpoint]) -> Arc<[Endpoint]> {
    let mut all = [first, second].concat();
    // The sort is stable: of two with the same address, the one of the first list stays in front.
    all.sort_by_key(|endpoint| endpoint.address);
    all.dedup_by_key(|endpoint| endpoint.address);
    all.into()
}
