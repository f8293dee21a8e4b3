//! The facts about one remote Service from which its mirror is made.

use std::{collections::BTreeMap, sync::Arc};

use controlplane::{index::ServiceKey, watch::ObjectKey};
use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::marks;

/// A remote Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    /// Its namespace and name.
    pub(crate) key: ServiceKey,
    /// `metadata.uid`.
    pub(crate) uid: Arc<str>,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub(crate) created: i64,
    /// `metadata.labels`.
    pub(crate) labels: BTreeMap<String, String>,
    /// `metadata.annotations`, without those of kubectl.
    pub(crate) annotations: BTreeMap<String, String>,
    /// What kind of Service it is.
    pub(crate) kind: Kind,
    /// `spec.ports`, without node ports.
    pub(crate) ports: Vec<ServicePort>,
    /// `spec.sessionAffinityConfig.clientIP.timeoutSeconds`, where the affinity is `ClientIP`.
    pub(crate) affinity: Option<i32>,
    /// `spec.publishNotReadyAddresses`.
    pub(crate) publish_not_ready: bool,
    /// `spec.trafficDistribution`.
    pub(crate) traffic_distribution: Option<String>,
    /// Its address families.
    pub(crate) families: Families,
}

/// How a Service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An address in front of its endpoints: ClusterIP, NodePort, LoadBalancer.
    ClusterIp,
    /// Its endpoints' own addresses: `clusterIP: None`.
    Headless,
    /// An alias.
    ExternalName(String),
}

/// The address families of a Service (`spec.ipFamilies`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    /// One: `IPv4` or `IPv6`.
    Single(String),
    /// Both.
    Dual,
    /// Not specified, as for an alias.
    Unknown,
}

/// The default of `spec.sessionAffinityConfig.clientIP.timeoutSeconds`: 3 hours.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

impl Origin {
    /// The facts about a Service; `None` where it has no name.
    pub(crate) fn read(service: Service) -> Option<Self> {
        let key = ServiceKey::from(&ObjectKey::of(&service.metadata));
        if key.name.is_empty() {
            return None;
        }
        let metadata = service.metadata;
        let spec = service.spec.unwrap_or_default();
        let kind = if spec.type_.as_deref() == Some("ExternalName") {
            Kind::ExternalName(spec.external_name.unwrap_or_default())
        } else if spec.cluster_ip.as_deref() == Some("None") {
            Kind::Headless
        } else {
            Kind::ClusterIp
        };
        let families = match spec.ip_families.unwrap_or_default().as_slice() {
            [] => Families::Unknown,
            [one] => Families::Single(one.clone()),
            _ => Families::Dual,
        };
        let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let config = spec.session_affinity_config.and_then(|config| config.client_ip);
            config.and_then(|client_ip| client_ip.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS)
        });
        let ports = spec.ports.unwrap_or_default().into_iter().map(|port| ServicePort { node_port: None, ..port });
        let mut annotations = metadata.annotations.unwrap_or_default();
        // Such an annotation may be as large as the object, and is never copied.
        annotations.retain(|key, _value| !marks::is_reserved(key));
        Some(Self {
            key,
            uid: metadata.uid.unwrap_or_default().into(),
            created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
            labels: metadata.labels.unwrap_or_default(),
            annotations,
            kind,
            ports: ports.collect(),
            affinity,
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            traffic_distribution: spec.traffic_distribution,
            families,
        })
    }

    /// Whether it is itself a mirror. Mirrors of mirrors could form a loop.
    pub(crate) fn is_mirror(&self) -> bool {
        self.labels.get(marks::MIRRORED).is_some_and(|value| value == marks::TRUE)
    }
}
