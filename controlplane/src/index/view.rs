//! The view of one Service: for each of its ports the endpoints of all its slices, each pod once.

use std::{
    collections::{BTreeMap, HashSet, btree_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use snapshot::Endpoint;

use super::slice::Slice;

/// A port of a Service (`EndpointSlice.ports[]`). Its number may differ from endpoint to endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// Its name; empty for the unnamed port of a Service that has no other.
    pub name: Arc<str>,
    /// Its transport protocol.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `TCP`, which is the default.
    Tcp,
    /// `UDP`.
    Udp,
    /// `SCTP`.
    Sctp,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

/// A Service's endpoints by port. The same endpoints give the same view, whatever slices they came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct View {
    ports: BTreeMap<Port, OnPort>,
    portless: Vec<Endpoint>,
    dual_stack: bool,
}

/// The endpoints and the application protocol of one port.
#[derive(Debug, Default, PartialEq, Eq)]
struct OnPort {
    app_protocol: Arc<str>,
    endpoints: Arc<[Endpoint]>,
}

/// Endpoints under construction, each address once.
type Gathered = BTreeMap<SocketAddr, Endpoint>;

impl View {
    /// Merges slices. Where a pod has addresses of both families it counts once, with the address of the primary one;
    /// if that is not known, that of the family with more endpoints, and of IPv4 if both have equally many.
    pub(super) fn merge<'a>(slices: impl Iterator<Item = &'a Slice>, primary: Option<IpFamily>) -> Self {
        let mut ports: BTreeMap<Port, (Arc<str>, Gathered)> = BTreeMap::new();
        let mut portless = Gathered::new();
        let (mut v4, mut v6) = (HashSet::new(), HashSet::new());
        let mut count = |endpoint: &Endpoint| match endpoint.address.ip() {
            IpAddr::V4(ip) => v4.insert(ip),
            IpAddr::V6(ip) => v6.insert(ip),
        };
        for slice in slices {
            // A port without endpoints is still a port of the Service.
            for (port, app_protocol) in slice.ports() {
                match ports.get_mut(port) {
                    None => drop(ports.insert(port.clone(), (app_protocol.clone(), Gathered::new()))),
                    // Slices may differ for a moment while the controller changes the port.
                    Some((known, _)) if *known < *app_protocol => known.clone_from(app_protocol),
                    Some(_) => {}
                }
            }
            for (port, endpoint) in slice.endpoints() {
                count(&endpoint);
                if let Some((_, endpoints)) = ports.get_mut(port) {
                    gather(endpoints, endpoint);
                }
            }
            for endpoint in slice.portless() {
                count(endpoint);
                gather(&mut portless, endpoint.clone());
            }
        }
        let family = primary.unwrap_or(if v6.len() > v4.len() { IpFamily::V6 } else { IpFamily::V4 });
        let on_port = |(port, (app_protocol, endpoints))| {
            (port, OnPort { app_protocol, endpoints: each_pod_once(endpoints, family).into() })
        };
        let ports = ports.into_iter().map(on_port).collect();
        let portless = each_pod_once(portless, family);
        Self { ports, portless, dual_stack: !v4.is_empty() && !v6.is_empty() }
    }

    /// The ports, ordered by name.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.keys()
    }

    /// The endpoints of one port, ordered by address, whatever their conditions.
    pub fn endpoints(&self, port: &Port) -> &[Endpoint] {
        self.ports.get(port).map_or(&[], |on| &*on.endpoints)
    }

    /// The same as [`endpoints`](Self::endpoints), for who keeps them.
    pub fn shared_endpoints(&self, port: &Port) -> Arc<[Endpoint]> {
        self.ports.get(port).map(|on| on.endpoints.clone()).unwrap_or_default()
    }

    /// The application protocol of one port (`EndpointSlice.ports[].appProtocol`); empty if there is none.
    pub fn app_protocol(&self, port: &Port) -> &str {
        self.ports.get(port).map_or("", |on| &on.app_protocol)
    }

    /// The endpoints of slices without a port, ordered by address: those of a headless Service that declares none. Their
    /// port is 0.
    pub fn portless(&self) -> &[Endpoint] {
        &self.portless
    }

    /// Every address on every port; port 0 where there is none.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let on_ports = self.ports.values().flat_map(|on| &*on.endpoints);
        on_ports.chain(&self.portless).map(|endpoint| endpoint.address)
    }

    /// Whether there are endpoints of both address families.
    pub fn is_dual_stack(&self) -> bool {
        self.dual_stack
    }
}

impl Protocol {
    /// Reads the field `protocol`; none for an unknown one.
    pub(crate) fn read(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// As in the field `protocol`: `TCP`, `UDP` or `SCTP`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl IpFamily {
    /// Reads `spec.ipFamilies[]` of a Service.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }

    fn of(endpoint: &Endpoint) -> Self {
        if endpoint.address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Adds an endpoint, which may be in two slices for a moment while the controller moves it.
fn gather(endpoints: &mut Gathered, endpoint: Endpoint) {
    match endpoints.entry(endpoint.address) {
        Entry::Vacant(place) => {
            place.insert(endpoint);
        }
        Entry::Occupied(mut place) if rank(&endpoint) < rank(place.get()) => {
            place.insert(endpoint);
        }
        Entry::Occupied(_) => {}
    }
}

/// Keeps one address for each pod. Endpoints without a pod are distinguished by their addresses.
fn each_pod_once(endpoints: BTreeMap<SocketAddr, Endpoint>, family: IpFamily) -> Vec<Endpoint> {
    let mut pods: BTreeMap<Arc<str>, Endpoint> = BTreeMap::new();
    let mut kept = Vec::with_capacity(endpoints.len());
    let preference =
        |endpoint: &Endpoint| (IpFamily::of(endpoint) != family, !endpoint.conditions.ready, endpoint.address);
    for endpoint in endpoints.into_values() {
        let uid = endpoint.pod.as_ref().map(|pod| pod.uid.clone()).filter(|uid| !uid.is_empty());
        let Some(uid) = uid else {
            kept.push(endpoint);
            continue;
        };
        match pods.entry(uid) {
            Entry::Vacant(place) => {
                place.insert(endpoint);
            }
            Entry::Occupied(mut place) if preference(&endpoint) < preference(place.get()) => {
                place.insert(endpoint);
            }
            Entry::Occupied(_) => {}
        }
    }
    kept.extend(pods.into_values());
    kept.sort_by_key(|endpoint| endpoint.address);
    kept
}

/// The order of one address's endpoints in several slices: the most useful first, the rest by content.
fn rank(endpoint: &Endpoint) -> impl Ord + '_ {
    let conditions = endpoint.conditions;
    let pod = endpoint.pod.as_ref().map(|pod| (&pod.namespace, &pod.name, &pod.uid));
    let usefulness = (!conditions.ready, !conditions.serving, conditions.terminating);
    (usefulness, pod.is_none(), pod, &endpoint.hostname, &endpoint.node, &endpoint.zone)
}
