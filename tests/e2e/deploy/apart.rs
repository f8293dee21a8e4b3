//! Several installations in one namespace do not select each other's pods, and do not overwrite each other's objects.

use std::collections::{BTreeMap, BTreeSet};

use kubekit::cluster;
use serde_json::Value;
use testkit::{client, netns};

use super::shipped::{Shipped, container, containers, yaml};
use crate::process::Fanfare;

/// The folders for the cluster in which Fanfare runs.
const FOLDERS: [Shipped; 5] =
    [Shipped("broadcast"), Shipped("discover"), Shipped("elect"), Shipped("endpoints"), Shipped("mirror")];

/// The label that distinguishes two installations of the same folder.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// Every object of a folder.
fn objects(folder: Shipped) -> Vec<Value> {
    folder.files().iter().flat_map(|file| folder.objects(file, "shop")).collect()
}

/// The labels of a folder's pods.
fn pod_labels(folder: Shipped) -> Value {
    folder.deployment("shop")["spec"]["template"]["metadata"]["labels"].clone()
}

/// Every selector of pods in an object, except for those of other applications' pods.
fn selectors(object: &Value) -> Vec<&Value> {
    let mut found: Vec<&Value> = Vec::new();
    if object["kind"] == "Service" {
        found.extend(object["spec"].get("selector"));
    }
    let mut rest = vec![object];
    while let Some(value) = rest.pop() {
        match value {
            Value::Object(map) => {
                found.extend(map.get("matchLabels"));
                rest.extend(map.iter().filter(|(key, _)| *key != "ingress").map(|(_, value)| value));
            }
            Value::Array(list) => rest.extend(list),
            _ => {}
        }
    }
    found
}

fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().expect("a mapping").iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Applies the overlay of the READMEs to an object: names and an instance of its own.
fn second(object: &Value) -> Value {
    let mut text = object.to_string();
    let name = object["metadata"]["name"].as_str().expect("a name");
    let names: BTreeSet<&str> =
        [Some(name), object["roleRef"]["name"].as_str(), object["subjects"][0]["name"].as_str()]
            .into_iter()
            .flatten()
            .collect();
    for name in names {
        text = text.replace(&format!("\"name\":\"{name}\""), &format!("\"name\":\"{name}-second\""));
    }
    let instance = object["metadata"]["labels"][INSTANCE].as_str().expect("every object says of which install it is");
    let label = |instance: &str| format!("\"{INSTANCE}\":\"{instance}\"");
    serde_json::from_str(&text.replace(&label(instance), &label("second"))).expect("it is still JSON")
}

#[test]
fn no_two_folders_have_an_object_of_the_same_kind_and_name() {
    let mut seen: BTreeMap<(String, String), &str> = BTreeMap::new();
    for folder in FOLDERS {
        for object in objects(folder) {
            let key = (object["kind"].to_string(), object["metadata"]["name"].to_string());
            let before = seen.insert(key.clone(), folder.0);
            assert!(before.is_none(), "{key:?} is in deploy/{} and in deploy/{}", before.unwrap_or_default(), folder.0);
        }
    }
}

#[test]
fn no_selector_takes_a_pod_of_another_folder_or_of_a_second_install() {
    let mut count = 0;
    for folder in FOLDERS {
        let labels = pod_labels(folder);
        for object in objects(folder) {
            let again = second(&object);
            for (selector, other) in selectors(&object).into_iter().zip(selectors(&again)) {
                count += 1;
                assert!(selects(selector, &labels), "deploy/{}: {object} takes its own", folder.0);
                assert!(!selects(other, &labels), "deploy/{}: {selector} takes a second install", folder.0);
                for foreign in FOLDERS.into_iter().filter(|foreign| foreign.0 != folder.0) {
                    assert!(
                        !selects(selector, &pod_labels(foreign)),
                        "deploy/{}: {selector} takes {}",
                        folder.0,
                        foreign.0
                    );
                }
            }
        }
    }
    assert!(count > 8, "only {count} selectors were found");
}

#[tokio::test]
async fn the_api_server_keeps_what_each_of_several_installs_in_a_namespace_may_do() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("apart").await;
    let mut granted = BTreeMap::new();
    for folder in FOLDERS {
        let shipped: Vec<Value> = folder.files().iter().flat_map(|file| folder.objects(file, &namespace)).collect();
        for install in [shipped.clone(), shipped.iter().map(second).collect()] {
            cluster.apply_yaml(&yaml(&install)).await.unwrap_or_else(|e| panic!("deploy/{}: {e}", folder.0));
            let roles = install.iter().filter(|object| object["kind"] == "Role");
            granted.extend(roles.map(|role| (role["metadata"]["name"].clone().to_string(), role["rules"].clone())));
        }
    }
    assert_eq!(granted.len(), 2 * FOLDERS.len(), "each install has a Role of its own");
    let roles = cluster.read(&format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles")).await;
    let roles = roles.expect("they can be listed")["items"].as_array().cloned().expect("a list");
    let kept: BTreeMap<String, Value> =
        roles.iter().map(|role| (role["metadata"]["name"].to_string(), role["rules"].clone())).collect();
    assert_eq!(kept, granted);
}

#[test]
fn each_install_of_a_broadcaster_has_a_name_of_its_own_in_via() {
    // The kubelet expands the variable by which replicas know each other.
    let name = |deployment: &Value| {
        let variables = container(deployment)["env"].as_array().expect("a list");
        let variable = variables.iter().find(|variable| variable["name"] == "POD_SERVICE").expect("it is set");
        let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().expect("it is a field of the pod");
        let label = field.strip_prefix("metadata.labels['").and_then(|rest| rest.strip_suffix("']")).expect("a label");
        deployment["spec"]["template"]["metadata"]["labels"][label].as_str().expect("pods have it").to_owned()
    };
    let deployment = Shipped("broadcast").deployment("shop");
    assert_eq!(name(&deployment), "fanfare");
    assert_eq!(name(&second(&deployment)), "second");
}

#[test]
fn a_sidecar_starts_before_its_workload_and_ends_after_it() {
    for folder in [Shipped("elect"), Shipped("endpoints")] {
        let workload = folder.deployment("shop");
        let ours = container(&workload);
        let pod = &workload["spec"]["template"]["spec"];
        assert_eq!(containers(pod).next(), Some(ours), "deploy/{}", folder.0);
        assert!(pod["initContainers"].as_array().is_some_and(|first| first.contains(ours)), "deploy/{}", folder.0);
        // That makes it a native sidecar: it keeps running, and the other containers start after it.
        assert_eq!(ours["restartPolicy"], "Always", "deploy/{}", folder.0);
        assert!(ours["startupProbe"]["httpGet"].is_object(), "deploy/{}", folder.0);
    }
}

/// Step-down is possible on loopback only; the listener on all addresses is read-only.
#[test]
fn where_something_can_be_changed_only_the_pod_itself_can_ask() {
    let elect = Shipped("elect").deployment("shop");
    let arguments = container(&elect)["args"].as_array().expect("a list");
    let http = arguments.iter().filter_map(|argument| argument.as_str()?.strip_prefix("-http="));
    assert_eq!(http.collect::<Vec<_>>(), ["127.0.0.1:4040"]);
}

#[test]
fn the_log_level_is_changed_from_this_machine_alone() {
    netns::inside(testkit::test_name!(), async || {
        let arguments = ["broadcast", "-i", "127.0.0.1:0", "-m", "0.0.0.0:0", "--endpoints", "127.0.0.1:9"];
        let fanfare = Fanfare::serve(arguments).await;
        let port = fanfare.admin().port();
        let put = async |address: std::net::IpAddr| {
            client::request((address, port).into(), "PUT", "/-/log-level", &[], b"debug").await.complete()
        };
        let refused = put(netns::ipv4(1)).await;
        assert_eq!(refused.status, 403);
        assert!(refused.text().contains("loopback"), "{refused}");
        let level = client::get((netns::ipv4(1), port).into(), "/-/log-level").await.complete().text();
        assert_eq!(level, "info", "everybody may look");
        assert_eq!(put(std::net::Ipv4Addr::LOCALHOST.into()).await.status, 200);
    });
}
