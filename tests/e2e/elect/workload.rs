//! The visible effects of a leader: the label of its pod, the slices of its Service, its commands.

use kubekit::{
    cluster::{self, Cluster},
    relay::Relay,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{candidate, elect, elect_with, until_leading};

async fn label(cluster: &Cluster, namespace: &str, pod: &str) -> Value {
    let pod = cluster.read(&format!("/api/v1/namespaces/{namespace}/pods/{pod}")).await.expect("it is there");
    pod["metadata"]["labels"]["k8s-elector/status"].clone()
}

async fn slice(cluster: &Cluster, namespace: &str, name: &str) -> Value {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{name}");
    cluster.read(&path).await.unwrap_or_default()
}

async fn service(cluster: &Cluster, namespace: &str, selector: Value) {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": namespace},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}], "selector": selector}});
    cluster.apply_yaml(&service.to_string()).await.expect("a valid service");
}

fn ip(n: u8) -> std::net::IpAddr {
    [192, 0, 2, n].into()
}

#[tokio::test]
async fn the_label_is_true_on_a_pod_without_any_and_heals() {
    let cluster = cluster::shared().await;
    let (namespace, locks) = (cluster.namespace("elect").await, cluster.namespace("elect-locks").await);
    let account = candidate(&cluster, &namespace).await;
    // The lock is in another namespace, where it has no other rights.
    let rights = format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: candidate, namespace: {locks}}}
rules: [{{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: candidate, namespace: {locks}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: candidate}}
subjects: [{{kind: ServiceAccount, name: candidate, namespace: {namespace}}}]
"
    );
    cluster.apply_yaml(&rights).await.expect("a valid role");
    let elect = |id: &str, pod: &str| {
        let flags = ["-ttl=5s", "-pod", pod, "-pod-namespace", &namespace];
        elect_with(account.kubeconfig_path(), &locks, id, &flags)
    };
    for (n, pod) in [(1, "pod-1"), (2, "pod-2")] {
        cluster.pod(&namespace, pod, "web", &[ip(n)], true).await;
    }
    let one = elect("one", "pod-1");
    until_leading(&one, true).await;
    testkit::eventually!("the leader's label", label(&cluster, &namespace, "pod-1").await, |label| label == "leader");
    let two = elect("two", "pod-2");
    testkit::eventually!("the standby's", label(&cluster, &namespace, "pod-2").await, |label| label == "standby");

    let pod = format!("/api/v1/namespaces/{namespace}/pods/pod-1");
    cluster.merge(&pod, json!({"metadata": {"labels": {"k8s-elector/status": "standby"}}})).await;
    testkit::eventually!("it to heal at a renewal", label(&cluster, &namespace, "pod-1").await, |label| label
        == "leader");

    one.signal(Signal::TERM);
    assert_eq!(one.finish().await.code, Some(0));
    assert_eq!(label(&cluster, &namespace, "pod-1").await, "standby", "before anybody else can lead");
    until_leading(&two, true).await;
    testkit::eventually!("the new leader's", label(&cluster, &namespace, "pod-2").await, |label| label == "leader");
}

#[tokio::test]
async fn the_service_leads_to_the_leader_alone() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    service(&cluster, &namespace, Value::Null).await;
    for (n, pod) in [(1, "pod-1"), (2, "pod-2")] {
        cluster.pod(&namespace, pod, "web", &[ip(n)], true).await;
    }
    let mut relay = Relay::start(cluster.api_port()).await;
    let kubeconfig = relay.kubeconfig(account.kubeconfig_path());
    let one = elect(kubeconfig.path(), &namespace, "one", &["-pod=pod-1", "-leader-service=web"]);
    let state = until_leading(&one, true).await;
    let leads_to = async |address: &str| {
        let address = Value::from(address);
        let what = format!("the slice to have {address}");
        testkit::eventually!(what, slice(&cluster, &namespace, "web-ipv4").await, |slice| {
            slice["endpoints"].as_array().is_some_and(|all| all.len() == 1 && all[0]["addresses"][0] == address)
        })
    };
    let first = leads_to("192.0.2.1").await;
    assert_eq!(first["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    assert_eq!(first["metadata"]["ownerReferences"][0]["kind"], "Service", "garbage goes with the Service");
    assert_eq!((&first["ports"][0]["port"], &first["ports"][0]["appProtocol"]), (&8080.into(), &"http".into()));
    let term = |transitions: &Value| {
        format!("{}/{transitions}", state["fencing_token"]["lease_uid"].as_str().expect("a text"))
    };
    assert_eq!(first["metadata"]["annotations"]["fanfare.dev/term"], term(&state["transitions"]));

    // It is cut off and cannot update its slices: the next leader replaces them.
    let two = elect(account.kubeconfig_path(), &namespace, "two", &["-pod=pod-2", "-leader-service=web"]);
    relay.cut().await;
    let state = until_leading(&two, true).await;
    let second = leads_to("192.0.2.2").await;
    assert_eq!(second["metadata"]["annotations"]["fanfare.dev/term"], term(&state["transitions"]));
    relay.restore().await;

    two.signal(Signal::TERM);
    assert_eq!(two.finish().await.code, Some(0));
    leads_to("192.0.2.1").await;

    // Without a leader the slices are empty.
    one.signal(Signal::TERM);
    assert_eq!(one.finish().await.code, Some(0));
    let last = slice(&cluster, &namespace, "web-ipv4").await;
    assert!(last["endpoints"].as_array().is_none_or(Vec::is_empty), "{last}");
}

#[tokio::test]
async fn a_slice_of_a_later_term_is_left_alone_and_one_of_an_earlier_leader_emptied() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    service(&cluster, &namespace, Value::Null).await;
    cluster.pod(&namespace, "pod-1", "web", &[ip(1)], true).await;
    let before = elect(account.kubeconfig_path(), &namespace, "one", &["-label=false"]);
    let state = until_leading(&before, true).await;
    let uid = state["fencing_token"]["lease_uid"].as_str().expect("a text").to_owned();
    let (family, mut slices) = ([("IPv4", "192.0.2.9"), ("IPv6", "2001:db8::9")], Vec::new());
    for ((family, address), term) in family.into_iter().zip([format!("{uid}/99"), format!("{uid}/0")]) {
        let name = format!("web-{}", family.to_lowercase());
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": name, "namespace": namespace, "annotations": {"fanfare.dev/term": term},
                "labels": {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "fanfare-elect"}},
            "endpoints": [{"addresses": [address]}], "ports": []});
        cluster.apply_yaml(&slice.to_string()).await.expect("a valid slice");
        slices.push(name);
    }
    before.signal(Signal::TERM);
    assert_eq!(before.finish().await.code, Some(0));

    let one = elect(account.kubeconfig_path(), &namespace, "one", &["-pod=pod-1", "-leader-service=web"]);
    one.stderr.wait("a refusal", |log| log.contains("was written in a later term")).await;
    assert_eq!(slice(&cluster, &namespace, &slices[0]).await["endpoints"][0]["addresses"][0], "192.0.2.9");
    // Once the foreign slice is deleted, it writes its own.
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{}", slices[0]);
    cluster.merge(&path, json!({"metadata": {"annotations": {"fanfare.dev/term": format!("{uid}/0")}}})).await;
    testkit::eventually!("the slice", slice(&cluster, &namespace, &slices[0]).await, |slice| {
        slice["endpoints"][0]["addresses"][0] == "192.0.2.1"
    });
    // The pod has no address of this family, unlike the leader before it.
    testkit::eventually!("the other one to be emptied", slice(&cluster, &namespace, &slices[1]).await, |slice| {
        slice["endpoints"].as_array().is_none_or(Vec::is_empty)
    });
}

#[tokio::test]
async fn a_service_with_a_selector_and_a_slice_of_somebody_else_are_refused() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    service(&cluster, &namespace, json!({"app": "web"})).await;
    cluster.pod(&namespace, "pod-1", "web", &[ip(1)], true).await;
    let one = elect(account.kubeconfig_path(), &namespace, "one", &["-pod=pod-1", "-leader-service=web"]);
    one.stderr.wait("a refusal", |log| log.contains("service web has a selector")).await;
    assert_eq!(slice(&cluster, &namespace, "web-ipv4").await, Value::Null);

    let foreign = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-ipv4", "namespace": namespace, "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["192.0.2.9"]}], "ports": []});
    cluster.apply_yaml(&foreign.to_string()).await.expect("a valid slice");
    cluster
        .delete_yaml(
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": namespace}})
                .to_string(),
        )
        .await
        .expect("it is there");
    service(&cluster, &namespace, Value::Null).await;
    one.stderr.wait("a refusal", |log| log.contains("belongs to another controller")).await;
    assert_eq!(slice(&cluster, &namespace, "web-ipv4").await["endpoints"][0]["addresses"][0], "192.0.2.9");
}

#[tokio::test]
async fn commands_run_with_the_term_and_none_outlives_it() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    // A child of the command ignores SIGTERM: the whole process group must be killed.
    let start = format!(
        "-on-start=sh -c 'echo $FANFARE_ELECTION > {}; trap \"\" TERM; sleep 1000 & echo $! > {}; wait'",
        path("started"),
        path("child")
    );
    let stop = format!("-on-stop=sh -c 'echo $FANFARE_TRANSITIONS > {}; sleep 1000'", path("stopped"));
    let fanfare = elect(account.kubeconfig_path(), &namespace, "one", &["-label=false", &start, &stop]);
    let state = until_leading(&fanfare, true).await;
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap_or_default();
    testkit::eventually!("the start command", read("child"), |text| text.ends_with('\n'));
    assert_eq!(read("started"), "example\n");
    let child = read("child").trim().to_owned();
    fanfare.signal(Signal::TERM);
    let finished = fanfare.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(read("stopped"), format!("{}\n", state["transitions"]));
    assert!(finished.stderr.contains("took too long and was killed"), "{}", finished.stderr);
    let alive = std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(!alive, "the start command's child is still there");
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/example");
    assert_eq!(
        cluster.read(&lease).await.expect("it is there")["spec"]["holderIdentity"],
        "",
        "given back all the same"
    );
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_its_commands_before_anybody_else_leads() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let mut relay = Relay::start(cluster.api_port()).await;
    let kubeconfig = relay.kubeconfig(account.kubeconfig_path());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Each writes timestamps as long as it lives, and neither ends by itself, or on SIGTERM.
    let tick = |name: &str| {
        format!("trap \"\" TERM; while :; do date -u +%Y-%m-%dT%H:%M:%S.%6NZ >> {}; sleep 0.02; done", path(name))
    };
    let start = format!("-on-start=sh -c '{}'", tick("started"));
    let stop = format!("-on-stop=sh -c '{}'", tick("stopped"));
    // With a lease of 5 s a claim lasts 2.5 s, and nobody else can lead for another second.
    let flags = ["-label=false", "-ttl=5s"];
    let one = elect_with(kubeconfig.path(), &namespace, "one", &[&flags[..], &[&start, &stop]].concat());
    until_leading(&one, true).await;
    let two = elect_with(account.kubeconfig_path(), &namespace, "two", &flags);
    testkit::eventually!("two to follow", super::json(&two, "/").await, |brief| brief["leader"] == "one");
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap_or_default();
    testkit::eventually!("the start command", read("started"), |text| text.ends_with('\n'));
    relay.cut().await;
    until_leading(&one, false).await;
    testkit::eventually!("the stop command", read("stopped"), |text| text.ends_with('\n'));
    until_leading(&two, true).await;
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/example");
    let lease = cluster.read(&lease).await.expect("it is there");
    let acquired = lease["spec"]["acquireTime"].as_str().expect("a text").to_owned();
    for name in ["started", "stopped"] {
        let (times, length) = (read(name), acquired.len());
        let last = times.lines().last().expect("it ran");
        assert!(last.len() == length && *last < *acquired, "{name}: {last} {acquired}");
    }
    one.stderr.wait("the command that hangs", |log| log.contains("took too long and was killed")).await;
}
