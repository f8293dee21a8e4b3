//! Pods and nodes. No kubelet runs here: tests write the status that one would report.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use super::Cluster;

/// The node that the pods are on.
pub const NODE: &str = "node-1";

/// The zone that the node is in.
pub const ZONE: &str = "zone-1";

impl Cluster {
    /// Makes a pod `app=<app>` on [`NODE`] that runs at these addresses and is ready or not. With controllers, a Service
    /// that selects `app: <app>` then has it as an endpoint.
    ///
    /// # Panics
    /// Where the API server refuses.
    pub async fn pod(&self, namespace: &str, name: &str, app: &str, addresses: &[IpAddr], ready: bool) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": NODE, "labels": {"topology.kubernetes.io/zone": ZONE},
        }});
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
            "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "none"}]},
        });
        let both = format!("{node}\n---\n{pod}");
        self.apply_yaml(&both).await.unwrap_or_else(|e| panic!("the pod cannot be made: {e}"));
        let ips: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let first = addresses.first().map(ToString::to_string);
        self.pod_status(namespace, name, json!({"podIP": first, "podIPs": ips}), ready).await;
    }

    /// Sets whether a pod is ready.
    ///
    /// # Panics
    /// Where there is no such pod.
    pub async fn set_pod_ready(&self, namespace: &str, name: &str, ready: bool) {
        self.pod_status(namespace, name, json!({}), ready).await;
    }

    /// Deletes a pod gracefully, as a rollout does: it is terminating until [`Cluster::delete_pod`] confirms its end.
    ///
    /// # Panics
    /// Where there is no such pod.
    pub async fn terminate_pod(&self, namespace: &str, name: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client().await, namespace);
        pods.delete(name, &DeleteParams::default().grace_period(300))
            .await
            .expect("an administrator may delete the pod");
    }

    /// Deletes a pod at once, as if its node had confirmed its end.
    ///
    /// # Panics
    /// Where there is no such pod.
    pub async fn delete_pod(&self, namespace: &str, name: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client().await, namespace);
        pods.delete(name, &DeleteParams::default().grace_period(0)).await.expect("an administrator may delete the pod");
    }

    async fn pod_status(&self, namespace: &str, name: &str, mut status: serde_json::Value, ready: bool) {
        status["phase"] = json!("Running");
        status["conditions"] = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let pods: Api<Pod> = Api::namespaced(self.client().await, namespace);
        let patch = Patch::Merge(json!({"status": status}));
        pods.patch_status(name, &PatchParams::default(), &patch).await.expect("an administrator may report for a pod");
    }
}
