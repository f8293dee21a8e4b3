//! The Service of a mirror.

use std::collections::BTreeMap;

use controlplane::index::ServiceKey;
use k8s_openapi::{
    api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{Peer, families};
use crate::{
    config::Remote,
    index::{Kind, Origin},
    marks,
};

/// The mirror of one remote Service.
pub(super) fn plain(local: &ServiceKey, peer: Peer<'_>, origin: &Origin) -> Service {
    let mut annotations = copied_annotations(peer.config, origin);
    annotations.extend([
        (marks::REMOTE.to_owned(), peer.config.name.clone()),
        (marks::NAMESPACE.to_owned(), origin.key.namespace.to_string()),
        (marks::SERVICE.to_owned(), origin.key.name.to_string()),
        (marks::UID.to_owned(), origin.uid.to_string()),
    ]);
    if let Some(cluster) = peer.cluster {
        annotations.insert(marks::CLUSTER.into(), cluster.to_owned());
    }
    object(local, &peer.config.prefix, peer.config, origin, origin.ports.clone(), annotations)
}

/// A Service made like one of a remote, with other ports and annotations.
pub(super) fn object(
    local: &ServiceKey,
    prefix: &str,
    remote: &Remote,
    origin: &Origin,
    ports: Vec<ServicePort>,
    annotations: BTreeMap<String, String>,
) -> Service {
    let mut labels: BTreeMap<String, String> =
        remote.labels.pick(&origin.labels).map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.insert(marks::MIRRORED.into(), marks::TRUE.into());
    labels.insert(marks::PREFIX.into(), prefix.to_owned());
    Service {
        metadata: ObjectMeta {
            name: Some(local.name.to_string()),
            namespace: Some(local.namespace.to_string()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(spec(remote, origin, ports)),
        status: None,
    }
}

/// The annotations that are copied, and the annotation that lists their keys.
pub(super) fn copied_annotations(remote: &Remote, origin: &Origin) -> BTreeMap<String, String> {
    let mut copied: BTreeMap<String, String> =
        remote.annotations.pick(&origin.annotations).map(|(key, value)| (key.clone(), value.clone())).collect();
    if !copied.is_empty() {
        let keys: Vec<&str> = copied.keys().map(String::as_str).collect();
        copied.insert(marks::COPIED.into(), keys.join(","));
    }
    copied
}

/// The spec without node ports, load balancers, external addresses and selector, which mean nothing in the local cluster.
fn spec(remote: &Remote, origin: &Origin, ports: Vec<ServicePort>) -> ServiceSpec {
    let ports: Vec<ServicePort> = ports.into_iter().map(port).collect();
    let ports = (!ports.is_empty()).then_some(ports);
    if let Kind::ExternalName(alias) = &origin.kind {
        return ServiceSpec {
            type_: Some("ExternalName".into()),
            external_name: Some(alias.clone()),
            ports,
            session_affinity: Some("None".into()),
            ..ServiceSpec::default()
        };
    }
    let (ip_family_policy, ip_families) = families(&origin.families);
    ServiceSpec {
        type_: Some("ClusterIP".into()),
        cluster_ip: (origin.kind == Kind::Headless).then(|| "None".into()),
        ip_family_policy,
        ip_families,
        ports,
        session_affinity: Some(if origin.affinity.is_some() { "ClientIP" } else { "None" }.into()),
        session_affinity_config: origin.affinity.map(|seconds| SessionAffinityConfig {
            client_ip: Some(ClientIPConfig { timeout_seconds: Some(seconds) }),
        }),
        // No endpoint is on a local node, so that `Local` would drop all traffic.
        internal_traffic_policy: Some("Cluster".into()),
        publish_not_ready_addresses: origin.publish_not_ready.then_some(true),
        traffic_distribution: origin.traffic_distribution.clone().filter(|_| remote.traffic_distribution),
        ..ServiceSpec::default()
    }
}

fn port(port: ServicePort) -> ServicePort {
    ServicePort {
        node_port: None,
        protocol: Some(port.protocol.unwrap_or_else(|| "TCP".into())),
        target_port: Some(port.target_port.unwrap_or(IntOrString::Int(port.port))),
        ..port
    }
}
