//! `deploy/broadcast` on a real API server: accepted as it is, within what a restricted namespace permits, with rights
//! that are enough and not one too many.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize as _;
use serde_json::{Value, json};
use testkit::{
    client,
    cluster::{self, Account, Cluster},
};

use super::{path, read};
use crate::process::{Fanfare, run};

const FOLDER: &str = "deploy/broadcast";

/// The names of the manifests, kustomize's own file not among them.
fn files() -> Vec<String> {
    let entries = std::fs::read_dir(path(FOLDER)).expect("the folder is there");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name().into_string().expect("ASCII"));
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml").collect();
    names.sort();
    names
}

/// The objects of a manifest as kustomize hands them over for a namespace.
fn objects(file: &str, namespace: &str) -> Vec<Value> {
    let text = read(&format!("{FOLDER}/{file}"));
    let documents = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize);
    let mut objects: Vec<Value> = documents.map(|object| object.expect("it is YAML")).collect();
    for object in &mut objects {
        assert_eq!(object["metadata"]["namespace"], Value::Null, "{file}: the namespace is kustomize's to set");
        object["metadata"]["namespace"] = namespace.into();
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            subject["namespace"] = namespace.into();
        }
    }
    objects
}

/// As one text; JSON is YAML as well.
fn yaml(objects: &[Value]) -> String {
    objects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

fn deployment(namespace: &str) -> Value {
    objects("deployment.yaml", namespace).remove(0)
}

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

/// The account of the manifests, with what they grant it.
async fn account(cluster: &Cluster, namespace: &str) -> Account {
    for file in ["serviceaccount.yaml", "rbac.yaml"] {
        cluster.apply_yaml(&yaml(&objects(file, namespace))).await.expect("the manifest is accepted");
    }
    cluster.token_for(namespace, "fanfare").await
}

/// One request to the API server with the rights of an account: the body, or what it said instead.
async fn api(account: &Account, method: &str, path: &str, body: Value) -> Result<String, String> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = hyper::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = account.client().await.request_text(request.body(body).expect("a valid request")).await;
    answer.map_err(|error| format!("{error:?}"))
}

/// What an account may do in a namespace, as the API server itself sees it: rules for resources, rules for paths.
async fn rules(account: &Account, namespace: &str) -> [BTreeSet<String>; 2] {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let answer = api(account, "POST", path, review).await.expect("everybody may ask that");
    let answer: Value = serde_json::from_str(&answer).expect("it is JSON");
    assert_eq!(answer["status"]["incomplete"], false, "{answer}");
    ["resourceRules", "nonResourceRules"]
        .map(|kind| answer["status"][kind].as_array().into_iter().flatten().map(ToString::to_string).collect())
}

#[test]
fn kustomize_applies_every_manifest_but_the_example() {
    let kustomization: Value = serde_yaml::from_str(&read("deploy/broadcast/kustomization.yaml")).expect("it is YAML");
    let mut applied: Vec<&str> = kustomization["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|name| name.as_str().expect("a name"))
        .collect();
    applied.sort_unstable();
    let files = files();
    let expected: Vec<&str> = files.iter().map(String::as_str).filter(|name| *name != "networkpolicy.yaml").collect();
    assert_eq!(applied, expected);
}

#[tokio::test]
async fn the_api_server_accepts_every_manifest() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("manifests").await;
    let mut kinds = Vec::new();
    for file in files() {
        let objects = objects(&file, &namespace);
        let accepted = cluster.dry_run_yaml(&yaml(&objects)).await.unwrap_or_else(|e| panic!("{file}: {e}"));
        kinds.extend(accepted.into_iter().map(|object| object.types.expect("it has a kind").kind));
    }
    kinds.sort();
    let expected =
        ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Role", "RoleBinding", "Service", "ServiceAccount"];
    assert_eq!(kinds, expected);

    // A mistake would have been noticed.
    let mistaken = yaml(&objects("deployment.yaml", &namespace)).replace("readinessProbe", "readyProbe");
    let refusal = cluster.dry_run_yaml(&mistaken).await.expect_err("there is no such field");
    assert!(refusal.reason.contains("readyProbe"), "{refusal}");
}

#[tokio::test]
async fn the_pod_is_admitted_where_only_restricted_ones_are() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("restricted").await;
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let restricted =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    cluster.apply_yaml(&restricted.to_string()).await.expect("a valid namespace");

    let template = &deployment(&namespace)["spec"]["template"];
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = "fanfare".into();
    pod["metadata"]["namespace"] = namespace.as_str().into();
    let mut lax = pod.clone();
    lax["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    // The label takes effect a moment after it was set.
    let refused = async || cluster.dry_run_yaml(&lax.to_string()).await.err().map(|refusal| refusal.reason);
    testkit::eventually!("a lax pod to be refused", refused().await, |refused| refused
        .as_ref()
        .is_some_and(|reason| reason.contains("allowPrivilegeEscalation")));
    cluster.dry_run_yaml(&pod.to_string()).await.expect("a pod as restricted as can be");
}

#[tokio::test]
async fn the_role_grants_one_watch_and_nothing_else() {
    let cluster = cluster::shared().await;
    let (namespace, elsewhere) = (cluster.namespace("least").await, cluster.namespace("elsewhere").await);
    let account = account(&cluster, &namespace).await;
    let nobody = cluster.service_account(&namespace, "nobody").await;

    let [before, before_paths] = rules(&nobody, &namespace).await;
    let granted = async || {
        let [resources, paths] = rules(&account, &namespace).await;
        assert_eq!(paths, before_paths);
        resources.difference(&before).cloned().collect::<Vec<_>>()
    };
    let granted = testkit::eventually!("the role to count", granted().await, |granted| !granted.is_empty());
    let [granted] = granted.as_slice() else { panic!("more than one rule: {granted:?}") };
    let granted: Value = serde_json::from_str(granted).expect("it is JSON");
    let rule = json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]});
    assert_eq!(granted, rule);
    assert_eq!(rules(&account, &elsewhere).await, rules(&nobody, &elsewhere).await);

    let core = |resource: &str| format!("/api/v1/namespaces/{namespace}/{resource}");
    let slices = |namespace: &str| format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let here = slices(&namespace);
    for path in [here.clone(), format!("{here}?watch=1&timeoutSeconds=1")] {
        api(&account, "GET", &path, Value::Null).await.unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "x"}, "addressType": "IPv4",
        "endpoints": [],
    });
    let forbidden = [
        ("GET", format!("{here}/x"), Value::Null),
        ("POST", here.clone(), slice),
        ("DELETE", format!("{here}/x"), Value::Null),
        ("GET", slices(&elsewhere), Value::Null),
        ("GET", "/apis/discovery.k8s.io/v1/endpointslices".to_owned(), Value::Null),
        ("GET", core("secrets"), Value::Null),
        ("GET", core("pods"), Value::Null),
        ("GET", core("services"), Value::Null),
        ("GET", core("endpoints"), Value::Null),
    ];
    for (method, path, body) in forbidden {
        let refusal = api(&account, method, &path, body).await.expect_err("nothing grants it");
        assert!(refusal.contains("code: 403"), "{method} {path}: {refusal}");
    }
}

#[tokio::test]
async fn the_deployment_s_arguments_and_rights_are_enough_to_become_ready() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("ready").await;
    let account = account(&cluster, &namespace).await;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "cache-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": "cache"}},
        "endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"name": "http", "port": 8000}],
    });
    cluster.apply_yaml(&slice.to_string()).await.expect("a valid slice");

    let deployment = deployment(&namespace);
    let container = container(&deployment);
    // What the kubelet does with arguments and the downward API.
    let variable = &container["env"][0];
    assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "metadata.namespace");
    let reference = format!("$({})", variable["name"].as_str().expect("a name"));
    let arguments = container["args"].as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"));
    let mut arguments: Vec<String> = arguments.map(|text| text.replace(&reference, &namespace)).collect();
    let kubeconfig = account.kubeconfig_path().to_str().expect("a path of ASCII");
    // Port 0 instead of the defaults, which the manifest's ports are compared with below.
    for (flag, value) in [("-i", "127.0.0.1:0"), ("-m", "127.0.0.1:0"), ("-k", kubeconfig)] {
        arguments.extend([flag.to_owned(), value.to_owned()]);
    }
    let fanfare = Fanfare::serve(&arguments).await;
    fanfare.wait_ready().await;
    let endpoints = client::get(fanfare.admin(), "/-/endpoints").await.text();
    assert!(endpoints.contains("192.0.2.7:8000"), "{endpoints}");

    for probe in ["livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"], "admin", "{probe}");
        let answer = client::get(fanfare.admin(), get["path"].as_str().expect("a path")).await;
        assert_eq!(answer.complete().status, 200, "{probe}");
    }
    let help = run(["broadcast", "--help"]).await.stdout;
    for port in container["ports"].as_array().expect("a list") {
        assert!(help.contains(&format!("[default: 0.0.0.0:{}]", port["containerPort"])), "{port}");
    }

    let config: Value = serde_json::from_str(&client::get(fanfare.admin(), "/-/config").await.text()).expect("JSON");
    let seconds = |value: &Value| {
        let text = value.as_str().unwrap_or_else(|| panic!("no duration: {value}"));
        Duration::from_secs(text.strip_suffix('s').and_then(|n| n.parse().ok()).expect("whole seconds"))
    };
    let process = &config["process"];
    let (delay, drain) = (seconds(&process["drain_delay"]), seconds(&process["drain_timeout"]));
    let timeout = seconds(&config["proxy"]["listeners"][0]["routes"][0]["policy"]["timeouts"]["total"]);
    let grace = &deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    let grace = Duration::from_secs(grace.as_u64().expect("a number"));
    assert!(drain > timeout, "a request that came in last still gets its answer");
    assert!(grace >= delay + drain + Duration::from_secs(5), "the kubelet waits for the end of the drain");
    let readiness = &container["readinessProbe"];
    let noticed = readiness["periodSeconds"].as_u64().zip(readiness["failureThreshold"].as_u64());
    assert!(noticed.is_some_and(|(period, failures)| delay > Duration::from_secs(period * failures)), "{readiness}");
}

#[test]
fn what_selects_the_pods_selects_them() {
    let deployment = deployment("x");
    let template = &deployment["spec"]["template"];
    let labels = template["metadata"]["labels"].as_object().expect("it has labels");
    let spread = template["spec"]["topologySpreadConstraints"].as_array().expect("a list").clone();
    let mut selectors: Vec<Value> =
        spread.iter().map(|spread| spread["labelSelector"]["matchLabels"].clone()).collect();
    selectors.push(deployment["spec"]["selector"]["matchLabels"].clone());
    selectors.push(objects("service.yaml", "x")[0]["spec"]["selector"].clone());
    selectors.push(objects("poddisruptionbudget.yaml", "x")[0]["spec"]["selector"]["matchLabels"].clone());
    selectors.push(objects("networkpolicy.yaml", "x")[0]["spec"]["podSelector"]["matchLabels"].clone());
    for selector in selectors {
        assert_eq!(selector.as_object(), Some(labels));
    }
    let account = &objects("serviceaccount.yaml", "x")[0]["metadata"]["name"];
    assert_eq!(&template["spec"]["serviceAccountName"], account);
    let ports = container(&deployment)["ports"].as_array().expect("a list");
    let target = &objects("service.yaml", "x")[0]["spec"]["ports"][0]["targetPort"];
    assert!(ports.iter().any(|port| &port["name"] == target), "{target}");
}

#[test]
fn the_image_is_of_this_version() {
    let deployment = deployment("x");
    let image = container(&deployment)["image"].as_str().expect("a text");
    assert_eq!(image.rsplit_once(':').map(|(_, tag)| tag), Some(env!("CARGO_PKG_VERSION")));
}
