//! `deploy/broadcast/journal` on a real API server: the StatefulSet that its patches make is accepted, its pods are admitted where only
//! restricted ones are, and what runs sends again what was missed.

use kubekit::cluster;
use serde_json::{Value, json};
use testkit::{client, eventually, origin::Origin, origin::Reply};

use super::{
    read,
    shipped::{Shipped, container},
};
use crate::process::Fanfare;

const SHIPPED: Shipped = Shipped("broadcast");

/// The workload with the operations of the component, as kustomize applies them.
fn patched(namespace: &str) -> Value {
    let text = read("deploy/broadcast/journal/kustomization.yaml");
    let component: Value = serde_yaml::from_str(&text).expect("it is YAML");
    assert_eq!(component["kind"], "Component");
    let patches = component["patches"].as_array().expect("a list");
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0]["target"], json!({"kind": "Deployment", "name": "fanfare"}));
    let mut object = SHIPPED.deployment(namespace);
    let operations: Vec<Value> =
        serde_yaml::from_str(patches[0]["patch"].as_str().expect("a text")).expect("it is YAML");
    for operation in operations {
        apply(&mut object, &operation);
    }
    object
}

/// One operation of a JSON patch (RFC 6902).
fn apply(object: &mut Value, operation: &Value) {
    let path = operation["path"].as_str().expect("a path");
    let (parent, key) = path.rsplit_once('/').expect("a path");
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{path}: nothing to change"));
    let value = operation["value"].clone();
    match (operation["op"].as_str(), parent) {
        (Some("add"), Value::Array(list)) if key == "-" => list.push(value),
        (Some("add"), Value::Object(fields)) => assert!(fields.insert(key.to_owned(), value).is_none(), "{path}"),
        (Some("replace"), Value::Object(fields)) => assert!(fields.insert(key.to_owned(), value).is_some(), "{path}"),
        (Some("remove"), Value::Object(fields)) => assert!(fields.remove(key).is_some(), "{path}"),
        (operation, _) => panic!("{operation:?} {path}"),
    }
}

#[tokio::test]
async fn the_patched_workload_is_accepted_with_a_volume_for_each_pod() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("journal").await;
    let workload = patched(&namespace);
    assert_eq!(workload["kind"], "StatefulSet");
    let accepted = cluster.dry_run_yaml(&workload.to_string()).await.unwrap_or_else(|e| panic!("{workload}: {e}"));
    assert_eq!(accepted.len(), 1);
    let claim = &workload["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
    let mount = &container(&workload)["volumeMounts"][0];
    assert_eq!(&mount["name"], claim);
    let flag = container(&workload)["args"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let journal = flag.filter_map(|flag| flag.strip_prefix("--redeliver-journal=")).collect::<Vec<_>>();
    assert!(journal.len() == 1 && journal[0].starts_with(mount["mountPath"].as_str().expect("a path")), "{journal:?}");
    assert_eq!(workload["spec"]["serviceName"], SHIPPED.objects("service.yaml", "x")[0]["metadata"]["name"]);
    let pod = &workload["spec"]["template"]["spec"]["securityContext"];
    assert_eq!(pod["fsGroup"], pod["runAsGroup"], "the process can write to its volume");

    // A mistake would have been noticed.
    let mistaken = workload.to_string().replace("volumeClaimTemplates", "volumeClaims");
    let refusal = cluster.dry_run_yaml(&mistaken).await.expect_err("there is no such field");
    assert!(refusal.reason.contains("volumeClaims"), "{refusal}");
}

#[tokio::test]
async fn its_pods_are_admitted_where_only_restricted_ones_are() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("journal-restricted").await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let restricted =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    cluster.apply_yaml(&restricted.to_string()).await.expect("a valid namespace");
    let template = &patched(&namespace)["spec"]["template"];
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = "fanfare-0".into();
    pod["metadata"]["namespace"] = namespace.as_str().into();
    // As the controller fills it in.
    pod["spec"]["volumes"] = json!([{"name": "journal", "persistentVolumeClaim": {"claimName": "journal-fanfare-0"}}]);
    cluster.dry_run_yaml(&pod.to_string()).await.expect("a pod as restricted as can be");
}

#[tokio::test]
async fn the_statefulset_redelivers_missed_requests() {
    let workload = patched("default");
    let container = container(&workload);
    let mount = container["volumeMounts"][0]["mountPath"].as_str().expect("a path");
    let volume = tempfile::tempdir().expect("a temporary folder");
    let folder = volume.path().to_str().expect("ASCII");
    let arguments = container["args"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let ours = |text: &&str| text.starts_with("--redeliver") || text.starts_with("--on-deferred");
    let flags: Vec<String> = arguments.filter(ours).map(|text| text.replace(mount, folder)).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let origin = Origin::start(Reply::ok("purged"));
    origin.stop_listening().await;
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    fanfare.wait_ready().await;
    let purge = async || client::request(fanfare.address(), "PURGE", "/path", &[], b"").await.complete();
    let answer = purge().await.expect_status(202);
    assert!(answer.header("x-broadcast-job").is_some(), "{answer}");
    assert!(volume.path().join("journal/journal.redb").is_file());
    origin.listen_again().await;
    origin.wait_requests(1).await;
    eventually!("a live request", purge().await.status, |status| *status == 200);
}
