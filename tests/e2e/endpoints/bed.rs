//! The fixture of these tests: a namespace with slices, and an account that may only read them.

use std::{net::SocketAddr, path::Path};

use kubekit::cluster::{Account, Shared, shared};
use serde_json::{Value, json};
use testkit::client;

use crate::{deploy::shipped::Shipped, process::Fanfare};

/// A namespace and the account of the shipped Role in it.
pub(crate) struct Bed {
    pub(crate) cluster: Shared,
    pub(crate) namespace: String,
    pub(crate) account: Account,
}

impl Bed {
    pub(crate) async fn new(name: &str) -> Self {
        let cluster = shared().await;
        let namespace = cluster.namespace(name).await;
        let account = Shipped("endpoints").account(&cluster, &namespace).await;
        Self { cluster, namespace, account }
    }

    pub(crate) fn kubeconfig(&self) -> String {
        self.account.kubeconfig_path().display().to_string()
    }

    /// Writes a slice of ready endpoints; numbers above 255 continue in the next networks.
    pub(crate) async fn slice(&self, name: &str, service: &str, hosts: impl IntoIterator<Item = u32>) {
        let address = |n: u32| format!("10.1.{}.{}", n / 256, n % 256);
        let endpoints: Vec<Value> =
            hosts.into_iter().map(|n| json!({"addresses": [address(n)], "hostname": format!("h-{n}")})).collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"kubernetes.io/service-name": service}},
            "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
        });
        self.cluster.apply_yaml(&slice.to_string()).await.expect("a valid slice");
    }

    /// Starts it with these flags for these services, on a free port of loopback.
    pub(crate) async fn start(&self, services: &str, flags: &[&str]) -> (Fanfare, SocketAddr) {
        self.start_as(self.account.kubeconfig_path(), services, flags).await
    }

    /// The same with another kubeconfig.
    pub(crate) async fn start_as(&self, kubeconfig: &Path, services: &str, flags: &[&str]) -> (Fanfare, SocketAddr) {
        let kubeconfig = kubeconfig.display().to_string();
        let mut arguments = vec!["endpoints", "--listen=127.0.0.1:0", "-n", &self.namespace, "-k", &kubeconfig];
        arguments.extend(["--service", services]);
        arguments.extend(flags);
        let fanfare = Fanfare::start(arguments);
        let address = fanfare.listening("for endpoints").await;
        (fanfare, address)
    }
}

/// The host numbers of the ready addresses in the answer.
pub(crate) async fn told(address: SocketAddr, path: &str) -> Vec<String> {
    let answer = client::get(address, path).await.complete();
    let json = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let subsets = json["subsets"].as_array().cloned().unwrap_or_default();
    let addresses = subsets.iter().flat_map(|subset| subset["addresses"].as_array().cloned().unwrap_or_default());
    addresses.filter_map(|address| address["hostname"].as_str().map(String::from)).collect()
}
