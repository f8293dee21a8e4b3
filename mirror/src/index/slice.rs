//! The facts about one remote EndpointSlice.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use controlplane::index::ServiceKey;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use crate::marks;

/// One slice: every endpoint of it serves on every port of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The Service that it belongs to.
    pub(crate) service: ServiceKey,
    /// Its family.
    pub(crate) family: AddressFamily,
    /// Its ports; empty where the slice says nothing about ports.
    pub(crate) ports: Box<[PortFacts]>,
    /// Its endpoints.
    pub(crate) endpoints: Box<[(Address, Attributes)]>,
    /// The number of endpoints that cannot be mirrored, because the local API server would refuse their addresses.
    pub(crate) unusable: usize,
}

/// `EndpointSlice.addressType`. `FQDN` has no defined meaning and is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AddressFamily {
    /// `IPv4`.
    V4,
    /// `IPv6`.
    V6,
}

/// A port of a slice (`EndpointSlice.ports[]`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortFacts {
    /// Its name, perhaps empty.
    pub(crate) name: Arc<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: Arc<str>,
    /// Its number; `None` stands for all ports.
    pub(crate) number: Option<i32>,
    /// `appProtocol`.
    pub(crate) app_protocol: Option<Arc<str>>,
}

/// The address and the host name of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Its host name within a headless Service.
    pub(crate) hostname: Option<Arc<str>>,
}

/// The attributes of an endpoint, ordered from the most to the least useful.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attributes {
    /// Not ready; absent counts as ready.
    pub(crate) unready: bool,
    /// Not serving; absent counts as serving.
    pub(crate) unserving: bool,
    /// Terminating; absent counts as not.
    pub(crate) terminating: bool,
    /// Its zone.
    pub(crate) zone: Option<Arc<str>>,
}

impl AddressFamily {
    /// As the API has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl Slice {
    /// The facts of a slice that belongs to a Service.
    pub(crate) fn read(object: &EndpointSlice) -> Option<Self> {
        let namespace = object.metadata.namespace.as_deref()?;
        let name = object.metadata.labels.as_ref()?.get(marks::SERVICE_NAME)?;
        let family = match object.address_type.as_str() {
            "IPv4" => AddressFamily::V4,
            "IPv6" => AddressFamily::V6,
            _ => return None,
        };
        let endpoints: Box<[_]> = object.endpoints.iter().filter_map(|raw| endpoint(raw, family)).collect();
        Some(Self {
            service: ServiceKey { namespace: namespace.into(), name: name.as_str().into() },
            family,
            ports: object.ports.iter().flatten().map(port).collect(),
            unusable: object.endpoints.len() - endpoints.len(),
            endpoints,
        })
    }
}

fn port(raw: &EndpointPort) -> PortFacts {
    PortFacts {
        name: raw.name.as_deref().unwrap_or_default().into(),
        protocol: raw.protocol.as_deref().unwrap_or("TCP").into(),
        number: raw.port,
        app_protocol: raw.app_protocol.as_deref().map(Arc::from),
    }
}

/// An endpoint with an address that the API server accepts. Its further addresses have no defined meaning.
fn endpoint(raw: &Endpoint, family: AddressFamily) -> Option<(Address, Attributes)> {
    let ip: IpAddr = raw.addresses.first()?.parse().ok()?;
    if !is_usable(ip, family) {
        return None;
    }
    let conditions = raw.conditions.as_ref();
    let attributes = Attributes {
        unready: !conditions.and_then(|c| c.ready).unwrap_or(true),
        unserving: !conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        zone: raw.zone.as_deref().map(Arc::from),
    };
    Some((Address { ip, hostname: raw.hostname.as_deref().map(Arc::from) }, attributes))
}

/// Whether the API server accepts the address for an endpoint: it refuses unspecified, loopback and link-local ones.
fn is_usable(ip: IpAddr, family: AddressFamily) -> bool {
    match (ip, family) {
        (IpAddr::V4(ip), AddressFamily::V4) => {
            let link_local_multicast = ip.octets()[..3] == [224, 0, 0];
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_link_local() || link_local_multicast)
        }
        (IpAddr::V6(ip), AddressFamily::V6) => {
            // The low four bits of a multicast address's second octet are its scope; 2 is the link (RFC 4291, 2.7).
            let link_local_multicast = ip.is_multicast() && ip.segments()[0] & 0xf == 2;
            let bad = ip.is_unspecified() || ip.is_loopback() || ip.is_unicast_link_local() || link_local_multicast;
            // The API server takes a mapped address for an IPv4 address.
            !bad && Ipv6Addr::to_ipv4_mapped(&ip).is_none()
        }
        _ => false,
    }
}
