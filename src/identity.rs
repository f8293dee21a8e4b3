//! Who this process is: its host's name, its pod, its namespace.

use std::fs;

/// Where a pod finds its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The host's name (`uname(2)`), which in a pod is the pod's.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The same with a random UUID behind it: no other process, and no earlier one of the same pod, has it.
pub(crate) fn unique(id: &str) -> String {
    format!("{id}_{}", uuid::Uuid::new_v4())
}

/// The pod's namespace: `$POD_NAMESPACE`, else the service account's, else what the kubeconfig says.
pub(crate) fn namespace(kubeconfig: &str) -> String {
    let given = std::env::var("POD_NAMESPACE").ok();
    let mounted = || fs::read_to_string(NAMESPACE_FILE).ok();
    let found = given.filter(|text| !text.is_empty()).or_else(mounted);
    found.map_or_else(|| kubeconfig.to_owned(), |text| text.trim().to_owned())
}
