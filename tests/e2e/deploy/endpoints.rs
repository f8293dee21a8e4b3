//! `deploy/endpoints` on a real API server: accepted unchanged, with exactly the rights that it needs.

use kubekit::cluster;
use serde_json::{Value, json};
use testkit::client;

use super::shipped::{Shipped, api, container};
use crate::process::Fanfare;

const SHIPPED: Shipped = Shipped("endpoints");

#[test]
fn kustomize_applies_every_manifest() {
    SHIPPED.check_kustomization();
}

#[tokio::test]
async fn the_api_server_accepts_every_manifest() {
    SHIPPED.check_accepted(&["Role", "RoleBinding", "Service", "ServiceAccount", "StatefulSet"]).await;
}

#[tokio::test]
async fn the_pod_is_admitted_where_only_restricted_ones_are() {
    SHIPPED.check_restricted().await;
}

#[test]
fn the_image_is_of_this_version() {
    SHIPPED.check_image();
}

#[tokio::test]
async fn the_arguments_and_rights_are_enough_to_know_the_peers() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("peers").await;
    let rule = json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]});
    let account = SHIPPED.check_rights(&cluster, &namespace, &[rule]).await;
    let core = format!("/api/v1/namespaces/{namespace}");
    for path in [format!("{core}/services"), format!("{core}/endpoints/example"), format!("{core}/pods")] {
        let refusal = api(&account, "GET", &path, Value::Null).await.expect_err("nothing grants it");
        assert!(refusal.contains("code: 403"), "{path}: {refusal}");
    }

    let service = SHIPPED.objects("service.yaml", &namespace).remove(0);
    cluster.apply_yaml(&service.to_string()).await.expect("the manifest is accepted");
    // The slices that the controllers would write for its pods.
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "example-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": "example"}},
        "endpoints": [{"addresses": ["192.0.2.7"], "hostname": "example-0"}], "ports": [{"name": "peer", "port": 7000}],
    });
    cluster.apply_yaml(&slice.to_string()).await.expect("a valid slice");

    let workload = SHIPPED.deployment(&namespace);
    let container = container(&workload);
    let arguments = container["args"].as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"));
    let mut arguments: Vec<String> =
        arguments.map(|text| text.replace("$(POD_NAMESPACE)", &namespace).replace("=:8080", "=127.0.0.1:0")).collect();
    arguments.push(format!("--kubeconfig={}", account.kubeconfig_path().display()));
    let fanfare = Fanfare::start(&arguments);
    let address = fanfare.listening("for endpoints").await;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().expect("a path");
        testkit::eventually!("the probe to pass", client::get(address, path).await.status, |status| *status == 200);
    }
    let answer = client::get(address, "/endpoints").await.expect_status(200);
    let answer: Value = serde_json::from_slice(&answer.body).expect("it is JSON");
    assert_eq!(answer["subsets"][0]["addresses"], json!([{"ip": "192.0.2.7", "hostname": "example-0"}]));
    let log = fanfare.stderr.text();
    assert!(!log.contains("RBAC"), "{log}");
}
