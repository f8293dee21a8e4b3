//! The common checks of every folder of manifests, on a real API server.

use std::collections::BTreeSet;

use kubekit::cluster::{self, Account, Cluster};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{path, read};

/// A folder below `deploy/`.
#[derive(Clone, Copy)]
pub(crate) struct Shipped(pub(crate) &'static str);

/// An example to edit before use, which kustomize leaves out.
const EXAMPLE: &str = "networkpolicy.yaml";

// === impl Shipped ===

impl Shipped {
    /// The names of the manifests, without kustomize's own file.
    pub(crate) fn files(self) -> Vec<String> {
        let entries = std::fs::read_dir(path(&format!("deploy/{}", self.0))).expect("the folder is there");
        let names = entries.map(|entry| entry.expect("it can be listed").file_name().into_string().expect("ASCII"));
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml").collect();
        names.sort();
        names
    }

    /// The objects of a manifest, as kustomize renders them for a namespace.
    pub(crate) fn objects(self, file: &str, namespace: &str) -> Vec<Value> {
        let text = read(&format!("deploy/{}/{file}", self.0));
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

    /// The workload.
    pub(crate) fn deployment(self, namespace: &str) -> Value {
        let stateful = self.files().iter().any(|name| name == "statefulset.yaml");
        self.objects(if stateful { "statefulset.yaml" } else { "deployment.yaml" }, namespace).remove(0)
    }

    /// The service account of the manifests, with its rights.
    pub(crate) async fn account(self, cluster: &Cluster, namespace: &str) -> Account {
        for file in ["serviceaccount.yaml", "rbac.yaml"] {
            cluster.apply_yaml(&yaml(&self.objects(file, namespace))).await.expect("the manifest is accepted");
        }
        let name = &self.objects("serviceaccount.yaml", namespace)[0]["metadata"]["name"];
        cluster.token_for(namespace, name.as_str().expect("a name")).await
    }

    /// Checks that kustomize applies every manifest but the example.
    pub(crate) fn check_kustomization(self) {
        let text = read(&format!("deploy/{}/kustomization.yaml", self.0));
        let kustomization: Value = serde_yaml::from_str(&text).expect("it is YAML");
        let resources = kustomization["resources"].as_array().expect("a list");
        let mut applied: Vec<&str> = resources.iter().map(|name| name.as_str().expect("a name")).collect();
        applied.sort_unstable();
        let files = self.files();
        let expected: Vec<&str> = files.iter().map(String::as_str).filter(|name| *name != EXAMPLE).collect();
        assert_eq!(applied, expected);
    }

    /// Checks that the API server accepts every manifest, and that these are the kinds of their objects.
    pub(crate) async fn check_accepted(self, expected: &[&str]) {
        let cluster = cluster::shared().await;
        let namespace = cluster.namespace("manifests").await;
        let mut kinds = Vec::new();
        for file in self.files() {
            let objects = self.objects(&file, &namespace);
            let accepted = cluster.dry_run_yaml(&yaml(&objects)).await.unwrap_or_else(|e| panic!("{file}: {e}"));
            kinds.extend(accepted.into_iter().map(|object| object.types.expect("it has a kind").kind));
        }
        kinds.sort();
        assert_eq!(kinds, expected);
    }

    /// Checks that a restricted namespace admits the pod, and refuses a privileged one.
    pub(crate) async fn check_restricted(self) {
        let cluster = cluster::shared().await;
        let namespace = cluster.namespace("restricted").await;
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let restricted =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        cluster.apply_yaml(&restricted.to_string()).await.expect("a valid namespace");

        let template = &self.deployment(&namespace)["spec"]["template"];
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

    /// Checks that the role grants exactly these rules in its own namespace, and nothing elsewhere.
    pub(crate) async fn check_rights(self, cluster: &Cluster, namespace: &str, expected: &[Value]) -> Account {
        let elsewhere = cluster.namespace("elsewhere").await;
        let account = self.account(cluster, namespace).await;
        let nobody = cluster.service_account(namespace, "nobody").await;
        let [before, before_paths] = rules(&nobody, namespace).await;
        let granted = async || {
            let [resources, paths] = rules(&account, namespace).await;
            assert_eq!(paths, before_paths);
            resources.difference(&before).cloned().collect::<BTreeSet<_>>()
        };
        let expected: BTreeSet<String> = expected.iter().map(Value::to_string).collect();
        testkit::eventually!("the role to count", granted().await, |granted| *granted == expected);
        assert_eq!(rules(&account, &elsewhere).await, rules(&nobody, &elsewhere).await);
        account
    }

    /// Checks that the image has this version.
    pub(crate) fn check_image(self) {
        let deployment = self.deployment("x");
        let images =
            containers(&deployment["spec"]["template"]["spec"]).filter_map(|container| container["image"].as_str());
        let ours: Vec<_> = images.filter_map(|image| image.rsplit_once("fanfare:")).map(|(_, tag)| tag).collect();
        assert_eq!(ours, [env!("CARGO_PKG_VERSION")]);
    }
}

/// As one text; JSON is YAML as well.
pub(crate) fn yaml(objects: &[Value]) -> String {
    objects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// Our container in the workload's pods.
pub(crate) fn container(deployment: &Value) -> &Value {
    let ours = |container: &&Value| container["image"].as_str().is_some_and(|image| image.contains("fanfare:"));
    containers(&deployment["spec"]["template"]["spec"]).find(ours).expect("one of them is ours")
}

/// Every container of a pod, those that start first before the others.
pub(crate) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|kind| pod[kind].as_array().into_iter().flatten())
}

/// Sends a request to the API server as an account. Returns the body, or the error.
pub(crate) async fn api(account: &Account, method: &str, path: &str, body: Value) -> Result<String, String> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = hyper::Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = account.client().await.request_text(request.body(body).expect("a valid request")).await;
    answer.map_err(|error| format!("{error:?}"))
}

/// The rights of an account in a namespace, according to the API server: rules for resources, rules for paths.
pub(crate) async fn rules(account: &Account, namespace: &str) -> [BTreeSet<String>; 2] {
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
