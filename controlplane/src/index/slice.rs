//! The facts of one EndpointSlice from which views are built.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::{
    api::discovery::v1::{Endpoint as RawEndpoint, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use snapshot::{Conditions, Endpoint, PodRef, shared_text};

use super::{Port, Protocol, ServiceKey};

/// The label that joins a slice to its Service.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One slice: every endpoint of it serves on every port of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) service: ServiceKey,
    pub(super) about: About,
    ports: Box<[SlicePort]>,
    /// With port 0: the ports come from the slice.
    endpoints: Box<[Endpoint]>,
}

/// The part of an object's metadata that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// `creationTimestamp`, in seconds since 1970.
    pub(crate) created: i64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Eq)]
struct SlicePort {
    port: Port,
    number: u16,
    app_protocol: Arc<str>,
}

/// Annotations that are not kept, because they are long or change all the time.
const NOISE: [&str; 2] =
    ["kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"];

// === impl Slice ===

impl Slice {
    /// The facts of a slice that belongs to a Service; with `orphans`, of one that names no Service, under its own name.
    pub(super) fn read(object: &EndpointSlice, orphans: bool) -> Option<Self> {
        let namespace = object.metadata.namespace.as_deref()?;
        let named = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        let name = match (named, orphans) {
            (Some(name), false) => name,
            (None, true) => object.metadata.name.as_ref()?,
            _ => return None,
        };
        let service = ServiceKey { namespace: shared_text(namespace), name: name.as_str().into() };
        let ports = object.ports.iter().flatten().filter_map(port).collect();
        let endpoints = object.endpoints.iter().filter_map(|raw| endpoint(raw, &service.namespace)).collect();
        Some(Self { service, about: About::of(&object.metadata), ports, endpoints })
    }

    /// The ports, including those without endpoints, each with its application protocol.
    pub(super) fn ports(&self) -> impl Iterator<Item = (&Port, &Arc<str>)> {
        self.ports.iter().map(|port| (&port.port, &port.app_protocol))
    }

    /// Every endpoint on every port.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&Port, Endpoint)> {
        let on = |number: u16| {
            self.endpoints.iter().map(move |endpoint| {
                let address = SocketAddr::new(endpoint.address.ip(), number);
                Endpoint { address, ..endpoint.clone() }
            })
        };
        self.ports.iter().flat_map(move |port| on(port.number).map(move |endpoint| (&port.port, endpoint)))
    }

    /// The endpoints of a slice without ports, with port 0.
    pub(super) fn portless(&self) -> &[Endpoint] {
        if self.ports.is_empty() { &self.endpoints } else { &[] }
    }

    /// Every address on every port; port 0 where there is none.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let ips = |number: u16| self.endpoints.iter().map(move |e| SocketAddr::new(e.address.ip(), number));
        let numbered = self.ports.iter().flat_map(move |port| ips(port.number));
        numbered.chain(self.portless().iter().map(|endpoint| endpoint.address))
    }
}

// === impl About ===

impl About {
    /// From an object's metadata.
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        let mut annotations = meta.annotations.clone().unwrap_or_default();
        annotations.retain(|key, _value| !NOISE.contains(&key.as_str()));
        Self {
            created: meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            labels: meta.labels.clone().unwrap_or_default(),
            annotations,
        }
    }
}

/// A port without a number stands for all ports, so no request can be sent to it.
fn port(raw: &EndpointPort) -> Option<SlicePort> {
    let number = u16::try_from(raw.port?).ok().filter(|number| *number > 0)?;
    let protocol = Protocol::read(raw.protocol.as_deref())?;
    Some(SlicePort {
        port: Port { name: shared_text(raw.name.as_deref().unwrap_or_default()), protocol },
        number,
        app_protocol: shared_text(raw.app_protocol.as_deref().unwrap_or_default()),
    })
}

/// Domain names (`addressType: FQDN`) have no defined semantics and are left out.
fn endpoint(raw: &RawEndpoint, namespace: &Arc<str>) -> Option<Endpoint> {
    // No semantics are defined for further addresses.
    let ip: IpAddr = raw.addresses.first()?.parse().ok()?;
    let conditions = raw.conditions.as_ref();
    let conditions = Conditions {
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
    };
    let pod = raw.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod")).and_then(|target| {
        Some(PodRef {
            namespace: target.namespace.as_deref().map_or_else(|| namespace.clone(), shared_text),
            name: target.name.as_deref()?.into(),
            uid: target.uid.as_deref().unwrap_or_default().into(),
        })
    });
    Some(Endpoint {
        conditions,
        hostname: raw.hostname.as_deref().map(Arc::from),
        pod,
        node: raw.node_name.as_deref().map(shared_text),
        zone: raw.zone.as_deref().map(shared_text),
        ..Endpoint::ready(SocketAddr::new(ip, 0))
    })
}
