//! What every test here stands on: a namespace, an account with a role, and a source that feeds a snapshot.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane::{
    build::PortSelector,
    client::connect,
    kube_cluster::KubeCluster,
    source::kube::{EndpointSelection, KubeSource, Pattern},
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, api::DeleteParams};
use kubekit::cluster::{Account, Cluster as TestCluster};
use runtime::readiness::Readiness;
use snapshot::{Cluster, ClusterName, Reader, channel};
use testkit::eventually::scaled;
use tokio::task::JoinHandle;

/// How long anything may take that has no limit of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the cluster that the source under test owns.
const NAME: &str = "under-test";

/// A running source and what it publishes.
pub(crate) struct Running {
    pub(crate) reader: Reader,
    pub(crate) readiness: Readiness,
    task: JoinHandle<()>,
}

/// Starts a source with the rights of this kubeconfig.
pub(crate) async fn run(kubeconfig: &Path, services: &[&str], port: PortSelector) -> Running {
    let connection = connect(Some(kubeconfig)).await.expect("a valid kubeconfig");
    run_on(&KubeCluster::new(connection.client), services, port)
}

/// The value of a metric that has all of these in its line of the text format, over all its series.
pub(crate) fn metric(parts: &[&str]) -> Option<f64> {
    let text = runtime::metrics::install().expect("the recorder is the runtime's").render();
    let lines = text.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).reduce(|sum, value| sum + value)
}

/// Starts a source that shares the watches of others.
pub(crate) fn run_on(kube: &KubeCluster, services: &[&str], port: PortSelector) -> Running {
    // Before the first metric is made, or it would go nowhere.
    runtime::metrics::install().expect("the recorder is the runtime's");
    let (publisher, reader) = channel();
    let readiness = Readiness::new();
    let services = services.iter().map(|text| Pattern::parse(text, None).expect("a valid pattern")).collect();
    let source = KubeSource {
        cluster: ClusterName::new(NAME).expect("a valid name"),
        selection: EndpointSelection { services, port },
        kube: kube.clone(),
        publisher,
        gate: readiness.register("kubernetes"),
    };
    Running { reader, readiness, task: tokio::spawn(source.run()) }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// The cluster as it is published now.
    pub(crate) fn now(&self) -> Option<Arc<Cluster>> {
        self.reader.load().cluster(NAME).cloned()
    }

    /// The addresses of the ready endpoints that are published now.
    pub(crate) fn ready(&self) -> BTreeSet<String> {
        let cluster = self.now();
        let endpoints = cluster.iter().flat_map(|cluster| cluster.endpoints());
        endpoints.filter(|endpoint| endpoint.conditions.ready).map(|endpoint| endpoint.address.to_string()).collect()
    }

    /// Waits until exactly these are ready. Returns how long that took.
    pub(crate) async fn until_ready(&self, expected: &[&str]) -> Duration {
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        self.until(&format!("{expected:?} are ready"), |running| running.ready() == expected).await
    }

    /// Waits until something about the published cluster or the readiness is so. Returns how long that took.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) -> Duration {
        let started = Instant::now();
        while !so(self) {
            let (now, ready) = (self.now(), self.readiness.check());
            assert!(
                started.elapsed() < scaled(PATIENCE),
                "not within {PATIENCE:?}: {what}; there is {now:?}, {ready:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started.elapsed()
    }
}

/// An account that may do these with endpointslices in its namespace, by a Role and nothing else.
pub(crate) async fn reader_of_slices(cluster: &TestCluster, namespace: &str, verbs: &str) -> Account {
    let account = cluster.service_account(namespace, "fanfare").await;
    grant(cluster, namespace, verbs).await;
    account
}

/// The Role and its binding; says so again with other verbs to change them.
pub(crate) async fn grant(cluster: &TestCluster, namespace: &str, verbs: &str) {
    let role = format!(
        r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: fanfare, namespace: {namespace}}}
rules: [{{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [{verbs}]}}]
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

/// Writes a slice of IPv4 endpoints that are ready, all on the port `http`.
pub(crate) async fn put(cluster: &TestCluster, namespace: &str, name: &str, service: &str, hosts: &[u8], port: u16) {
    let endpoints: Vec<String> = hosts.iter().map(|n| format!("{{addresses: [192.0.2.{n}]}}")).collect();
    let yaml = format!(
        r"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
endpoints: [{}]
ports: [{{name: http, port: {port}}}]
",
        endpoints.join(", ")
    );
    cluster.apply_yaml(&yaml).await.unwrap_or_else(|e| panic!("a valid slice: {e}"));
}

/// Deletes a slice.
pub(crate) async fn delete(client: &Client, namespace: &str, name: &str) {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    slices.delete(name, &DeleteParams::default()).await.expect("an administrator may delete it");
}
