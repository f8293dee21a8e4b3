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
    /// `TCP`, also where nothing is said.
    Tcp,
    /// `UDP`.
    Udp,
    /// `SCTP`.
    Sctp,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

/// A Service's endpoints by port. The same endpoints give the same view, whatever slices they came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct View {
    ports: BTreeMap<Port, Vec<Endpoint>>,
    dual_stack: bool,
}

impl View {
    /// Merges slices. Where a pod has addresses of both families it counts once, with the address of the primary one;
    /// where that is not known, the family that more endpoints have, and IPv4 where both have as many.
    pub(super) fn merge<'a>(slices: impl Iterator<Item = &'a Slice>, primary: Option<Family>) -> Self {
        let mut ports: BTreeMap<Port, BTreeMap<SocketAddr, Endpoint>> = BTreeMap::new();
        let (mut v4, mut v6) = (HashSet::new(), HashSet::new());
        for slice in slices {
            // A port counts as one of the Service's also while nobody serves on it.
            for port in slice.ports() {
                if !ports.contains_key(port) {
                    ports.insert(port.clone(), BTreeMap::new());
                }
            }
            for (port, endpoint) in slice.endpoints() {
                match endpoint.address.ip() {
                    IpAddr::V4(ip) => v4.insert(ip),
                    IpAddr::V6(ip) => v6.insert(ip),
                };
                let Some(endpoints) = ports.get_mut(port) else { continue };
                match endpoints.entry(endpoint.address) {
                    Entry::Vacant(place) => {
                        place.insert(endpoint);
                    }
                    // For a moment, while the controller moves it, an endpoint may be in two slices.
                    Entry::Occupied(mut place) if rank(&endpoint) < rank(place.get()) => {
                        place.insert(endpoint);
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        let family = primary.unwrap_or(if v6.len() > v4.len() { Family::V6 } else { Family::V4 });
        let ports = ports.into_iter().map(|(port, endpoints)| (port, each_pod_once(endpoints, family))).collect();
        Self { ports, dual_stack: !v4.is_empty() && !v6.is_empty() }
    }

    /// The ports, ordered by name.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.keys()
    }

    /// The endpoints of one port, ordered by address, whatever their conditions.
    pub fn endpoints(&self, port: &Port) -> &[Endpoint] {
        self.ports.get(port).map_or(&[], Vec::as_slice)
    }

    /// Whether there are endpoints of both address families.
    pub fn is_dual_stack(&self) -> bool {
        self.dual_stack
    }
}

impl Family {
    fn of(endpoint: &Endpoint) -> Self {
        if endpoint.address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Keeps one address for each pod. Endpoints without a pod are told apart by their address alone.
fn each_pod_once(endpoints: BTreeMap<SocketAddr, Endpoint>, family: Family) -> Vec<Endpoint> {
    let mut pods: BTreeMap<Arc<str>, Endpoint> = BTreeMap::new();
    let mut kept = Vec::with_capacity(endpoints.len());
    let preference =
        |endpoint: &Endpoint| (Family::of(endpoint) != family, !endpoint.conditions.ready, endpoint.address);
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

/// Sorts what is told about one address in several slices: the most useful first, the rest by content.
fn rank(endpoint: &Endpoint) -> impl Ord + '_ {
    let conditions = endpoint.conditions;
    let pod = endpoint.pod.as_ref().map(|pod| (&pod.namespace, &pod.name, &pod.uid));
    let usefulness = (!conditions.ready, !conditions.serving, conditions.terminating);
    (usefulness, pod.is_none(), pod, &endpoint.hostname, &endpoint.node, &endpoint.zone)
}
