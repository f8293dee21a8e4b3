//! What every test here stands on: a namespace, an account that may read slices and nothing else, and the API on a port.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use controlplane::{
    catalog::{Selection, follow},
    client::connect,
    index::ServiceKey,
    kube_cluster::KubeCluster,
};
use kubekit::{
    cluster::{Account, Cluster, Shared, shared},
    fault_proxy::FaultProxy,
};
use runtime::{
    drain::Drain,
    listener::{self, Limits},
    readiness::Readiness,
};
use serde_json::Value;
use sidecar::endpoints::{Deliver, EndpointsApi, Service, deliver};
use testkit::client::{self, Response};
use tokio::task::JoinHandle;

/// A namespace and its account.
pub(crate) struct Bed {
    pub(crate) cluster: Shared,
    pub(crate) namespace: String,
    pub(crate) proxy: FaultProxy,
    account: Account,
}

/// A running API.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    /// Followed for as long as this lives.
    _services: Vec<Arc<Service>>,
    pub(crate) closing: Drain,
    tasks: Vec<JoinHandle<()>>,
}

impl Bed {
    pub(crate) async fn new(name: &str) -> Self {
        let cluster = shared().await;
        let namespace = cluster.namespace(name).await;
        let account = cluster.service_account(&namespace, "fanfare").await;
        grant(&cluster, &namespace).await;
        let proxy = FaultProxy::start(&cluster).await;
        Self { cluster, namespace, proxy, account }
    }

    /// Writes a slice of endpoints given as YAML, on one port.
    pub(crate) async fn slice(&self, name: &str, service: &str, endpoints: &[&str]) {
        let yaml = format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, namespace: {}, \
             labels: {{kubernetes.io/service-name: {service}, app: x}}}}, addressType: IPv4, \
             endpoints: [{}], ports: [{{name: http, port: 8080}}]}}",
            self.namespace,
            endpoints.join(", ")
        );
        self.cluster.apply_yaml(&yaml).await.expect("a valid slice");
    }

    /// The same for ready endpoints.
    pub(crate) async fn ready(&self, service: &str, hosts: &[u8]) {
        let endpoints: Vec<String> =
            hosts.iter().map(|n| format!("{{addresses: [192.0.2.{n}], hostname: h-{n}}}")).collect();
        self.slice(&format!("{service}-1"), service, &endpoints.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    /// Follows these services, through the proxy.
    pub(crate) async fn run(&self, services: &[&str], max_age: Option<Duration>, then: Deliver) -> Running {
        let metrics = runtime::metrics::install().expect("the recorder is the runtime's");
        let kubeconfig = self.proxy.kubeconfig(self.account.kubeconfig_path());
        let connection = connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig");
        let kube = KubeCluster::new(connection.client);
        let readiness = Readiness::new();
        let follow_one = |name: &&str| {
            let key = ServiceKey { namespace: self.namespace.as_str().into(), name: (*name).into() };
            let reader = follow(&kube, Selection::Service(key.clone()), readiness.register(key.to_string()));
            Arc::new(Service::follow(key, reader))
        };
        let services: Vec<Arc<Service>> = services.iter().map(follow_one).collect();
        let closing = Drain::new();
        let api = EndpointsApi { services: services.clone(), max_age, metrics, closing: closing.watch() };
        let bound =
            listener::Bound::bind("endpoints", ([127, 0, 0, 1], 0).into(), api.router(), Limits::default()).await;
        let bound = bound.expect("a port of loopback is free");
        let address = bound.addr();
        let closed = closing.watch();
        let serving = tokio::spawn(async move {
            bound.run(async move { closed.wait().await }).await.expect("a listener does not fail");
        });
        let delivering = tokio::spawn({
            let services = services.clone();
            async move { deliver(&services, then).await }
        });
        Running { address, _services: services, closing, tasks: vec![serving, delivering] }
    }
}

impl Running {
    pub(crate) async fn get(&self, path: &str) -> Response {
        client::get(self.address, path).await
    }

    /// The same with one more header.
    pub(crate) async fn get_with(&self, path: &str, name: &str, value: &str) -> Response {
        client::request(self.address, "GET", path, &[(name, value)], b"").await
    }

    /// Waits until the first service has exactly these ready addresses, and returns that answer.
    pub(crate) async fn until(&self, hosts: &[u8]) -> Response {
        let expected: Vec<String> = hosts.iter().map(|n| format!("192.0.2.{n}")).collect();
        let ask = async || self.get("/endpoints").await;
        testkit::eventually::eventually("the endpoints", ask, |answer| addresses(answer) == expected).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The ready addresses of an answer, in its order.
pub(crate) fn addresses(answer: &Response) -> Vec<String> {
    let json = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let subsets = json["subsets"].as_array().cloned().unwrap_or_default();
    let addresses = subsets.iter().flat_map(|subset| subset["addresses"].as_array().cloned().unwrap_or_default());
    addresses.filter_map(|address| address["ip"].as_str().map(String::from)).collect()
}

async fn grant(cluster: &Cluster, namespace: &str) {
    let role = format!(
        r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: fanfare, namespace: {namespace}}}
rules: [{{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: fanfare, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: fanfare}}
subjects: [{{kind: ServiceAccount, name: fanfare, namespace: {namespace}}}]
"
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
}
