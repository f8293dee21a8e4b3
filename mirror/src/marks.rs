//! The labels and annotations of mirrors.

/// Label: this is a mirror. The value is always [`TRUE`].
pub const MIRRORED: &str = "mirrored-svc";
/// The value of [`MIRRORED`].
pub const TRUE: &str = "true";
/// Label: the prefix of the remote it is a mirror of.
pub const PREFIX: &str = "mirror-svc-prefix-sync";
/// Label of slices: the remote's name.
pub const SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// Label of slices: the remote Service's UID.
pub const SOURCE_UID: &str = "mirror.fanfare/source-uid";

/// Annotation: the UID of the remote's `kube-system` namespace.
pub const CLUSTER: &str = "mirror.fanfare/cluster";
/// Annotation: the remote's name.
pub const REMOTE: &str = "mirror.fanfare/remote";
/// Annotation: the remote Service's namespace.
pub const NAMESPACE: &str = "mirror.fanfare/namespace";
/// Annotation: the remote Service's name.
pub const SERVICE: &str = "mirror.fanfare/service";
/// Annotation: the remote Service's UID.
pub const UID: &str = "mirror.fanfare/uid";
/// Annotation of a global Service: `<namespace>/<name>` of the Services that it is made of.
pub const GLOBAL: &str = "mirror.fanfare/global";
/// Annotation: the keys of the annotations that were copied, with commas in between.
pub const COPIED: &str = "mirror.fanfare/copied";

/// Label: the Service that a slice belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label: who writes a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Our value of [`MANAGED_BY`].
pub const MANAGER: &str = "mirror.fanfare";
/// Label of slices of headless Services: nothing to balance.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// The value of [`MANAGED_BY`] of the controller that makes slices of Services with selectors.
pub const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// The value of [`MANAGED_BY`] of the controller that makes slices of v1 Endpoints.
pub const MIRRORING_CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";

/// The condition of a global Service whose sources contradict each other.
pub const CONFLICT: &str = "mirror.fanfare/Conflict";

/// Domains of labels and annotations by which deployment tools recognise their objects. A copy with one of them would be taken for a
/// left-over of the tool, and be deleted.
const TOOLS: [&str; 5] =
    ["argocd.argoproj.io", "toolkit.fluxcd.io", "kapp.k14s.io", "objectset.rio.cattle.io", "meta.helm.sh"];

/// Whether a deployment tool recognises its objects by this key.
pub(crate) fn is_of_a_tool(key: &str) -> bool {
    let Some((domain, _name)) = key.split_once('/') else { return false };
    TOOLS.iter().any(|tool| domain == *tool || domain.strip_suffix(tool).is_some_and(|rest| rest.ends_with('.')))
}

/// Whether a key of a label or annotation is reserved for Kubernetes or for us, and so is never copied.
pub(crate) fn is_reserved(key: &str) -> bool {
    if key == MIRRORED || key == PREFIX {
        return true;
    }
    let Some((domain, _name)) = key.split_once('/') else { return false };
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    domain == MANAGER || within("kubernetes.io") || within("k8s.io")
}
