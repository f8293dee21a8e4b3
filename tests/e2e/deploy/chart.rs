//! The Helm chart: rendered by helm for every role, taken by a real API server, and equal to the manifests for kustomize where both say
//! the same.

use std::collections::{BTreeMap, BTreeSet};

use kubekit::cluster::{self, Cluster};
use serde::Deserialize as _;
use serde_json::Value;
use testkit::helm;

use super::{path, read, shipped::yaml};
use crate::process::run;

/// Every role, each with a file of values in `deploy/chart/ci`.
const ROLES: [&str; 7] = ["broadcast", "elect", "discover", "bridge", "endpoints", "mirror", "run"];

/// What the Prometheus operator defines, of which the chart has objects.
const OPERATORS: [&str; 2] = ["podmonitors", "prometheusrules"];

fn values_of(role: &str) -> String {
    path(&format!("deploy/chart/ci/{role}-values.yaml")).display().to_string()
}

fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(Value::deserialize);
    let objects = documents.map(|object| object.expect("helm renders YAML"));
    objects.filter(|object| !object.is_null()).collect()
}

/// The objects of a release with the values of a role, and further arguments of helm.
fn rendered(role: &str, release: &str, namespace: &str, further: &[&str]) -> Vec<Value> {
    let values = values_of(role);
    let args = [&["--values", &values], further].concat();
    let text = helm::template(&path("deploy/chart"), release, namespace, &args);
    objects(&text.unwrap_or_else(|said| panic!("{role}: {said}")))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("there is no {kind}: {objects:?}"))
}

#[test]
fn helm_finds_no_fault_with_the_values_of_any_role() {
    let chart = path("deploy/chart").display().to_string();
    for role in ROLES {
        let said = helm::helm(&["lint", "--strict", &chart, "--values", &values_of(role)]);
        said.unwrap_or_else(|said| panic!("{role}: {said}"));
    }
}

#[test]
fn values_that_do_not_exist_or_do_not_fit_are_refused() {
    for (set, problem) in [
        ("role=bogus", "role"),
        ("replica=3", "replica"),
        ("image.tagg=1", "tagg"),
        ("replicas=many", "replicas"),
        ("role=run", "config"),
    ] {
        let said = helm::template(&path("deploy/chart"), "a", "shop", &["--set", set]).expect_err(set);
        assert!(said.contains(problem), "{set}: {said}");
    }
    let args = ["--values", &values_of("mirror"), "--set", "autoscaling.enabled=true"];
    let said = helm::template(&path("deploy/chart"), "a", "shop", &args).expect_err("of two mirrors one works");
    assert!(said.contains("autoscaling is for the roles"), "{said}");
}

/// Has the API server know the operator's kinds.
async fn define_kinds_of_the_operator(cluster: &Cluster, namespace: &str) {
    for kind in OPERATORS {
        let definition = read(&format!("tests/e2e/deploy/crds/{kind}.yaml"));
        cluster.apply_yaml(&definition).await.unwrap_or_else(|e| panic!("{kind}: {e}"));
        let list = format!("/apis/monitoring.coreos.com/v1/namespaces/{namespace}/{kind}");
        testkit::eventually!(list, cluster.read(&list).await, Option::is_some);
    }
}

#[tokio::test]
async fn an_api_server_takes_every_role_twice_in_one_namespace_and_the_releases_are_apart() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("chart").await;
    define_kinds_of_the_operator(&cluster, &namespace).await;
    let mut seen = BTreeSet::new();
    let mut selectors = BTreeSet::new();
    for role in ROLES {
        for release in ["one", "two"].map(|release| format!("{role}-{release}")) {
            let lock = format!("lock={release}");
            let monitored = "podMonitor.enabled=true,prometheusRule.enabled=true";
            let objects = rendered(role, &release, &namespace, &["--set", &lock, "--set", monitored]);
            let kinds = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).count();
            assert_eq!((kinds("PodMonitor"), kinds("PrometheusRule")), (1, 1), "{release}");
            for object in &objects {
                let key = (object["kind"].to_string(), object["metadata"]["name"].to_string());
                assert!(seen.insert(key.clone()), "{key:?} is of two releases");
            }
            let selector = of_kind(&objects, "Deployment")["spec"]["selector"]["matchLabels"].to_string();
            assert!(selectors.insert(selector), "{release} selects pods of another release");
            let text = yaml(&objects);
            cluster.dry_run_yaml(&text).await.unwrap_or_else(|e| panic!("{release}: {e}"));
            cluster.apply_yaml(&text).await.unwrap_or_else(|e| panic!("{release}: {e}"));
            // An upgrade changes nothing that cannot be changed.
            cluster.apply_yaml(&text).await.unwrap_or_else(|e| panic!("{release}, again: {e}"));
        }
    }
}

#[tokio::test]
async fn pods_are_admitted_where_only_restricted_ones_are() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("restricted-chart").await;
    let labels = serde_json::json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let restricted =
        serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    cluster.apply_yaml(&restricted.to_string()).await.expect("a valid namespace");
    for role in ROLES {
        let objects = rendered(role, role, &namespace, &[]);
        let account = of_kind(&objects, "ServiceAccount");
        cluster.apply_yaml(&account.to_string()).await.expect("a valid account");
        let template = &of_kind(&objects, "Deployment")["spec"]["template"];
        let mut pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]});
        pod["metadata"] =
            serde_json::json!({"name": role, "namespace": namespace, "labels": template["metadata"]["labels"]});
        cluster.dry_run_yaml(&pod.to_string()).await.unwrap_or_else(|e| panic!("{role}: {e}"));
    }
}

#[tokio::test]
async fn what_the_operator_does_not_know_is_refused() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("monitored").await;
    define_kinds_of_the_operator(&cluster, &namespace).await;
    let mut objects = rendered("broadcast", "monitored", &namespace, &[]);
    objects.retain(|object| object["kind"] == "PodMonitor" || object["kind"] == "PrometheusRule");
    cluster.dry_run_yaml(&yaml(&objects)).await.unwrap_or_else(|e| panic!("{e}"));
    objects[0]["spec"]["podMetricsEndpoints"][0]["intervall"] = "30s".into();
    let refused = cluster.dry_run_yaml(&objects[0].to_string()).await.expect_err("there is no such field");
    assert!(refused.reason.contains("intervall"), "{refused}");
    objects[1]["spec"]["groups"][0]["rules"][0]["for"] = "soon".into();
    let refused = cluster.dry_run_yaml(&objects[1].to_string()).await.expect_err("it is no duration");
    assert!(refused.reason.contains("for"), "{refused}");
}

/// The rules of the first object of a text that has any.
fn rules(objects: &[Value]) -> Value {
    let with_rules = objects.iter().find(|object| !object["rules"].is_null());
    with_rules.unwrap_or_else(|| panic!("no rules: {objects:?}"))["rules"].clone()
}

#[test]
fn the_rights_are_those_of_the_manifests_for_kustomize() {
    let mut all = Vec::new();
    for (role, lock) in [
        ("broadcast", "fanfare"),
        ("discover", "fanfare-discover"),
        ("elect", "example"),
        ("endpoints", "example-endpoints"),
        ("mirror", "fanfare-mirror"),
    ] {
        let lock = format!("lock={lock}");
        let expected = rules(&objects(&read(&format!("deploy/{role}/rbac.yaml"))));
        assert_eq!(rules(&rendered(role, "a", "shop", &["--set", &lock])), expected, "{role}");
        all.push(expected);
    }
    let of_run = rules(&rendered("run", "a", "shop", &["--set", "lock=fanfare-discover"]));
    let both: BTreeSet<String> =
        all[..2].iter().flat_map(|rules| rules.as_array().expect("a list")).map(Value::to_string).collect();
    let of_run: BTreeSet<String> = of_run.as_array().expect("a list").iter().map(Value::to_string).collect();
    assert_eq!(of_run, both);
}

#[test]
fn alerts_and_dashboards_are_those_of_observability() {
    let objects = rendered("broadcast", "a", "shop", &[]);
    let alerts: Value = serde_yaml::from_str(&read("deploy/observability/alerts.yaml")).expect("it is YAML");
    assert_eq!(of_kind(&objects, "PrometheusRule")["spec"], alerts);
    let dashboards = &of_kind(&objects, "ConfigMap")["data"];
    for (key, file) in [("fanfare.json", "dashboard.json"), ("fanfare-control.json", "dashboard-control.json")] {
        let shipped: Value = serde_json::from_str(&read(&format!("deploy/observability/{file}"))).expect("it is JSON");
        let shown: Value = serde_json::from_str(dashboards[key].as_str().expect("a text")).expect("it is JSON");
        assert_eq!(shown, shipped, "{key}");
    }
}

/// The container of fanfare in a release.
fn container(objects: &[Value]) -> Value {
    let pod = &of_kind(objects, "Deployment")["spec"]["template"]["spec"];
    let kinds = ["initContainers", "containers"].iter().flat_map(|kind| pod[*kind].as_array().into_iter().flatten());
    let ours = kinds.filter(|container| container["name"] == "fanfare").collect::<Vec<_>>();
    assert_eq!(ours.len(), 1, "{pod}");
    ours[0].clone()
}

#[tokio::test]
async fn the_binary_takes_the_arguments_and_the_file_of_every_role() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for role in ROLES {
        let objects = rendered(role, "a", "shop", &[]);
        let args = container(&objects)["args"].clone();
        let args = args.as_array().expect("a list").iter().map(|arg| arg.as_str().expect("a text").to_owned());
        let args: Vec<String> = args.map(|arg| arg.replace("$(POD_NAMESPACE)", "shop")).collect();
        assert_eq!(args[0], role);
        let flags: BTreeSet<&str> = args.iter().map(|arg| arg.split('=').next().unwrap_or(arg)).collect();
        assert_eq!(flags.len(), args.len(), "a flag is there twice: {args:?}");
        if role == "run" {
            let file = folder.path().join("fanfare.yaml");
            let text = of_kind(&objects, "ConfigMap")["data"]["fanfare.yaml"].as_str().expect("a text").to_owned();
            std::fs::write(&file, text).expect("it can be written");
            let finished = run(["check".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        }
        assert_eq!(container(&objects)["image"], format!("ghcr.io/fanfare/fanfare:{}", env!("CARGO_PKG_VERSION")));
    }
    let given = container(&rendered("broadcast", "a", "shop", &[]))["args"].to_string();
    assert!(given.contains("--threads=4") && !given.contains("--threads=2"), "{given}");
}

/// Values with their defaults, by their paths. A mapping is one value if the table has it as one.
fn leaves(prefix: &str, value: &Value, documented: &BTreeMap<String, Value>, found: &mut BTreeMap<String, Value>) {
    for (key, value) in value.as_object().expect("a mapping") {
        let path = format!("{prefix}{key}");
        if value.is_object() && !documented.contains_key(&path) {
            leaves(&format!("{path}."), value, documented, found);
        } else {
            found.insert(path, value.clone());
        }
    }
}

#[test]
fn every_value_is_in_the_readme_with_its_default_and_in_the_schema_with_the_same_words() {
    let text = read("deploy/chart/README.md");
    let table = text.split_once("## Values").expect("there is a table").1;
    let mut documented = BTreeMap::new();
    let mut meanings = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [name, default, meaning] = cells.as_slice() else { panic!("{row}") };
        let name = name.trim_start_matches("| ").trim_matches('`').to_owned();
        let default = serde_json::from_str(default.trim_matches('`')).unwrap_or_else(|e| panic!("{row}: {e}"));
        documented.insert(name.clone(), default);
        meanings.insert(name, meaning.trim_end_matches(" |").to_owned());
    }
    let values: Value = serde_yaml::from_str(&read("deploy/chart/values.yaml")).expect("it is YAML");
    let mut found = BTreeMap::new();
    leaves("", &values, &documented, &mut found);
    assert_eq!(found, documented);
    let schema: Value = serde_json::from_str(&read("deploy/chart/values.schema.json")).expect("it is JSON");
    for (name, meaning) in meanings {
        let mut at = &schema;
        for part in name.split('.') {
            at = &at["properties"][part];
        }
        assert_eq!(at["description"], meaning, "{name}");
    }
}
