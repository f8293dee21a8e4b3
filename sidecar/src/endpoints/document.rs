//! The JSON of a service: a v1 Endpoints object, made from its slices. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use controlplane::{
    catalog::Entry,
    index::{Port, View},
};
use jiff::Timestamp;
use serde::Serialize;
use snapshot::Endpoint;

/// Labels of slices that are not copied from their Service.
const SLICE_LABELS: [&str; 2] = ["kubernetes.io/service-name", "endpointslice.kubernetes.io/"];

/// A v1 Endpoints object, with the fields in the order in which Kubernetes has them.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    metadata: Metadata<'a>,
    subsets: Vec<Subset<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    /// Null if there is no slice.
    creation_timestamp: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
}

/// Addresses that serve on the same ports.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Subset<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_ready_addresses: Vec<Address<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<SubsetPort<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Address<'a> {
    ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_ref: Option<TargetRef<'a>>,
}

#[derive(Debug, Serialize)]
struct TargetRef<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct SubsetPort<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    port: u16,
    protocol: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    app_protocol: &'a str,
}

/// One address with its ports, by readiness.
#[derive(Default)]
struct Served<'a> {
    endpoint: Option<&'a Endpoint>,
    ports: BTreeSet<SubsetPort<'a>>,
}

impl<'a> Document<'a> {
    /// The object of one service.
    pub(super) fn new(entry: &'a Entry) -> Self {
        let known = entry.facts.created > 0;
        let created = known.then(|| Timestamp::from_second(entry.facts.created).ok()).flatten();
        let labels =
            entry.facts.labels.iter().filter(|(key, _value)| !SLICE_LABELS.iter().any(|of| key.starts_with(of)));
        let metadata = Metadata {
            name: &entry.key.name,
            namespace: &entry.key.namespace,
            creation_timestamp: created.map(|time| time.to_string()),
            labels: labels.map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        };
        Self { metadata, subsets: subsets(&entry.view) }
    }
}

/// Whether v1 Endpoints list it: they omit terminating endpoints, unless these are published as ready.
pub(super) fn is_listed(endpoint: &Endpoint) -> bool {
    endpoint.conditions.ready || !endpoint.conditions.terminating
}

/// Every endpoint on every port; port 0 where there is none.
pub(super) fn endpoints(view: &View) -> impl Iterator<Item = (Option<&Port>, &Endpoint)> {
    let on_ports =
        view.ports().flat_map(|port| view.endpoints(port).iter().map(move |endpoint| (Some(port), endpoint)));
    on_ports.chain(view.portless().iter().map(|endpoint| (None, endpoint))).filter(|(_, endpoint)| is_listed(endpoint))
}

/// Groups addresses that serve on the same ports, as Kubernetes does, in an order that depends on the endpoints alone.
fn subsets(view: &View) -> Vec<Subset<'_>> {
    let mut served: BTreeMap<(IpAddr, bool), Served<'_>> = BTreeMap::new();
    for (port, endpoint) in endpoints(view) {
        let one = served.entry((endpoint.address.ip(), endpoint.conditions.ready)).or_default();
        one.endpoint.get_or_insert(endpoint);
        one.ports.extend(port.map(|port| subset_port(view, port, endpoint.address)));
    }
    let mut subsets: BTreeMap<BTreeSet<SubsetPort<'_>>, Subset<'_>> = BTreeMap::new();
    for ((ip, ready), Served { endpoint, ports }) in served {
        let empty = || Subset { addresses: Vec::new(), not_ready_addresses: Vec::new(), ports: Vec::new() };
        let subset = subsets.entry(ports).or_insert_with(empty);
        let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.extend(endpoint.map(|endpoint| address(ip, endpoint)));
    }
    for (ports, subset) in &mut subsets {
        subset.ports = ports.iter().cloned().collect();
    }
    subsets.into_values().collect()
}

fn subset_port<'a>(view: &'a View, port: &'a Port, address: SocketAddr) -> SubsetPort<'a> {
    SubsetPort {
        name: &port.name,
        port: address.port(),
        protocol: port.protocol.as_str(),
        app_protocol: view.app_protocol(port),
    }
}

fn address(ip: IpAddr, endpoint: &Endpoint) -> Address<'_> {
    let target_ref = endpoint.pod.as_ref().map(|pod| TargetRef {
        kind: "Pod",
        namespace: &pod.namespace,
        name: &pod.name,
        uid: &pod.uid,
    });
    Address { ip, hostname: endpoint.hostname.as_deref(), node_name: endpoint.node.as_deref(), target_ref }
}

#[cfg(test)]
pub(super) mod tests;
