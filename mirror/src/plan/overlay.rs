//! Merges the desired state of a Service into the existing one.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Map, Value};

use crate::marks;

/// Why the existing Service cannot be changed into the desired one: the field that is immutable.
pub(super) fn cannot_become(live: &Service, desired: &Service) -> Option<&'static str> {
    let (Some(live), Some(desired)) = (&live.spec, &desired.spec) else { return None };
    let alias = |spec: &ServiceSpec| spec.type_.as_deref() == Some("ExternalName");
    let headless = |spec: &ServiceSpec| spec.cluster_ip.as_deref() == Some("None");
    if alias(live) != alias(desired) {
        return Some("it becomes an alias, or no longer is one");
    }
    if alias(live) {
        return None;
    }
    if headless(live) != headless(desired) {
        return Some("it becomes headless, or no longer is");
    }
    let first = |spec: &ServiceSpec| spec.ip_families.as_ref().and_then(|families| families.first().cloned());
    match (first(live), first(desired)) {
        (Some(there), Some(wanted)) if there != wanted => Some("its address family changes"),
        _ => None,
    }
}

/// The object to write: the desired state, and what the API server or others have added.
pub(super) fn merge(desired: &Service, live: &Service) -> Service {
    let mut merged = desired.clone();
    let metadata = &mut merged.metadata;
    metadata.uid.clone_from(&live.metadata.uid);
    metadata.resource_version.clone_from(&live.metadata.resource_version);
    metadata.finalizers.clone_from(&live.metadata.finalizers);
    metadata.owner_references.clone_from(&live.metadata.owner_references);
    let mut annotations = live.metadata.annotations.clone().unwrap_or_default();
    // Annotations that are no longer copied are removed; those of other controllers stay.
    let before: BTreeSet<String> =
        annotations.remove(marks::COPIED).iter().flat_map(|keys| keys.split(',')).map(str::to_owned).collect();
    annotations.retain(|key, _value| !before.contains(key));
    let global = metadata.annotations.as_ref().is_some_and(|notes| notes.contains_key(marks::GLOBAL));
    if global {
        for key in [marks::CLUSTER, marks::REMOTE, marks::NAMESPACE, marks::SERVICE, marks::UID] {
            annotations.remove(key);
        }
    } else {
        annotations.remove(marks::GLOBAL);
    }
    annotations.extend(metadata.annotations.take().unwrap_or_default());
    metadata.annotations = Some(annotations);
    if let (Some(spec), Some(there)) = (&mut merged.spec, &live.spec) {
        keep_allocated(spec, there);
    }
    merged
}

/// Keeps the values that the API server has allocated, as far as they fit.
fn keep_allocated(spec: &mut ServiceSpec, there: &ServiceSpec) {
    if spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    spec.cluster_ip.clone_from(&there.cluster_ip);
    spec.cluster_ips.clone_from(&there.cluster_ips);
    if spec.ip_families.is_none() {
        spec.ip_families.clone_from(&there.ip_families);
    }
    if spec.ip_family_policy.is_none() {
        spec.ip_family_policy.clone_from(&there.ip_family_policy);
    }
    if spec.ip_family_policy.as_deref() == Some("SingleStack") {
        let first = |list: &mut Option<Vec<String>>| list.iter_mut().for_each(|list| list.truncate(1));
        first(&mut spec.ip_families);
        first(&mut spec.cluster_ips);
    }
}

/// The names of the fields that differ.
pub(super) fn differences(wanted: &Service, there: &Service) -> Vec<String> {
    let (wanted, there) = (normal(wanted), normal(there));
    let keys: BTreeSet<&String> = wanted.keys().chain(there.keys()).collect();
    keys.into_iter().filter(|key| wanted.get(*key) != there.get(*key)).cloned().collect()
}

/// The relevant fields, with the API server's defaults.
fn normal(service: &Service) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut field = |name: &str, value: Result<Value, serde_json::Error>| {
        // All of these types can be written as JSON.
        fields.insert(name.to_owned(), value.unwrap_or_default());
    };
    let metadata = &service.metadata;
    field("labels", serde_json::to_value(metadata.labels.clone().unwrap_or_default()));
    field("annotations", serde_json::to_value(metadata.annotations.clone().unwrap_or_default()));
    let mut spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default().into_iter().map(|port| ServicePort {
        protocol: Some(port.protocol.unwrap_or_else(|| "TCP".into())),
        target_port: Some(port.target_port.unwrap_or(IntOrString::Int(port.port))),
        ..port
    });
    spec.ports = Some(ports.collect());
    spec.type_.get_or_insert_with(|| "ClusterIP".into());
    spec.session_affinity.get_or_insert_with(|| "None".into());
    spec.publish_not_ready_addresses.get_or_insert(false);
    // An empty list or map means the same as an absent one.
    spec.selector = spec.selector.filter(|selector| !selector.is_empty());
    spec.external_ips = spec.external_ips.filter(|list| !list.is_empty());
    spec.load_balancer_source_ranges = spec.load_balancer_source_ranges.filter(|list| !list.is_empty());
    spec.external_name = spec.external_name.filter(|name| !name.is_empty());
    spec.cluster_ip = spec.cluster_ip.filter(|ip| !ip.is_empty());
    if let Ok(Value::Object(spec)) = serde_json::to_value(spec) {
        for (name, value) in spec {
            field(&format!("spec.{name}"), Ok(value));
        }
    }
    fields
}
