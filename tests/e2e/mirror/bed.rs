//! The fixture of these tests: two clusters, a namespace for each test in each, and services to mirror.

use std::{collections::BTreeSet, path::Path};

use kubekit::cluster::{self, Cluster, Shared};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::process::Fanfare;

/// Two clusters, and a namespace in each. Tests share the clusters.
pub(crate) struct Bed {
    /// Where the mirrors are.
    pub(crate) local: Shared,
    /// Where the services are.
    pub(crate) remote: &'static Cluster,
    /// The namespace of the mirrors; also the value of the label that selects this test's services.
    pub(crate) here: String,
    /// The namespace of the services.
    pub(crate) there: String,
}

/// The remote cluster of all tests of this process. It ends with the process.
pub(crate) async fn remote() -> &'static Cluster {
    static REMOTE: OnceCell<Cluster> = OnceCell::const_new();
    REMOTE.get_or_init(Cluster::start).await
}

/// A ready endpoint.
pub(crate) fn endpoint(address: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true}})
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ASCII")
}

impl Bed {
    pub(crate) async fn start() -> Self {
        let (local, remote) = tokio::join!(cluster::shared(), remote());
        let here = local.namespace("mirrors").await;
        let there = remote.namespace("shop").await;
        Self { local, remote, here, there }
    }

    /// A Service of the remote cluster that is selected. More of its `spec`, for instance `clusterIP: None`.
    pub(crate) async fn service(&self, name: &str, more: Value) {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": self.there, "labels": {"bed": self.here}},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            service["spec"][key] = value.clone();
        }
        self.remote.apply_yaml(&service.to_string()).await.expect("a valid service");
    }

    /// An EndpointSlice of such a Service.
    pub(crate) async fn slice(&self, service: &str, family: &str, endpoints: &[Value]) {
        let name = format!("{}-{}", &service[..service.len().min(40)], family.to_lowercase());
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": name, "namespace": self.there, "labels": {"kubernetes.io/service-name": service, "bed": self.here}},
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
        });
        self.remote.apply_yaml(&slice.to_string()).await.expect("a valid slice");
    }

    /// The flags of what is mirrored, without those of the clusters' access.
    pub(crate) fn what(&self) -> Vec<String> {
        let (here, prefix) = (&self.here, "west");
        vec![format!("-label-selector=bed={here}"), format!("-svc-prefix={prefix}"), format!("-mirror-ns={here}")]
    }

    /// The flags for access to both clusters with all rights.
    pub(crate) fn with_all_rights(&self) -> Vec<String> {
        let (local, remote) = (self.local.kubeconfig_path(), self.remote.kubeconfig_path());
        vec!["-kube-config".into(), text(&local).into(), "-target-kube-config".into(), text(&remote).into()]
    }

    /// `fanfare mirror` with these flags, on a free port, and more flags.
    pub(crate) fn mirror(&self, flags: &[Vec<String>], more: &[&str]) -> Fanfare {
        let flags = flags.iter().flatten().map(String::as_str);
        Fanfare::start(["mirror", "-listen=127.0.0.1:0"].into_iter().chain(flags).chain(more.iter().copied()))
    }

    /// The local name of a remote Service.
    pub(crate) fn mirrored(&self, service: &str) -> String {
        format!("west-{service}-6d6972726f720a-{}", self.there)
    }

    /// A Service here.
    pub(crate) async fn here(&self, name: &str) -> Option<Value> {
        self.local.read(&format!("/api/v1/namespaces/{}/services/{name}", self.here)).await
    }

    /// The addresses of a Service here.
    pub(crate) async fn addresses(&self, name: &str) -> BTreeSet<String> {
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{name}",
            self.here
        );
        let list = self.local.read(&path).await.expect("the namespace is there");
        let slices = list["items"].as_array().into_iter().flatten();
        let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        endpoints.filter_map(|endpoint| endpoint["addresses"][0].as_str().map(String::from)).collect()
    }

    /// Waits until a remote Service is mirrored with exactly these addresses.
    pub(crate) async fn until_mirrored(&self, service: &str, addresses: &[&str]) -> Value {
        let name = self.mirrored(service);
        let expected: BTreeSet<String> = addresses.iter().map(|address| (*address).to_owned()).collect();
        let what = format!("{name} to have {expected:?}");
        testkit::eventually!(what, self.addresses(&name).await, |found| *found == expected);
        self.here(&name).await.expect("its slices are there, and belong to it")
    }
}
