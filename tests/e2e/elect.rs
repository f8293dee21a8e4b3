//! Tests of `fanfare elect`, as other containers of its pod use it.

mod api;
mod chaos;
mod contender;
mod start_command;
mod times;
mod workload;

use std::{env, path::Path};

use kubekit::cluster::{Account, Cluster};
use serde_json::Value;
use testkit::client;

use crate::process::Fanfare;

/// An account with the rights of a candidate in its namespace.
pub(crate) async fn candidate(cluster: &Cluster, namespace: &str) -> Account {
    let account = cluster.service_account(namespace, "candidate").await;
    let role = format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: candidate, namespace: {namespace}}}
rules:
  - {{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}}
  - {{apiGroups: ['', events.k8s.io], resources: [events], verbs: [create]}}
  - {{apiGroups: [''], resources: [pods], verbs: [get, patch]}}
  - {{apiGroups: [''], resources: [services], verbs: [get]}}
  - {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, create, update]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: candidate, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: candidate}}
subjects: [{{kind: ServiceAccount, name: candidate, namespace: {namespace}}}]
"
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
    account
}

/// `fanfare elect` with the original's flags, on a free port, with a short lease and more flags.
///
/// A claim lasts half of the 5 s. With the shortest ttl it would be 0.8 s, which a busy machine lets pass now and then.
pub(crate) fn elect(kubeconfig: &Path, namespace: &str, id: &str, flags: &[&str]) -> Fanfare {
    let pod_namespace = ["-ttl=5s", "-pod-namespace", namespace];
    elect_with(kubeconfig, namespace, id, &[&pod_namespace, flags].concat())
}

/// The same without a ttl and a namespace of the pod.
fn elect_with(kubeconfig: &Path, namespace: &str, id: &str, flags: &[&str]) -> Fanfare {
    let kubeconfig = kubeconfig.to_str().expect("a path of ASCII");
    let mut arguments = vec!["elect", "-election=example", "-http", "127.0.0.1:0", "-kubeconfig", kubeconfig];
    arguments.extend(["-namespace", namespace, "-id", id]);
    arguments.extend(flags);
    Fanfare::start(arguments)
}

/// A JSON answer, whatever its status.
pub(crate) async fn json(fanfare: &Fanfare, path: &str) -> Value {
    let answer = client::get(fanfare.listening("for elect").await, path).await.complete();
    serde_json::from_str(&answer.text()).unwrap_or_else(|e| panic!("{path}: {e}: {answer}"))
}

/// Waits until it leads, or no longer leads.
pub(crate) async fn until_leading(fanfare: &Fanfare, leading: bool) -> Value {
    let what = format!("is_leader to be {leading}");
    testkit::eventually!(what, json(fanfare, "/v1/state").await, |state| state["is_leader"] == leading)
}

/// A number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    let given = env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
