//! What is kept of one EndpointSlice: the facts that views are made of.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::{Endpoint as RawEndpoint, EndpointPort, EndpointSlice};
use snapshot::{Conditions, Endpoint, PodRef};

use super::{Port, Protocol, ServiceKey};

/// The label that joins a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One slice: every endpoint of it serves on every port of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) service: ServiceKey,
    ports: Box<[(Port, u16)]>,
    /// With port 0: the ports come from the slice.
    endpoints: Box<[Endpoint]>,
}

impl Slice {
    /// The facts of a slice that belongs to a Service.
    pub(super) fn read(object: &EndpointSlice) -> Option<Self> {
        let namespace = object.metadata.namespace.as_deref()?;
        let name = object.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        let service = ServiceKey { namespace: namespace.into(), name: name.as_str().into() };
        let ports = object.ports.iter().flatten().filter_map(port).collect();
        let endpoints = object.endpoints.iter().filter_map(|raw| endpoint(raw, &service.namespace)).collect();
        Some(Self { service, ports, endpoints })
    }

    /// The ports, whether anybody serves on them or not.
    pub(super) fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().map(|(port, _number)| port)
    }

    /// Every endpoint on every port.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&Port, Endpoint)> {
        let on = |number: u16| {
            self.endpoints.iter().map(move |endpoint| {
                let address = SocketAddr::new(endpoint.address.ip(), number);
                Endpoint { address, ..endpoint.clone() }
            })
        };
        self.ports.iter().flat_map(move |(port, number)| on(*number).map(move |endpoint| (port, endpoint)))
    }
}

/// A port without a number stands for any, and is none that a request can be sent to.
fn port(raw: &EndpointPort) -> Option<(Port, u16)> {
    let number = u16::try_from(raw.port?).ok().filter(|number| *number > 0)?;
    let protocol = match raw.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    Some((Port { name: raw.name.as_deref().unwrap_or_default().into(), protocol }, number))
}

/// Names of domains (`addressType: FQDN`) have no defined semantics and are left out.
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
            namespace: target.namespace.as_deref().map_or_else(|| namespace.clone(), Arc::from),
            name: target.name.as_deref()?.into(),
            uid: target.uid.as_deref().unwrap_or_default().into(),
        })
    });
    Some(Endpoint {
        address: SocketAddr::new(ip, 0),
        conditions,
        hostname: raw.hostname.as_deref().map(Arc::from),
        pod,
        node: raw.node_name.as_deref().map(Arc::from),
        zone: raw.zone.as_deref().map(Arc::from),
    })
}
