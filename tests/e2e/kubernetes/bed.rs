//! The fixture of these tests: a control plane, an account with the shipped Role, and origins as its pods.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use kubekit::cluster::{Account, Cluster};
use testkit::{
    client, netns,
    origin::{Origin, Reply},
};

use crate::process::Fanfare;

/// The path of requests.
pub(crate) type Addresses = BTreeSet<SocketAddr>;

/// The default namespace of the tests.
pub(crate) const NS: &str = "default";

/// A control plane and the pods that a test starts.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) account: Account,
    pods: Vec<Origin>,
    requests: AtomicUsize,
}

/// Objects of one YAML text; the shipped ones.
pub(crate) fn shipped(file: &str, namespace: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/broadcast").join(file);
    let text = std::fs::read_to_string(&path).expect("the manifest is there");
    let documents = serde_yaml::Deserializer::from_str(&text).map(|document| {
        let mut object: serde_json::Value = serde::Deserialize::deserialize(document).expect("the manifest is YAML");
        // As kustomize does, which sets the namespace and nothing else.
        object["metadata"]["namespace"] = namespace.into();
        for subject in object.get_mut("subjects").and_then(|all| all.as_array_mut()).into_iter().flatten() {
            subject["namespace"] = namespace.into();
        }
        format!("{object}\n---\n")
    });
    documents.collect()
}

/// The address of a pod: the `n`th of IPv4.
pub(crate) fn v4(n: u8, port: u16) -> SocketAddr {
    (netns::ipv4(n), port).into()
}

/// The address of a pod: the `n`th of IPv6.
pub(crate) fn v6(n: u16, port: u16) -> SocketAddr {
    (netns::ipv6(n), port).into()
}

/// These pods of IPv4, on port 8080.
pub(crate) fn hosts(numbers: &[u8]) -> Addresses {
    numbers.iter().map(|n| v4(*n, 8080)).collect()
}

/// An endpoint of a slice; the conditions as in YAML, for instance `ready: false`.
pub(crate) fn endpoint(address: IpAddr, conditions: &str) -> String {
    format!("{{addresses: ['{address}'], conditions: {{{conditions}}}}}")
}

/// Endpoints that are ready.
pub(crate) fn ready(numbers: &[u8]) -> Vec<String> {
    numbers.iter().map(|n| endpoint(netns::ipv4(*n), "ready: true")).collect()
}

/// A slice.
pub(crate) fn slice(name: &str, service: &str, endpoints: &[String], ports: &str) -> String {
    slice_in(NS, name, service, "IPv4", endpoints, ports)
}

/// A slice, wherever and of whatever family.
pub(crate) fn slice_in(ns: &str, name: &str, service: &str, family: &str, endpoints: &[String], ports: &str) -> String {
    let endpoints = endpoints.join(", ");
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: {ns}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: {family}
endpoints: [{endpoints}]
ports: [{ports}]
---
"
    )
}

// === impl Bed ===

impl Bed {
    /// A bed with the service account of the manifests, in the default namespace.
    pub(crate) async fn start() -> Self {
        Self::of(Cluster::start().await).await
    }

    /// A bed with the controllers that make slices from Services and Pods.
    pub(crate) async fn start_with_controllers() -> Self {
        Self::of(Cluster::start_with_controllers().await).await
    }

    async fn of(cluster: Cluster) -> Self {
        for file in ["serviceaccount.yaml", "rbac.yaml"] {
            cluster.apply_yaml(&shipped(file, NS)).await.expect("the manifest is accepted");
        }
        let account = cluster.token_for(NS, "fanfare").await;
        Self { cluster, account, pods: Vec::new(), requests: AtomicUsize::new(0) }
    }

    /// Starts a pod's process: an origin that answers everything with its address.
    pub(crate) fn listen(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        for address in addresses {
            let pod = Origin::builder().address(&address.to_string()).start(Reply::ok(address.to_string()));
            self.pods.push(pod);
        }
    }

    /// Every pod that was started.
    pub(crate) fn pods(&self) -> &[Origin] {
        &self.pods
    }

    /// The pod at that address.
    pub(crate) fn pod(&self, address: SocketAddr) -> &Origin {
        self.pods.iter().find(|pod| pod.address() == address).expect("the test has started it")
    }

    /// Applies objects. Returns when the API server had acknowledged them.
    pub(crate) async fn apply(&self, yaml: &str) -> Instant {
        self.cluster.apply_yaml(yaml).await.expect("valid objects");
        Instant::now()
    }

    /// Deletes objects by kind, namespace and name. Returns when the API server had acknowledged it.
    pub(crate) async fn delete(&self, yaml: &str) -> Instant {
        self.cluster.delete_yaml(yaml).await.expect("the objects are there");
        Instant::now()
    }

    /// `fanfare broadcast` on free ports of loopback with the account's rights, and more flags.
    pub(crate) async fn fanfare(&self, flags: &[&str]) -> Fanfare {
        broadcast(self.account.kubeconfig_path(), flags).await
    }

    /// Sends one request and returns the pods that it reached, each exactly once. The answer is 503 without pods, else 200: with
    /// `all`, these are all endpoints.
    pub(crate) async fn reached(&self, fanfare: &Fanfare) -> Addresses {
        let target = format!("/probe/{}?x=y", self.requests.fetch_add(1, Ordering::Relaxed));
        // The report is complete when the last leg has ended, whatever the policy.
        let fields = [("Accept", "application/vnd.broadcast+json")];
        let answer = client::request(fanfare.address(), "PURGE", &target, &fields, b"body").await.complete();
        let mut reached = Addresses::new();
        for pod in &self.pods {
            let copies: Vec<_> = pod.requests().into_iter().filter(|request| request.target == target).collect();
            assert!(copies.len() <= 1, "{} got {} copies of {target}", pod.address(), copies.len());
            for copy in copies {
                let copy = copy.complete();
                assert_eq!((&*copy.method, &*copy.body), ("PURGE", &b"body"[..]));
                reached.insert(pod.address());
            }
        }
        let status = if reached.is_empty() { 503 } else { 200 };
        assert_eq!(answer.status, status, "{answer}");
        let ok = format!("ok={},", reached.len());
        let result = answer.headers.get("X-Broadcast-Result").expect("every answer has it");
        assert!(result.contains(&ok), "{result}, but {reached:?} got the request");
        reached
    }

    /// Waits until requests would go to exactly these, without sending one.
    pub(crate) async fn until_seen(&self, fanfare: &Fanfare, expected: &Addresses) {
        let members = async || {
            let shown = client::get(fanfare.admin(), "/-/endpoints").await.complete().text();
            let shown: serde_json::Value = serde_json::from_str(&shown).expect("it is JSON");
            let endpoints = shown["routes"][0]["endpoints"].as_array().cloned().unwrap_or_default();
            let members = endpoints.iter().filter(|endpoint| endpoint["member"] == true);
            members.filter_map(|endpoint| endpoint["endpoint"].as_str()?.parse().ok()).collect::<Addresses>()
        };
        testkit::eventually!(format!("{expected:?} to be the members"), members().await, |members| members == expected);
    }

    /// Waits until a request reaches exactly these.
    pub(crate) async fn until_reached(&self, fanfare: &Fanfare, expected: &Addresses) {
        let what = format!("a request to reach exactly {expected:?}");
        testkit::eventually!(what, self.reached(fanfare).await, |reached| reached == expected);
    }
}

/// `fanfare broadcast` on free ports of loopback with these rights, and more flags.
pub(crate) async fn broadcast(kubeconfig: &Path, flags: &[&str]) -> Fanfare {
    let kubeconfig = kubeconfig.to_str().expect("a path of ASCII");
    let listeners = ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "2", "--access-log", "off"];
    Fanfare::serve(listeners.into_iter().chain(["--kubeconfig", kubeconfig]).chain(flags.iter().copied())).await
}

/// The answer of `/-/ready`.
pub(crate) async fn readiness(fanfare: &Fanfare) -> (u16, String) {
    let answer = client::get(fanfare.admin(), "/-/ready").await.complete();
    (answer.status, answer.text())
}

/// The sum of a metric over the series whose lines contain all of these texts.
pub(crate) async fn metric(fanfare: &Fanfare, name: &str, parts: &[&str]) -> f64 {
    let text = client::get(fanfare.admin(), "/metrics").await.complete().text();
    let lines = text.lines().filter(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
