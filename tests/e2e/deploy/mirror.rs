//! `deploy/mirror` on real API servers: accepted unchanged, with exactly the rights that it needs in both clusters.

use std::{collections::BTreeSet, path::Path};

use kubekit::{
    cluster::Account,
    fault_proxy::{Call, Fault, FaultProxy, Verb},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::client;

use super::shipped::{Shipped, api, container, rules};
use crate::{
    mirror::bed::{Bed, endpoint, remote, text},
    process::Fanfare,
};

const LOCAL: Shipped = Shipped("mirror");
const REMOTE: Shipped = Shipped("mirror/remote");

#[test]
fn kustomize_applies_every_manifest() {
    LOCAL.check_kustomization();
    REMOTE.check_kustomization();
}

#[tokio::test]
async fn the_api_server_accepts_every_manifest() {
    LOCAL.check_accepted(&["Deployment", "Role", "RoleBinding", "ServiceAccount"]).await;
    REMOTE.check_accepted(&["ClusterRole", "ClusterRoleBinding", "Secret", "ServiceAccount"]).await;
}

#[tokio::test]
async fn the_pod_is_admitted_where_only_restricted_ones_are() {
    LOCAL.check_restricted().await;
}

#[test]
fn the_image_is_of_this_version() {
    LOCAL.check_image();
}

fn rule(group: &str, resource: &str, names: &[&str], verbs: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    if !names.is_empty() {
        rule["resourceNames"] = names.into();
    }
    rule
}

async fn check_refused(account: &Account, requests: &[(&str, &str)]) {
    for (method, path) in requests {
        let refusal = api(account, method, path, Value::Null).await.expect_err("nothing grants it");
        assert!(refusal.contains("code: 403"), "{method} {path}: {refusal}");
    }
}

/// The account of `remote/`, after a check that it has the same read-only rights everywhere.
async fn remote_account() -> Account {
    let cluster = remote().await;
    let namespace = cluster.namespace("mirrored").await;
    let account = REMOTE.account(cluster, &namespace).await;
    let nobody = cluster.service_account(&namespace, "nobody").await;
    let expected = [
        rule("", "services", &[], &["list", "watch"]),
        rule("discovery.k8s.io", "endpointslices", &[], &["list", "watch"]),
        rule("", "namespaces", &["kube-system"], &["get"]),
    ];
    let expected: BTreeSet<String> = expected.iter().map(Value::to_string).collect();
    for place in [&namespace, "default"] {
        let [before, before_paths] = rules(&nobody, place).await;
        let granted = async || rules(&account, place).await[0].difference(&before).cloned().collect::<BTreeSet<_>>();
        testkit::eventually!("the role to count", granted().await, |granted| *granted == expected);
        assert_eq!(rules(&account, place).await[1], before_paths);
    }
    check_refused(
        &account,
        &[
            ("GET", "/api/v1/secrets"),
            ("GET", "/api/v1/namespaces"),
            ("GET", "/api/v1/namespaces/default"),
            ("GET", "/api/v1/pods"),
            ("DELETE", "/api/v1/namespaces/default/services/kubernetes"),
        ],
    )
    .await;
    account
}

/// Creates objects for which every right is needed: an older tool's mirror, a taken name, a conflicting global service.
async fn objects_that_need_every_right(bed: &Bed) {
    for name in ["web", "taken", "old"] {
        bed.service(name, json!({})).await;
        bed.slice(name, "IPv4", &[endpoint("192.0.2.1")]).await;
    }
    let service = |name: &str, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": bed.here, "labels": labels},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        })
    };
    let old = json!({"mirrored-svc": "true", "mirror-svc-prefix-sync": "west"});
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": bed.mirrored("old"), "namespace": bed.here, "labels": old},
        "subsets": [{"addresses": [{"ip": "192.0.2.9"}], "ports": [{"name": "http", "port": 8080}]}],
    });
    for object in [service(&bed.mirrored("old"), old.clone()), endpoints, service(&bed.mirrored("taken"), json!({}))] {
        bed.local.apply_yaml(&object.to_string()).await.expect("a valid object");
    }
}

/// The shipped arguments with this test's namespace, remote cluster and token file.
fn arguments(bed: &Bed, container: &Value, distant: &Account, token: &Path) -> Vec<String> {
    let config = std::fs::read_to_string(distant.kubeconfig_path()).expect("it can be read");
    let config: Value = serde_json::from_str(&config).expect("it is written as JSON");
    let of_distant = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).expect("it is there");
    std::fs::write(token, of_distant("/users/0/user/token")).expect("it can be written");
    let shipped =
        container["args"].as_array().expect("a list").iter().map(|argument| argument.as_str().expect("a text"));
    let replaced = |argument: &str| {
        argument
            .replace("$(POD_NAMESPACE)", &bed.here)
            .replace("https://west.example:6443", of_distant("/clusters/0/cluster/server"))
            .replace("/remote/ca.crt", of_distant("/clusters/0/cluster/certificate-authority"))
            .replace("/remote/token", text(token))
            .replace("mirror=true", &format!("bed={}", bed.here))
    };
    shipped.map(replaced).collect()
}

/// Checks that every right was used, and that no request was refused.
fn check_all_used(rights: &[Value], calls: &[Call]) {
    let forbidden: Vec<_> = calls.iter().filter(|call| call.status == Some(403)).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    let used: BTreeSet<String> =
        calls.iter().map(|call| format!("{:?} {}", call.verb, call.resource).to_lowercase()).collect();
    for rule in rights {
        // Only global services with conflicting sources have conditions.
        let resource = rule["resources"][0].as_str().filter(|resource| *resource != "services/status");
        for verb in rule["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let needed = resource.is_none_or(|resource| used.contains(&format!("{verb} {resource}")));
            assert!(needed, "{verb} {resource:?} is granted and not needed; these are: {used:?}");
        }
    }
}

#[tokio::test]
async fn the_arguments_and_rights_are_enough_and_every_right_is_used() {
    let bed = Bed::start().await;
    let expected = [
        rule("", "services", &[], &["get", "list", "watch", "create", "update", "delete"]),
        rule("discovery.k8s.io", "endpointslices", &[], &["get", "list", "watch", "create", "update", "delete"]),
        rule("", "endpoints", &[], &["get", "delete"]),
        rule("", "events", &[], &["create"]),
        rule("", "services/status", &[], &["update"]),
        rule("coordination.k8s.io", "leases", &[], &["create"]),
        rule("coordination.k8s.io", "leases", &["fanfare-mirror"], &["get", "update"]),
    ];
    let account = LOCAL.check_rights(&bed.local, &bed.here, &expected).await;
    let here = |path: &str| format!("/api/v1/namespaces/{}/{path}", bed.here);
    check_refused(&account, &[("GET", &here("secrets")), ("GET", &here("pods")), ("GET", "/api/v1/services")]).await;
    let distant = remote_account().await;
    objects_that_need_every_right(&bed).await;
    let proxy = FaultProxy::start(&bed.local).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let token = tempfile::NamedTempFile::new().expect("a temporary file");
    let deployment = LOCAL.deployment(&bed.here);
    let container = container(&deployment);
    let mut arguments = arguments(&bed, container, &distant, token.path());
    arguments.extend(["-listen=127.0.0.1:0".into(), "-kube-config".into(), text(kubeconfig.path()).into()]);
    // The values of the downward API.
    arguments.push(format!("-leader-elect-resource-namespace={}", bed.here));
    // A conflict, after which the object is read again.
    proxy.script(|call| call.is(Verb::Create, "services"), [Some(Fault::Answer(409))]);
    let of_web = bed.mirrored("web");
    let first = move |call: &Call| String::from_utf8_lossy(&call.body).contains(&of_web);
    proxy.script(move |call| call.is(Verb::Create, "endpointslices") && first(call), [Some(Fault::Answer(409))]);
    let fanfare = Fanfare::start(&arguments);

    for name in ["web", "old"] {
        bed.until_mirrored(name, &["192.0.2.1"]).await;
    }
    let address = fanfare.listening("for mirror").await;
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().expect("a path");
        testkit::eventually!(probe, client::get(address, path).await.status, |status| *status == 200);
    }
    // A change and two deletions.
    bed.slice("web", "IPv4", &[endpoint("192.0.2.2")]).await;
    bed.until_mirrored("web", &["192.0.2.2"]).await;
    bed.slice("web", "IPv6", &[endpoint("2001:db8::1")]).await;
    bed.until_mirrored("web", &["192.0.2.2", "2001:db8::1"]).await;
    let gone = async |group: &str, kind: &str, name: &str| {
        let object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": bed.there}});
        bed.remote.delete_yaml(&object.to_string()).await.expect("it is there");
    };
    gone("discovery.k8s.io/v1", "EndpointSlice", "web-ipv6").await;
    bed.until_mirrored("web", &["192.0.2.2"]).await;
    gone("v1", "Service", "web").await;
    let name = bed.mirrored("web");
    testkit::eventually!("the mirror to go", bed.here(&name).await, |mirror| mirror.is_none());
    let endpoints = format!("/api/v1/namespaces/{}/endpoints/{}", bed.here, bed.mirrored("old"));
    testkit::eventually!("the old endpoints to go", bed.local.read(&endpoints).await, |found| found.is_none());
    let taken = bed.here(&bed.mirrored("taken")).await.expect("it is somebody else's");
    assert_eq!(taken["metadata"]["labels"], Value::Null);

    fanfare.signal(Signal::TERM);
    let log = fanfare.finish().await.stderr;
    assert!(!log.contains("RBAC") && !log.to_lowercase().contains("forbidden"), "{log}");
    check_all_used(&expected, &proxy.calls());
}
