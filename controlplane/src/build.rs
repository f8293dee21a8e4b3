//! Builds the endpoints of one cluster from views, and bundles bursts of changes into one publication.

use std::{collections::HashMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use snapshot::{Endpoint, ServiceRef, Spoken};
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

/// Turns views into the endpoints of one cluster.
#[derive(Debug)]
pub struct Projection {
    port: PortSelector,
    /// The port of each Service that had only one, which stays chosen when another one appears.
    chosen: HashMap<ServiceKey, Port>,
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
    /// A projection of this port.
    pub fn new(port: PortSelector) -> Self {
        Self { port, chosen: HashMap::new() }
    }

    /// The endpoints of these Services, whatever their conditions, and the problems.
    pub fn endpoints<'a>(
        &mut self,
        views: impl Iterator<Item = (&'a ServiceKey, Arc<View>)>,
    ) -> (Vec<Endpoint>, Vec<PortProblem>) {
        let (mut endpoints, mut problems) = (Vec::new(), Vec::new());
        let mut chosen = HashMap::new();
        for (service, view) in views {
            match self.choose(service, &view) {
                Ok(found) => endpoints.extend(found),
                Err(problem) => problems.push(problem),
            }
            let only = only_port(&view).or_else(|| self.chosen.get(service).cloned());
            chosen.extend(only.map(|port| (service.clone(), port)));
        }
        // Forgets Services that no longer exist.
        self.chosen = chosen;
        problems.sort_by_key(PortProblem::to_string);
        (each_pod_once(endpoints), problems)
    }

    fn choose(&self, service: &ServiceKey, view: &View) -> Result<Vec<Endpoint>, PortProblem> {
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
            PortSelector::Only => match (ports.as_slice(), self.chosen.get(service)) {
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

/// Several Services may have the same pods: if they have different addresses of a pod for the same port, one is kept, IPv4 before
/// IPv6. (The same address twice is merged by [`snapshot::Cluster`].)
fn each_pod_once(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut kept: HashMap<(Arc<str>, u16), SocketAddr> = HashMap::new();
    let place = |endpoint: &Endpoint| {
        let uid = endpoint.pod.as_ref().map(|pod| pod.uid.clone()).filter(|uid| !uid.is_empty());
        uid.map(|uid| (uid, endpoint.address.port()))
    };
    for endpoint in &endpoints {
        let Some(place) = place(endpoint) else { continue };
        // IPv4 addresses order before IPv6 ones.
        kept.entry(place).and_modify(|first| *first = endpoint.address.min(*first)).or_insert(endpoint.address);
    }
    endpoints.retain(|endpoint| place(endpoint).is_none_or(|place| kept[&place] == endpoint.address));
    endpoints
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
