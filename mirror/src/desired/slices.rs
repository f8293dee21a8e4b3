//! The slices of a mirror.

use std::collections::BTreeMap;

use controlplane::index::ServiceKey;
use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForZone},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Peer, cut};
use crate::{
    config::{Remote, Zones},
    index::{Address, Attributes, Kind, Origin, PortFacts, Slice},
    marks,
    stale::Verdict,
};

/// The slices of one remote Service, under a local name.
pub(super) fn of(
    local: &ServiceKey,
    peer: Peer<'_>,
    prefix: &str,
    origin: &Origin,
    slices: &[impl AsRef<Slice>],
    wanted: impl Fn(&PortFacts) -> bool,
    verdict: Verdict,
) -> Vec<EndpointSlice> {
    if matches!(origin.kind, Kind::ExternalName(_)) {
        return Vec::new();
    }
    let sets = cut::cut(slices, wanted);
    let hinted = sets.iter().flat_map(|set| &set.endpoints).all(|(_, said)| hints(peer.config, said).is_some());
    let source = peer.cluster.unwrap_or(&peer.config.name);
    let object = |set: cut::Set| {
        let key = format!("{source}/{}", set.place);
        let name = format!("{}-{:012x}", local.name, cut::mix(key.as_bytes()) >> 16);
        let endpoints =
            set.endpoints.iter().map(|(address, said)| endpoint(peer.config, address, said, hinted, verdict));
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(local.namespace.to_string()),
                labels: Some(labels(local, peer, prefix, origin)),
                annotations: Some(annotations(peer, origin)),
                ..ObjectMeta::default()
            },
            address_type: set.family.as_str().into(),
            endpoints: endpoints.collect(),
            ports: Some(set.ports.iter().map(port).collect()),
        }
    };
    sets.into_iter().map(object).collect()
}

fn labels(local: &ServiceKey, peer: Peer<'_>, prefix: &str, origin: &Origin) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (marks::SERVICE_NAME.into(), local.name.to_string()),
        (marks::MANAGED_BY.into(), marks::MANAGER.into()),
        (marks::MIRRORED.into(), marks::TRUE.into()),
        (marks::PREFIX.into(), prefix.to_owned()),
        (marks::SOURCE_CLUSTER.into(), peer.config.name.clone()),
        (marks::SOURCE_UID.into(), origin.uid.to_string()),
    ]);
    if origin.kind == Kind::Headless {
        labels.insert(marks::HEADLESS.into(), String::new());
    }
    labels
}

fn annotations(peer: Peer<'_>, origin: &Origin) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([
        (marks::NAMESPACE.into(), origin.key.namespace.to_string()),
        (marks::SERVICE.into(), origin.key.name.to_string()),
    ]);
    if let Some(cluster) = peer.cluster {
        annotations.insert(marks::CLUSTER.into(), cluster.to_owned());
    }
    annotations
}

/// An endpoint without `nodeName` and `targetRef`, because a local node or pod of that name is another one.
fn endpoint(remote: &Remote, address: &Address, said: &Attributes, hinted: bool, verdict: Verdict) -> Endpoint {
    let lost = verdict == Verdict::NotReady;
    let zones = hints(remote, said).filter(|_| hinted);
    Endpoint {
        addresses: vec![address.ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(!said.unready && !lost),
            serving: Some(!said.unserving && !lost),
            terminating: Some(said.terminating),
        }),
        hostname: address.hostname.as_deref().map(str::to_owned),
        zone: zone(remote, said),
        hints: zones.map(|zones| EndpointHints {
            for_zones: Some(zones.iter().map(|zone| ForZone { name: zone.clone() }).collect()),
            ..EndpointHints::default()
        }),
        ..Endpoint::default()
    }
}

fn zone(remote: &Remote, said: &Attributes) -> Option<String> {
    let zone = said.zone.as_deref()?;
    match &remote.zones {
        Zones::Keep => Some(zone.to_owned()),
        Zones::Drop => None,
        Zones::Map(names) => names.get(zone).cloned(),
    }
}

fn hints<'a>(remote: &'a Remote, said: &Attributes) -> Option<&'a Vec<String>> {
    let named = said.zone.as_deref().and_then(|zone| remote.hints.get(zone));
    named.or_else(|| remote.hints.get("*"))
}

fn port(port: &PortFacts) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.to_string()),
        protocol: Some(port.protocol.to_string()),
        port: port.number,
        app_protocol: port.app_protocol.as_deref().map(str::to_owned),
    }
}
