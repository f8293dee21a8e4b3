//! The identity of this process: its host's name, its pod, its namespace.

use std::path::Path;

use runtime::files;

/// The file with a pod's namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The host's name (`uname(2)`), which in a pod is the pod's.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A name with a random UUID appended, which is unique even among processes of the same pod.
pub(crate) fn unique(id: &str) -> String {
    format!("{id}_{}", uuid::Uuid::new_v4())
}

/// The pod's namespace: `$POD_NAMESPACE`, else the service account's, else that of the kubeconfig.
pub(crate) fn namespace(kubeconfig: &str) -> String {
    pod_namespace().unwrap_or_else(|| kubeconfig.to_owned())
}

/// The namespace and name that all replicas share: the Service in `$POD_SERVICE`, else the workload, by the pod's name. None
/// outside of a pod.
pub(crate) fn deployment() -> Option<(String, String)> {
    let service = std::env::var("POD_SERVICE").ok().map(|text| text.trim().to_owned());
    let service = service.filter(|service| !service.is_empty());
    Some((pod_namespace()?, service.unwrap_or_else(|| workload(&host()).to_owned())))
}

fn pod_namespace() -> Option<String> {
    let given = std::env::var("POD_NAMESPACE").ok();
    let mounted = || String::from_utf8(files::read(Path::new(NAMESPACE_FILE)).ok()?).ok();
    let found = given.filter(|text| !text.trim().is_empty()).or_else(mounted)?;
    Some(found.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The name of a pod without what Kubernetes appends to the name of its workload: `-7d4b9c6f5-x2zlk`, `-x2zlk` or `-0`.
fn workload(pod: &str) -> &str {
    // The alphabet of names that Kubernetes generates.
    let made = |part: &str| part.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b));
    match pod.rsplit_once('-') {
        Some((rest, last)) if last.len() == 5 && made(last) => match rest.rsplit_once('-') {
            Some((workload, hash)) if (8..=10).contains(&hash.len()) && made(hash) => workload,
            _ => rest,
        },
        Some((rest, last)) if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => pod,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_have_their_workload_in_common() {
        assert_eq!(workload("fanfare-7d4b9c6f5-x2zlk"), "fanfare");
        assert_eq!(workload("edge-fanfare-5f7b8c9d4b-bcdfg"), "edge-fanfare");
        assert_eq!(workload("fanfare-x2zlk"), "fanfare");
        assert_eq!((workload("fanfare-0"), workload("fanfare-12")), ("fanfare", "fanfare"));
        assert_eq!((workload("fanfare"), workload("cache-purge"), workload("a-")), ("fanfare", "cache-purge", "a-"));
    }
}
