//! `deploy/broadcast` on a real API server: accepted unchanged in a restricted namespace, with exactly the rights that it needs.

use std::time::Duration;

use kubekit::cluster;
use serde_json::{Value, json};
use testkit::client;

use super::shipped::{Shipped, api, container, yaml};
use crate::process::{Fanfare, run};

const SHIPPED: Shipped = Shipped("broadcast");

#[test]
fn kustomize_applies_every_manifest_but_the_example() {
    SHIPPED.check_kustomization();
}

#[tokio::test]
async fn the_api_server_accepts_every_manifest() {
    let kinds =
        ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Role", "RoleBinding", "Service", "ServiceAccount"];
    SHIPPED.check_accepted(&kinds).await;

    // A mistake would have been refused.
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("mistaken").await;
    let mistaken = yaml(&SHIPPED.objects("deployment.yaml", &namespace)).replace("readinessProbe", "readyProbe");
    let refusal = cluster.dry_run_yaml(&mistaken).await.expect_err("there is no such field");
    assert!(refusal.reason.contains("readyProbe"), "{refusal}");
}

#[tokio::test]
async fn the_pod_is_admitted_where_only_restricted_ones_are() {
    SHIPPED.check_restricted().await;
}

#[tokio::test]
async fn the_role_grants_one_watch_and_nothing_else() {
    let cluster = cluster::shared().await;
    let (namespace, elsewhere) = (cluster.namespace("least").await, cluster.namespace("elsewhere").await);
    let rule = json!({"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]});
    let account = SHIPPED.check_rights(&cluster, &namespace, &[rule]).await;

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
    let account = SHIPPED.account(&cluster, &namespace).await;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "cache-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": "cache"}},
        "endpoints": [{"addresses": ["192.0.2.7"]}], "ports": [{"name": "http", "port": 8000}],
    });
    cluster.apply_yaml(&slice.to_string()).await.expect("a valid slice");

    let deployment = SHIPPED.deployment(&namespace);
    let container = container(&deployment);
    // Expands arguments and the downward API, as the kubelet does.
    let variable = &container["env"][0];
    assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "metadata.namespace");
    let reference = format!("$({})", variable["name"].as_str().expect("a name"));
    let arguments = container["args"].as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"));
    let mut arguments: Vec<String> = arguments.map(|text| text.replace(&reference, &namespace)).collect();
    let kubeconfig = account.kubeconfig_path().to_str().expect("a path of ASCII");
    // Port 0 instead of the defaults, with which the manifest's ports are compared below.
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
    // The text is wrapped.
    let help = run(["broadcast", "--help"]).await.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for port in container["ports"].as_array().expect("a list") {
        assert!(help.contains(&format!("[default: 0.0.0.0:{}]", port["containerPort"])), "{port}");
    }

    let config: Value = serde_json::from_str(&client::get(fanfare.admin(), "/-/config").await.text()).expect("JSON");
    let seconds = |value: &Value| {
        let text = value.as_str().unwrap_or_else(|| panic!("no duration: {value}"));
        Duration::from_secs(text.strip_suffix('s').and_then(|n| n.parse().ok()).expect("whole seconds"))
    };
    let (delay, drain) = (seconds(&config["drain_delay"]), seconds(&config["drain_timeout"]));
    let timeout = seconds(&config["broadcast"][0]["routes"][0]["timeout"]);
    let grace = &deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    let grace = Duration::from_secs(grace.as_u64().expect("a number"));
    assert!(drain > timeout, "a request that came in last still gets its answer");
    assert!(grace >= delay + drain + Duration::from_secs(5), "the kubelet waits for the end of the drain");
    let readiness = &container["readinessProbe"];
    let noticed = readiness["periodSeconds"].as_u64().zip(readiness["failureThreshold"].as_u64());
    assert!(noticed.is_some_and(|(period, failures)| delay > Duration::from_secs(period * failures)), "{readiness}");
}

#[test]
fn selectors_match_the_pods() {
    let deployment = SHIPPED.deployment("x");
    let template = &deployment["spec"]["template"];
    let labels = template["metadata"]["labels"].as_object().expect("it has labels");
    let spread = template["spec"]["topologySpreadConstraints"].as_array().expect("a list").clone();
    let mut selectors: Vec<Value> =
        spread.iter().map(|spread| spread["labelSelector"]["matchLabels"].clone()).collect();
    selectors.push(deployment["spec"]["selector"]["matchLabels"].clone());
    selectors.push(SHIPPED.objects("service.yaml", "x")[0]["spec"]["selector"].clone());
    selectors.push(SHIPPED.objects("poddisruptionbudget.yaml", "x")[0]["spec"]["selector"]["matchLabels"].clone());
    selectors.push(SHIPPED.objects("networkpolicy.yaml", "x")[0]["spec"]["podSelector"]["matchLabels"].clone());
    for selector in selectors {
        assert_eq!(selector.as_object(), Some(labels));
    }
    let account = &SHIPPED.objects("serviceaccount.yaml", "x")[0]["metadata"]["name"];
    assert_eq!(&template["spec"]["serviceAccountName"], account);
    let ports = container(&deployment)["ports"].as_array().expect("a list");
    let target = &SHIPPED.objects("service.yaml", "x")[0]["spec"]["ports"][0]["targetPort"];
    assert!(ports.iter().any(|port| &port["name"] == target), "{target}");
}

#[test]
fn the_image_is_of_this_version() {
    SHIPPED.check_image();
}
