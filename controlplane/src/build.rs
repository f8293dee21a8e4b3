//! Builds the endpoints of one cluster from views, and bundles bursts of changes into one publication.

mod merged;

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use merged::{Merged, Part};
use snapshot::{Cluster, ClusterName, Endpoint, ServiceRef, Spoken};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    index::{Port, Protocol, ServiceKey, View},
    watch::{State, any_change},
};

/// A burst of changes is over after this time without another change.
const BURST_QUIET: Duration = Duration::from_millis(20);
/// The longest delay of a change within a burst.
const BURST_MAX: Duration = Duration::from_millis(100);

/// The choice of a Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortSelector {
    /// The only one.
    Only,
    /// By its name (`EndpointSlice.ports[].name`, which is the Service's `spec.ports[].name`).
    Named(Arc<str>),
    /// By the number that the pods listen on (`EndpointSlice.ports[].port`).
    Number(u16),
}

/// Turns views into the endpoints of one cluster. A Service that changes costs what it has itself.
#[derive(Debug)]
pub struct Projection {
    port: PortSelector,
    services: BTreeMap<ServiceKey, Projected>,
    problems: BTreeMap<ServiceKey, PortProblem>,
    merged: Merged,
}

/// What one Service contributes.
#[derive(Debug, Default)]
struct Projected {
    endpoints: Part,
    /// Its port, if it had only one, which stays chosen when another one appears.
    port: Option<Port>,
}

/// Why a Service contributes no endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortProblem {
    /// It has several ports, and none was chosen.
    Ambiguous(ServiceKey, Vec<Port>),
    /// It has ports, but not the one that was chosen.
    Missing(ServiceKey, PortSelector, Vec<Port>),
}

impl Projection {
    /// A projection of this port, without Services.
    pub fn new(port: PortSelector) -> Self {
        Self { port, services: BTreeMap::new(), problems: BTreeMap::new(), merged: Merged::default() }
    }

    /// Takes the view of a Service, or that it is gone. Returns whether there are other Services than before.
    pub fn update(&mut self, service: &ServiceKey, view: Option<&View>) -> bool {
        let known = self.services.remove(service);
        let is_other = known.is_some() != view.is_some();
        let Projected { endpoints: former, port: chosen } = known.unwrap_or_default();
        self.problems.remove(service);
        let Some(view) = view else {
            self.merged.replace(former, Part::new());
            return is_other;
        };
        let next = match self.choose(service, view, chosen.as_ref()) {
            Ok(endpoints) => part(endpoints),
            Err(problem) => {
                self.problems.insert(service.clone(), problem);
                Part::new()
            }
        };
        let endpoints = self.merged.replace(former, next);
        self.services.insert(service.clone(), Projected { endpoints, port: only_port(view).or(chosen) });
        is_other
    }

    /// Whether the Services have no endpoint, whatever its conditions.
    pub fn is_empty(&self) -> bool {
        self.merged.chosen.is_empty()
    }

    /// The cluster of the endpoints of the Services, whatever their conditions.
    pub fn cluster(&mut self, name: ClusterName) -> Cluster {
        self.merged.chosen.cluster(name)
    }

    /// Why Services contribute no endpoints.
    pub fn problems(&self) -> Vec<PortProblem> {
        let mut problems: Vec<PortProblem> = self.problems.values().cloned().collect();
        problems.sort_by_cached_key(PortProblem::to_string);
        problems
    }

    /// The Services.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &ServiceKey> {
        self.services.keys()
    }

    fn choose(&self, service: &ServiceKey, view: &View, before: Option<&Port>) -> Result<Vec<Endpoint>, PortProblem> {
        // Requests go over TCP.
        let ports: Vec<Port> = view.ports().filter(|port| port.protocol == Protocol::Tcp).cloned().collect();
        let of = Arc::new(ServiceRef { namespace: service.namespace.clone(), name: service.name.clone() });
        let all = |port: &Port| -> Vec<Endpoint> {
            let spoken = Spoken::by_app_protocol(view.app_protocol(port));
            let on = |endpoint: &Endpoint| Endpoint { spoken, service: Some(of.clone()), ..endpoint.clone() };
            view.endpoints(port).iter().map(on).collect()
        };
        let missing = || PortProblem::Missing(service.clone(), self.port.clone(), ports.clone());
        match &self.port {
            _ if ports.is_empty() => Ok(Vec::new()),
            PortSelector::Only => match (ports.as_slice(), before) {
                ([only], _) => Ok(all(only)),
                (several, Some(before)) if several.contains(before) => Ok(all(before)),
                _ => Err(PortProblem::Ambiguous(service.clone(), ports.clone())),
            },
            PortSelector::Named(name) => ports.iter().find(|port| port.name == *name).map(all).ok_or_else(missing),
            PortSelector::Number(number) => {
                let on = |endpoint: &Endpoint| endpoint.address.port() == *number;
                let found: Vec<Endpoint> = ports.iter().flat_map(all).filter(on).collect();
                let nobody = ports.iter().all(|port| view.endpoints(port).is_empty());
                if found.is_empty() && !nobody { Err(missing()) } else { Ok(found) }
            }
        }
    }
}

/// Puts the endpoints of one Service in order, each address once.
fn part(endpoints: Vec<Endpoint>) -> Part {
    let canonical = |endpoint: Endpoint| {
        let address = SocketAddr::new(endpoint.address.ip().to_canonical(), endpoint.address.port());
        Arc::new(snapshot::Endpoint::from(Endpoint { address, ..endpoint }))
    };
    let mut part: Part = endpoints.into_iter().map(canonical).collect();
    part.sort_by(|one, other| {
        let by_use = || other.is_preferred_to(one).cmp(&one.is_preferred_to(other));
        merged::address(one).cmp(&merged::address(other)).then_with(by_use)
    });
    part.dedup_by_key(|endpoint| merged::address(endpoint));
    part
}

fn only_port(view: &View) -> Option<Port> {
    let mut ports = view.ports().filter(|port| port.protocol == Protocol::Tcp);
    let first = ports.next()?;
    ports.next().is_none().then(|| first.clone())
}

/// Waits, after a first change, until a burst has ended: 20 ms without another change, or 100 ms in total.
pub async fn burst(watches: &mut [watch::Receiver<State>]) {
    let end = Instant::now() + BURST_MAX;
    loop {
        let quiet = (Instant::now() + BURST_QUIET).min(end);
        if timeout_at(quiet, any_change(watches)).await.is_err() {
            return;
        }
    }
}

impl fmt::Display for PortSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => f.write_str("(the only one)"),
            Self::Named(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Display for PortProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ports: &[Port]| {
            let names = ports.iter().map(|port| if port.name.is_empty() { "(unnamed)" } else { &*port.name });
            names.collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Ambiguous(service, ports) => {
                write!(f, "service {service} has several ports ({}): choose one by name or number", list(ports))
            }
            Self::Missing(service, wanted, ports) => {
                write!(f, "service {service} has no TCP port {wanted}; it has {}", list(ports))
            }
        }
    }
}

#[cfg(test)]
mod tests;
