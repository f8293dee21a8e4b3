//! Plain lists: YAML in the layout of the replaced tool, for scripts, and JSON with all attributes.

use std::{collections::BTreeMap, net::IpAddr};

use controlplane::index::Protocol;
use serde::Serialize;
use snapshot::Endpoint;

use super::{pretty, yaml::to_yaml};
use crate::backend::Backend;

#[derive(Debug, Serialize)]
struct Targets<'a> {
    backends: Vec<Named<'a>>,
}

#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
    targets: Vec<PlainTarget<'a>>,
}

#[derive(Debug, Serialize)]
struct PlainTarget<'a> {
    ip: IpAddr,
    port: u16,
    /// The port's `appProtocol`, else its transport protocol.
    protocol: &'a str,
}

#[derive(Debug, Serialize)]
struct Full<'a> {
    backends: Vec<Described<'a>>,
}

/// All attributes of one backend; templates get the same.
#[derive(Debug, Serialize)]
pub(super) struct Described<'a> {
    name: &'a str,
    namespace: &'a str,
    service: &'a str,
    /// The number that its endpoints listen on.
    port: u16,
    port_name: &'a str,
    /// The Service's own number for the port; 0 where it is not known.
    service_port: u16,
    transport: &'static str,
    /// The application protocol: http, https, h2c, grpc, ws, wss, tcp, udp or sctp.
    protocol: String,
    app_protocol: &'a str,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    endpoints: Vec<Member<'a>>,
}

/// All attributes of one endpoint.
#[derive(Debug, Serialize)]
struct Member<'a> {
    /// `ip:port`, an IPv6 address in brackets.
    address: String,
    ip: IpAddr,
    port: u16,
    /// Its URL, if it speaks HTTP.
    url: Option<String>,
    hostname: Option<&'a str>,
    pod: Option<&'a str>,
    node: Option<&'a str>,
    zone: Option<&'a str>,
    ready: bool,
    serving: bool,
    terminating: bool,
}

pub(super) fn yaml(backends: &[Backend]) -> String {
    let named = backends.iter().map(|backend| {
        let protocol = match &*backend.app_protocol {
            "" => transport(backend),
            told => told,
        };
        let target =
            |endpoint: &Endpoint| PlainTarget { ip: endpoint.address.ip(), port: endpoint.address.port(), protocol };
        Named { name: &backend.name, targets: backend.endpoints.iter().map(target).collect() }
    });
    to_yaml(&Targets { backends: named.collect() })
}

pub(super) fn json(backends: &[Backend]) -> String {
    pretty(&Full { backends: described(backends) })
}

/// All attributes of these backends.
pub(super) fn described(backends: &[Backend]) -> Vec<Described<'_>> {
    backends.iter().map(one).collect()
}

fn one(backend: &Backend) -> Described<'_> {
    let Backend { name, entry, port, number, service_port, application, app_protocol, endpoints } = backend;
    Described {
        name,
        namespace: backend.namespace(),
        service: backend.service(),
        port: *number,
        port_name: &port.name,
        service_port: *service_port,
        transport: transport(backend),
        protocol: application.to_string(),
        app_protocol,
        labels: &entry.facts.labels,
        annotations: &entry.facts.annotations,
        endpoints: endpoints.iter().map(|endpoint| member(endpoint, application.scheme())).collect(),
    }
}

fn member<'a>(endpoint: &'a Endpoint, scheme: Option<&str>) -> Member<'a> {
    Member {
        address: endpoint.address.to_string(),
        ip: endpoint.address.ip(),
        port: endpoint.address.port(),
        url: scheme.map(|scheme| format!("{scheme}://{}", endpoint.address)),
        hostname: endpoint.hostname.as_deref(),
        pod: endpoint.pod.as_ref().map(|pod| &*pod.name),
        node: endpoint.node.as_deref(),
        zone: endpoint.zone.as_deref(),
        ready: endpoint.conditions.ready,
        serving: endpoint.conditions.serving,
        terminating: endpoint.conditions.terminating,
    }
}

/// The transport protocol in Kubernetes' notation.
fn transport(backend: &Backend) -> &'static str {
    match backend.port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}
