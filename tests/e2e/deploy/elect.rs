//! `deploy/elect` on a real API server: accepted unchanged, with exactly the rights that it needs.

use kubekit::cluster;
use serde_json::{Value, json};
use testkit::client;

use super::shipped::{Shipped, api, container};
use crate::process::Fanfare;

const SHIPPED: Shipped = Shipped("elect");

#[test]
fn kustomize_applies_every_manifest() {
    SHIPPED.check_kustomization();
}

#[tokio::test]
async fn the_api_server_accepts_every_manifest() {
    SHIPPED.check_accepted(&["Deployment", "Role", "RoleBinding", "Service", "ServiceAccount"]).await;
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
async fn the_arguments_and_rights_are_enough_to_lead_label_and_route() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let rule = |group: &str, resource: &str, names: &[&str], verbs: &[&str]| {
        let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = names.into();
        }
        rule
    };
    let slices = ["example-leader-ipv4", "example-leader-ipv6"];
    let expected = [
        rule("coordination.k8s.io", "leases", &[], &["create"]),
        rule("coordination.k8s.io", "leases", &["example"], &["get", "update"]),
        rule("", "events", &[], &["create"]),
        rule("", "pods", &[], &["get", "patch"]),
        rule("", "services", &["example-leader"], &["get"]),
        rule("discovery.k8s.io", "endpointslices", &[], &["create"]),
        rule("discovery.k8s.io", "endpointslices", &slices, &["get", "update"]),
    ];
    let account = SHIPPED.check_rights(&cluster, &namespace, &expected).await;
    for (method, resource) in
        [("DELETE", "pods/example-1"), ("GET", "secrets"), ("GET", "services"), ("GET", "pods/x/log")]
    {
        let path = format!("/api/v1/namespaces/{namespace}/{resource}");
        let refusal = api(&account, method, &path, Value::Null).await.expect_err("nothing grants it");
        assert!(refusal.contains("code: 403"), "{method} {path}: {refusal}");
    }

    let service = SHIPPED.objects("service.yaml", &namespace).remove(0);
    cluster.apply_yaml(&service.to_string()).await.expect("the manifest is accepted");
    cluster.pod(&namespace, "example-1", "example", &["192.0.2.7".parse().expect("an address")], true).await;
    let deployment = SHIPPED.deployment(&namespace);
    let container = container(&deployment);
    let arguments = container["args"].as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"));
    let mut arguments: Vec<String> = arguments
        .map(|text| {
            text.replace("$(POD_NAMESPACE)", &namespace)
                .replace("127.0.0.1:4040", "127.0.0.1:0")
                .replace("=:8081", "=127.0.0.1:0")
        })
        .collect();
    let kubeconfig = account.kubeconfig_path().to_str().expect("a path of ASCII").to_owned();
    // The values of the downward API.
    arguments.extend([
        "-kubeconfig".into(),
        kubeconfig,
        "-pod=example-1".into(),
        format!("-pod-namespace={namespace}"),
    ]);
    let mut fanfare = Fanfare::start(&arguments);
    let address = fanfare.listening("for elect").await;
    testkit::eventually!("it to lead", client::get(address, "/leader").await.status, |status| *status == 200);

    let pod = format!("/api/v1/namespaces/{namespace}/pods/example-1");
    let label =
        async || cluster.read(&pod).await.expect("it is there")["metadata"]["labels"]["k8s-elector/status"].clone();
    testkit::eventually!("the label", label().await, |label| label == "leader");
    let slice = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/example-leader-ipv4");
    let slice = testkit::eventually!("the slice", cluster.read(&slice).await, |slice| slice.is_some()).expect("so");
    assert_eq!(slice["endpoints"][0]["addresses"][0], "192.0.2.7");
    assert_eq!(slice["ports"][0]["port"], 8080, "where the workload listens, not the Service");
    fanfare.wait_listening().await;
    for probe in ["startupProbe", "livenessProbe"] {
        let probe = &container[probe]["httpGet"];
        assert_eq!(probe["port"], "admin", "the kubelet cannot reach the loopback address of a pod");
        let path = probe["path"].as_str().expect("a path");
        assert_eq!(client::get(fanfare.admin(), path).await.complete().status, 200, "{path}");
    }
    let log = fanfare.stderr.text();
    assert!(!log.contains("RBAC"), "{log}");
}
