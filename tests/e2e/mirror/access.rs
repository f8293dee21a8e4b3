//! Access to the remote cluster: by URL, with a replaced token, with a kubeconfig of several clusters, and with rights in one of
//! two namespaces.

use kubekit::{
    cluster::Account,
    fault_proxy::{Fault, FaultProxy, Verb},
};
use serde_json::{Value, json};
use testkit::client;

use super::bed::{Bed, endpoint, text};
use crate::process::Fanfare;

/// A value of a kubeconfig.
fn from_kubeconfig(account: &Account, pointer: &str) -> String {
    let kubeconfig = std::fs::read_to_string(account.kubeconfig_path()).expect("it can be read");
    let kubeconfig: Value = serde_json::from_str(&kubeconfig).expect("it is written as JSON");
    kubeconfig.pointer(pointer).and_then(Value::as_str).expect("it is there").to_owned()
}

/// A Role with the read rights of a mirror in a namespace, and its binding.
async fn reader(bed: &Bed, namespace: &str, name: &str) -> Account {
    let account = bed.remote.service_account(namespace, name).await;
    let role = format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {name}, namespace: {namespace}}}
rules:
  - {{apiGroups: [''], resources: [services], verbs: [list, watch]}}
  - {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]
"
    );
    bed.remote.apply_yaml(&role).await.expect("a valid role");
    account
}

async fn get(fanfare: &Fanfare, path: &str) -> (u16, String) {
    let answer = client::get(fanfare.listening("for mirror").await, path).await.complete();
    (answer.status, answer.text())
}

#[tokio::test]
async fn a_token_that_is_revoked_is_replaced_without_a_restart() {
    let bed = Bed::start().await;
    bed.service("web", json!({})).await;
    bed.slice("web", "IPv4", &[endpoint("192.0.2.1")]).await;
    let (old, new) = (reader(&bed, &bed.there, "old").await, reader(&bed, &bed.there, "new").await);
    let proxy = FaultProxy::start(bed.remote).await;
    let token = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(token.path(), from_kubeconfig(&old, "/users/0/user/token") + "\n").expect("it can be written");
    let access = vec![
        format!("-kube-config={}", text(&bed.local.kubeconfig_path())),
        format!("-remote-api-url=https://127.0.0.1:{}", proxy.port()),
        format!("-remote-ca-file={}", from_kubeconfig(&old, "/clusters/0/cluster/certificate-authority")),
        format!("-remote-sa-token-path={}", text(token.path())),
        format!("-namespaces={}", bed.there),
    ];
    let fanfare = bed.mirror(&[bed.what(), access], &[]);
    bed.until_mirrored("web", &["192.0.2.1"]).await;

    let revoked =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "old", "namespace": bed.there}});
    bed.remote.delete_yaml(&revoked.to_string()).await.expect("it is there");
    std::fs::write(token.path(), from_kubeconfig(&new, "/users/0/user/token")).expect("it can be written");
    old.until_refused(&format!("/api/v1/namespaces/{}/services", bed.there)).await;
    // Open watches continue with the old token. New ones do not.
    proxy.interrupt(|call| call.verb == Verb::Watch, Fault::Reset);
    bed.slice("web", "IPv4", &[endpoint("192.0.2.2")]).await;
    bed.until_mirrored("web", &["192.0.2.2"]).await;
    let (status, report) = get(&fanfare, "/healthz").await;
    assert_eq!((status, report.trim()), (200, "ok"));
}

#[tokio::test]
async fn a_namespace_without_rights_is_named_and_the_other_one_mirrored() {
    let bed = Bed::start().await;
    let closed = bed.remote.namespace("closed").await;
    bed.service("web", json!({})).await;
    bed.slice("web", "IPv4", &[endpoint("192.0.2.1")]).await;
    let account = reader(&bed, &bed.there, "reader").await;
    let flags = vec![
        format!("-kube-config={}", text(&bed.local.kubeconfig_path())),
        format!("-target-kube-config={}", text(account.kubeconfig_path())),
        format!("-namespaces={closed},{}", bed.there),
    ];
    let fanfare = bed.mirror(&[bed.what(), flags], &[]);
    bed.until_mirrored("web", &["192.0.2.1"]).await;
    let log = fanfare.stderr.wait("the missing right to be named", |log| log.contains("RBAC")).await;
    let missing = log.lines().find(|line| line.contains("RBAC")).expect("the wait above ensures it");
    assert!(missing.contains(&format!("namespace {closed}")) && missing.contains("a Role"), "{missing}");
    let (status, why) = get(&fanfare, "/readyz").await;
    assert!(status == 503 && why.contains(&closed), "{status} {why}");
    assert_eq!(get(&fanfare, "/healthz").await.0, 200, "a restart would help nobody");
}

#[tokio::test]
async fn of_several_clusters_in_a_file_one_that_is_away_delays_no_other() {
    let bed = Bed::start().await;
    bed.service("web", json!({})).await;
    bed.slice("web", "IPv4", &[endpoint("192.0.2.1")]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let later = folder.path().join("later");
    let remote = |prefix: &str, kubeconfig: &str| json!({"prefix": prefix, "kubeconfig": kubeconfig, "select": {"labels": format!("bed={}", bed.here)}, "namespace": bed.here});
    let file = json!({
        "kubernetes": {"kubeconfig": bed.local.kubeconfig_path()},
        "mirror": {
            "listen": "127.0.0.1:0",
            "remotes": [remote("north", text(&later)), remote("west", text(&bed.remote.kubeconfig_path()))],
        },
    });
    let path = folder.path().join("fanfare.yaml");
    std::fs::write(&path, file.to_string()).expect("it can be written");
    let fanfare = Fanfare::start(["run", "--config", text(&path)]);
    bed.until_mirrored("web", &["192.0.2.1"]).await;
    let told = async || get(&fanfare, "/remotes").await.1;
    testkit::eventually!("what is missing to be named", told().await, |remotes| remotes.contains(text(&later)));
    // It could not do more than it does.
    testkit::eventually!("readiness", get(&fanfare, "/readyz").await.0, |status| *status == 200);
    assert!(get(&fanfare, "/metrics").await.1.contains("fanfare_mirror_objects"));

    // The credentials are mounted at last, for the same cluster under another name.
    std::fs::copy(bed.remote.kubeconfig_path(), &later).expect("it can be written");
    let name = format!("north-web-6d6972726f720a-{}", bed.there);
    testkit::eventually!("the other mirror", bed.addresses(&name).await, |found| found.contains("192.0.2.1"));
}

#[tokio::test]
async fn a_remote_with_an_invalid_access_delays_no_other_and_does_not_end_the_process() {
    let bed = Bed::start().await;
    bed.service("web", json!({})).await;
    bed.slice("web", "IPv4", &[endpoint("192.0.2.1")]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let remote = |name: &str, access: Value| {
        let mut remote = json!({"name": name, "prefix": name, "select": {"labels": format!("bed={}", bed.here)}, "namespace": bed.here});
        remote.as_object_mut().expect("it is one").extend(access.as_object().expect("it is one").clone());
        remote
    };
    let kubeconfig = |name: &str, cluster: Value, token: &str| {
        let path = folder.path().join(name);
        let file = json!({"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"});
        std::fs::write(&path, file.to_string()).expect("it can be written");
        json!({ "kubeconfig": path })
    };
    let broken = [
        (
            "lines",
            kubeconfig("lines", json!({"server": "https://127.0.0.1:1"}), "s3cret\nline"),
            "token: there is a line end",
        ),
        ("bare", kubeconfig("bare", json!({"server": "127.0.0.1:1"}), "t"), "write https://127.0.0.1:1"),
        (
            "proxy",
            kubeconfig("proxy", json!({"server": "https://h", "proxy-url": "ftp://u:s3cret@p"}), "t"),
            "proxy-url",
        ),
        ("unset", json!({"url": "https://127.0.0.1:1", "token_env": "FANFARE_TEST_UNSET"}), "$FANFARE_TEST_UNSET"),
    ];
    let good = remote("west", json!({"kubeconfig": bed.remote.kubeconfig_path()}));
    let remotes: Vec<Value> =
        broken.iter().map(|(name, access, _)| remote(name, access.clone())).chain([good]).collect();
    let file = json!({
        "kubernetes": {"kubeconfig": bed.local.kubeconfig_path()},
        "mirror": {"listen": "127.0.0.1:0", "remotes": remotes},
    });
    let path = folder.path().join("fanfare.yaml");
    std::fs::write(&path, file.to_string()).expect("it can be written");
    let fanfare = Fanfare::start(["run", "--config", text(&path)]);
    bed.until_mirrored("web", &["192.0.2.1"]).await;
    let told = async || get(&fanfare, "/remotes").await.1;
    let told = testkit::eventually!("each to be named", told().await, |told| broken
        .iter()
        .all(|(_, _, why)| told.contains(why)));
    let log = fanfare.stderr.text();
    assert!(!told.contains("s3cret") && !log.contains("s3cret") && !log.contains("panicked"), "{told} {log}");
    assert_eq!(get(&fanfare, "/healthz").await.0, 200);
}

#[tokio::test]
async fn a_remote_cluster_that_moves_is_followed() {
    let bed = Bed::start().await;
    bed.service("web", json!({})).await;
    bed.slice("web", "IPv4", &[endpoint("192.0.2.1")]).await;
    let before = FaultProxy::start(bed.remote).await;
    let kubeconfig = before.kubeconfig(&bed.remote.kubeconfig_path());
    let access = vec![
        format!("-kube-config={}", text(&bed.local.kubeconfig_path())),
        format!("-target-kube-config={}", text(kubeconfig.path())),
    ];
    let fanfare = bed.mirror(&[bed.what(), access], &[]);
    let uid = bed.until_mirrored("web", &["192.0.2.1"]).await["metadata"]["uid"].clone();

    let after = FaultProxy::start(bed.remote).await;
    let moved = after.kubeconfig(&bed.remote.kubeconfig_path());
    std::fs::copy(moved.path(), kubeconfig.path()).expect("it can be written");
    before.cut();
    bed.slice("web", "IPv4", &[endpoint("192.0.2.2")]).await;
    let mirror = bed.until_mirrored("web", &["192.0.2.2"]).await;
    assert_eq!(mirror["metadata"]["uid"], uid, "it is still the same mirror");
    assert!(after.count(|call| call.is(Verb::List, "services")) > 0, "everything was asked anew");
    drop(fanfare);
}
