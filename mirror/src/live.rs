//! The local Services and slices as the API server has them, and who owns them.

use std::{collections::BTreeMap, sync::Arc};

use controlplane::index::ServiceKey;
use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use sha2::{Digest as _, Sha256};

use crate::{config::Remote, marks, names::local_name};

/// A local Service and the slices that name it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) service: Option<LiveService>,
    pub(crate) slices: BTreeMap<String, LiveSlice>,
}

/// A local Service.
#[derive(Clone, Debug)]
pub(crate) struct LiveService {
    pub(crate) object: Arc<Service>,
    /// The digest of the desired state to whose write the API server answered with this object: another write would not change it.
    pub(crate) settled: Option<u64>,
}

/// A local slice. A digest of its content is enough, because it is written as a whole.
#[derive(Clone, Debug)]
pub(crate) struct LiveSlice {
    pub(crate) name: String,
    pub(crate) at: Version,
    pub(crate) family: String,
    /// The UID of the Service that owns it.
    pub(crate) owner: Option<String>,
    pub(crate) managed_by: String,
    /// The value of [`marks::PREFIX`].
    pub(crate) prefix: String,
    /// The value of [`marks::SOURCE_CLUSTER`].
    pub(crate) source: String,
    pub(crate) digest: u64,
    pub(crate) endpoints: usize,
    /// As [`LiveService::settled`].
    pub(crate) settled: Option<u64>,
}

/// The identity and version of an object: the preconditions of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// `metadata.uid`.
    pub(crate) uid: String,
    /// `metadata.resourceVersion`.
    pub(crate) version: String,
}

/// The owner for whom objects are examined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// The value of [`marks::PREFIX`].
    pub(crate) prefix: &'a str,
    /// The remote and the UID of its `kube-system`; `None` for global Services.
    pub(crate) remote: Option<(&'a Remote, Option<&'a str>)>,
}

/// Who owns a local Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Ours, with our annotations.
    Ours,
    /// Ours by its labels, which an older tool set.
    Adoptable,
    /// A mirror of another cluster: the UID of its `kube-system`, or its name.
    OtherCluster(String),
    /// Somebody else's.
    Foreign,
}

impl Live {
    /// Whether the Service is labelled as a mirror of this prefix.
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        let labels = self.service.as_ref().and_then(|service| service.object.metadata.labels.as_ref());
        let is = |key: &str, value: &str| labels.and_then(|labels| labels.get(key)).is_some_and(|has| has == value);
        is(marks::MIRRORED, marks::TRUE) && is(marks::PREFIX, prefix)
    }
}

impl LiveService {
    /// The object that was read or written.
    pub(crate) fn of(mut object: Service, settled: Option<u64>) -> Self {
        object.metadata.managed_fields = None;
        Self { object: Arc::new(object), settled }
    }

    pub(crate) fn at(&self) -> Version {
        Version::of(&self.object.metadata)
    }

    /// Whether it is being deleted, and still exists because of a finalizer.
    pub(crate) fn is_going(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }
}

impl LiveSlice {
    /// The slice that was read or written.
    pub(crate) fn of(object: &EndpointSlice, settled: Option<u64>) -> Self {
        let label = |key: &str| {
            let labels = object.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
        };
        let mut owners = object.metadata.owner_references.iter().flatten();
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            at: Version::of(&object.metadata),
            family: object.address_type.clone(),
            owner: owners.find(|owner| owner.kind == "Service").map(|owner| owner.uid.clone()),
            managed_by: label(marks::MANAGED_BY),
            prefix: label(marks::PREFIX),
            source: label(marks::SOURCE_CLUSTER),
            digest: slice_digest(object),
            endpoints: object.endpoints.len(),
            settled,
        }
    }

    /// Whether we wrote it, for mirrors of this prefix.
    pub(crate) fn is_ours(&self, prefix: &str) -> bool {
        self.managed_by == marks::MANAGER && self.prefix == prefix
    }
}

impl Version {
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }

    /// Whether this is older than another version of an object of the same name. Versions increase across the whole cluster.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        number(&self.version).zip(number(&other.version)).is_some_and(|(this, other)| this < other)
    }
}

impl Owner<'_> {
    /// Who owns a Service. It is ours by its labels, unless its annotations name another cluster; where somebody has removed the labels,
    /// it is ours by our annotations, if its name is the one that follows from them.
    pub(crate) fn owns(&self, service: &Service) -> Ownership {
        let metadata = &service.metadata;
        let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let note = |key: &str| metadata.annotations.as_ref().and_then(|notes| notes.get(key)).map(String::as_str);
        let labelled = label(marks::MIRRORED) == Some(marks::TRUE) && label(marks::PREFIX) == Some(self.prefix);
        let Some((remote, cluster)) = self.remote else {
            return match note(marks::CLUSTER) {
                Some(other) if labelled => Ownership::OtherCluster(other.to_owned()),
                None if labelled && note(marks::GLOBAL).is_some() => Ownership::Ours,
                None if labelled => Ownership::Adoptable,
                _ => Ownership::Foreign,
            };
        };
        let annotated = annotated(service, remote, cluster);
        let named = || {
            let (namespace, service) = note(marks::NAMESPACE).zip(note(marks::SERVICE))?;
            let name = local_name(&remote.scheme, &remote.prefix, namespace, service).ok()?;
            (Some(name.as_str()) == metadata.name.as_deref()).then_some(())
        };
        match annotated {
            Some(false) if labelled => {
                let other = note(marks::CLUSTER).or(note(marks::REMOTE)).unwrap_or_default();
                Ownership::OtherCluster(other.to_owned())
            }
            Some(true) if labelled || named().is_some() => Ownership::Ours,
            None if labelled => Ownership::Adoptable,
            _ => Ownership::Foreign,
        }
    }

    /// Whether a Service bears the marks of another mirror: the annotation of another cluster, or the labels of another prefix without our
    /// annotation. Then it is not ours any more, even if this process has made it.
    pub(crate) fn is_anothers(&self, service: &Service) -> bool {
        let label = |key: &str| service.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let other_prefix = label(marks::MIRRORED) == Some(marks::TRUE)
            && label(marks::PREFIX).is_some_and(|prefix| prefix != self.prefix);
        let Some((remote, cluster)) = self.remote else {
            let notes = service.metadata.annotations.as_ref();
            let noted = |key: &str| notes.is_some_and(|notes| notes.contains_key(key));
            return noted(marks::CLUSTER) || (other_prefix && !noted(marks::GLOBAL));
        };
        match annotated(service, remote, cluster) {
            Some(ours) => !ours,
            None => other_prefix,
        }
    }
}

/// Whether the annotations of a Service name this remote cluster; `None` where they name none.
fn annotated(service: &Service, remote: &Remote, cluster: Option<&str>) -> Option<bool> {
    let note = |key: &str| service.metadata.annotations.as_ref().and_then(|notes| notes.get(key)).map(String::as_str);
    match (note(marks::CLUSTER), cluster) {
        (Some(noted), Some(cluster)) => Some(noted == cluster || remote.former.iter().any(|uid| uid == noted)),
        // Without the right to read the cluster's UID, the remote's name decides.
        _ => note(marks::REMOTE).map(|name| name == remote.name),
    }
}

/// The remote Service that the annotations of a mirror name.
pub(crate) fn noted_origin(service: &Service) -> Option<ServiceKey> {
    let notes = service.metadata.annotations.as_ref()?;
    let (namespace, name) = notes.get(marks::NAMESPACE).zip(notes.get(marks::SERVICE))?;
    Some(ServiceKey { namespace: namespace.as_str().into(), name: name.as_str().into() })
}

/// A digest that is equal for slices with the same content, whatever the API server adds.
pub(crate) fn slice_digest(object: &EndpointSlice) -> u64 {
    let port = |port: &EndpointPort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        ..port.clone()
    };
    let metadata = &object.metadata;
    let owners = metadata.owner_references.iter().flatten();
    let owners: Vec<_> = owners.map(|owner| (&owner.kind, &owner.name, &owner.uid, owner.controller)).collect();
    let ports: Vec<EndpointPort> = object.ports.iter().flatten().map(port).collect();
    digest(&(&metadata.labels, &metadata.annotations, owners, &object.address_type, ports, &object.endpoints))
}

/// A digest of anything that can be written as JSON: the beginning of its SHA-256, which is the same in every process and build.
pub(crate) fn digest(value: &impl serde::Serialize) -> u64 {
    // Maps are ordered, and all of their keys are text.
    let digest = Sha256::digest(serde_json::to_vec(value).unwrap_or_default());
    digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
