//! The keys of watches and of objects.

use std::{fmt, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, Resource, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;

/// The objects that one watch covers. Watches with equal keys are shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchKey {
    /// The kube cluster; empty: this process's own.
    cluster: Arc<str>,
    kind: &'static str,
    group: &'static str,
    scope: Scope,
    selector: String,
}

/// The namespaces of one watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// In all namespaces; needs a ClusterRole.
    All,
    /// In one namespace; a Role is enough.
    Namespace(Arc<str>),
}

/// An object's namespace and name; both empty if not even these can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl WatchKey {
    /// A watch of one kind, named by its plural and API group, by label selector (empty: everything).
    pub fn new(kind: &'static str, group: &'static str, scope: Scope, selector: impl Into<String>) -> Self {
        Self { cluster: "".into(), kind, group, scope, selector: selector.into() }
    }

    /// The same watch in the kube cluster of this name.
    #[must_use]
    pub fn in_cluster(self, name: impl Into<Arc<str>>) -> Self {
        Self { cluster: name.into(), ..self }
    }

    /// The name of the kube cluster; empty for the process's own.
    pub fn cluster(&self) -> &Arc<str> {
        &self.cluster
    }

    /// The plural name of the kind, as in RBAC rules.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether this watch contains everything that the other one contains. Of different selectors, only `label` is known to cover
    /// `label=value`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let same_kind = (&self.cluster, self.kind, self.group) == (&other.cluster, other.kind, other.group);
        let label_alone = other.selector.strip_prefix(&self.selector).is_some_and(|rest| rest.starts_with('='));
        let selects = self.selector == other.selector || !self.selector.is_empty() && label_alone;
        let scope = match &self.scope {
            Scope::All => true,
            Scope::Namespace(_) => self.scope == other.scope,
        };
        same_kind && scope && selects
    }

    /// Its scope.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The label selector; none if it selects everything.
    pub fn selector(&self) -> Option<String> {
        (!self.selector.is_empty()).then(|| self.selector.clone())
    }

    /// The interface to the API server for this scope.
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        match &self.scope {
            Scope::All => Api::all(client),
            Scope::Namespace(namespace) => Api::namespaced(client, namespace),
        }
    }

    /// Its scope, with the name of the kube cluster unless that is the process's own.
    pub(super) fn place(&self) -> String {
        match &*self.cluster {
            "" => self.scope.to_string(),
            cluster => format!("{} of {cluster}", self.scope),
        }
    }

    /// The resource as RBAC rules name it.
    pub(super) fn resource(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }
}

impl Scope {
    /// Whether it covers this namespace.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(only) => **only == *namespace,
        }
    }
}

impl ObjectKey {
    /// The key of the object of this name.
    pub fn new(namespace: Arc<str>, name: Arc<str>) -> Self {
        Self { namespace, name }
    }

    /// The key of an object, from its metadata.
    pub fn of(meta: &ObjectMeta) -> Self {
        let part = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        Self { namespace: part(&meta.namespace), name: part(&meta.name) }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl From<&Self> for ObjectKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

impl fmt::Display for WatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.kind, self.place())?;
        if self.selector.is_empty() { Ok(()) } else { write!(f, " with {}", self.selector) }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all namespaces"),
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_scope_and_a_label_alone_cover_what_is_narrower() {
        let key = |namespace: Option<&str>, selector: &str| {
            let scope = namespace.map_or(Scope::All, |namespace| Scope::Namespace(namespace.into()));
            WatchKey::new("endpointslices", "discovery.k8s.io", scope, selector)
        };
        let narrow = key(Some("shop"), "name=cache");
        for wider in [narrow.clone(), key(None, "name=cache"), key(Some("shop"), "name"), key(None, "name")] {
            assert!(wider.covers(&narrow), "{wider}");
        }
        for other in
            [key(Some("other"), "name"), key(None, "nam"), key(None, "!name"), key(None, "name=cach"), key(None, "")]
        {
            assert!(!other.covers(&narrow), "{other}");
        }
        assert!(!narrow.covers(&key(Some("shop"), "name")) && !key(None, "name").covers(&key(None, "!name")));
        assert!(!WatchKey::new("services", "", Scope::All, "name").covers(&narrow));
        assert!(!key(None, "name").in_cluster("west").covers(&narrow));
    }

    #[test]
    fn another_kube_cluster_is_named() {
        let key = WatchKey::new("services", "", Scope::Namespace("shop".into()), "mirror=true");
        assert_eq!(key.to_string(), "services in namespace shop with mirror=true");
        assert_eq!(key.in_cluster("west").to_string(), "services in namespace shop of west with mirror=true");
    }
}
