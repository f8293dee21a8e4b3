//! `deploy/discover` on a real API server and a real store: accepted unchanged, with exactly the rights that it needs.

use std::collections::BTreeSet;

use kubekit::{cluster, fault_proxy::FaultProxy};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::minio::{self, Minio};
use tokio::process::Command;

use super::shipped::{Shipped, api, container};
use crate::{
    discover::bed::{Store, put},
    process::Fanfare,
};

const DISCOVER: Shipped = Shipped("discover");

#[test]
fn kustomize_applies_every_manifest() {
    DISCOVER.check_kustomization();
}

#[tokio::test]
async fn the_api_server_accepts_every_manifest() {
    DISCOVER.check_accepted(&["Deployment", "Role", "RoleBinding", "ServiceAccount"]).await;
}

#[tokio::test]
async fn the_pod_is_admitted_where_only_restricted_ones_are() {
    DISCOVER.check_restricted().await;
}

#[test]
fn the_image_is_of_this_version() {
    DISCOVER.check_image();
}

#[tokio::test]
async fn the_arguments_and_rights_are_enough_and_every_right_is_used() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("discover").await;
    let rule = |group: &str, resource: &str, names: &[&str], verbs: &[&str]| {
        let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = names.into();
        }
        rule
    };
    let expected = [
        rule("discovery.k8s.io", "endpointslices", &[], &["list", "watch"]),
        rule("", "services", &[], &["list", "watch"]),
        rule("coordination.k8s.io", "leases", &[], &["create"]),
        rule("coordination.k8s.io", "leases", &["fanfare-discover"], &["get", "update"]),
        rule("", "events", &[], &["create"]),
    ];
    let account = DISCOVER.check_rights(&cluster, &namespace, &expected).await;
    for path in ["secrets", "pods", "configmaps"] {
        let path = format!("/api/v1/namespaces/{namespace}/{path}");
        let refusal = api(&account, "GET", &path, Value::Null).await.expect_err("nothing grants it");
        assert!(refusal.contains("code: 403"), "{path}: {refusal}");
    }

    put(&cluster, &namespace, "web", 2).await;
    let store = Store::new(minio::shared().await);
    let proxy = FaultProxy::start(&cluster).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let deployment = DISCOVER.deployment(&namespace);
    let container = container(&deployment);
    let arguments = container["args"].as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"));
    let replaced = |argument: &str| {
        argument
            .replace("$(POD_NAMESPACE)", &namespace)
            .replace("s3://edge/", &format!("s3://{}/", store.bucket))
            .replace("https://minio.example:9000", &format!("http://{}", store.address))
    };
    let mut arguments: Vec<String> = arguments.map(replaced).collect();
    arguments.extend(["-m".into(), "127.0.0.1:0".into(), "-k".into(), kubeconfig.path().display().to_string()]);
    // It exists before, as in a real installation.
    store.make().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(&arguments).env_remove("KUBECONFIG").env("POD_NAMESPACE", &namespace);
    let names: Vec<&str> =
        container["env"].as_array().into_iter().flatten().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["POD_NAMESPACE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
    command.env("AWS_ACCESS_KEY_ID", Minio::KEYS.0).env("AWS_SECRET_ACCESS_KEY", Minio::KEYS.1);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    store.until("edge.traefik.yaml", 2).await;
    fanfare.wait_ready().await;
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().expect("a path");
        assert_eq!(testkit::client::get(fanfare.admin(), path).await.status, 200, "{path}");
    }
    put(&cluster, &namespace, "web", 3).await;
    store.until("edge.traefik.yaml", 3).await;
    // Its lease was renewed.
    proxy.wait(1, |call| call.resource == "leases" && format!("{:?}", call.verb) == "Update").await;

    fanfare.signal(Signal::TERM);
    let log = fanfare.finish().await.stderr;
    assert!(!log.contains("RBAC") && !log.to_lowercase().contains("forbidden"), "{log}");
    let calls = proxy.calls();
    let forbidden: Vec<_> = calls.iter().filter(|call| call.status == Some(403)).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    let used: BTreeSet<String> =
        calls.iter().map(|call| format!("{:?} {}", call.verb, call.resource).to_lowercase()).collect();
    for rule in &expected {
        let resource = rule["resources"][0].as_str().expect("a resource");
        for verb in rule["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            // kube lists with a watch if the API server supports it.
            let needed = used.contains(&format!("{verb} {resource}"));
            assert!(needed, "{verb} {resource} is granted and not needed; these are: {used:?}");
        }
    }
}
