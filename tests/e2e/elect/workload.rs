//! What others see of the leader: the label of its pod, the slices of its Service, its commands.

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{
    cluster::{self, Cluster},
    relay::Relay,
};

use super::{candidate, elect, until_leading};

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
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    for (n, pod) in [(1, "pod-1"), (2, "pod-2")] {
        cluster.pod(&namespace, pod, "web", &[ip(n)], true).await;
    }
    let one = elect(account.kubeconfig_path(), &namespace, "one", &["-pod=pod-1"]);
    until_leading(&one, true).await;
    testkit::eventually!("the leader's label", label(&cluster, &namespace, "pod-1").await, |label| label == "leader");
    let two = elect(account.kubeconfig_path(), &namespace, "two", &["-pod=pod-2"]);
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

    // Cut off without a chance to tell: the next leader takes its place.
    let two = elect(account.kubeconfig_path(), &namespace, "two", &["-pod=pod-2", "-leader-service=web"]);
    relay.cut().await;
    let state = until_leading(&two, true).await;
    let second = leads_to("192.0.2.2").await;
    assert_eq!(second["metadata"]["annotations"]["fanfare.dev/term"], term(&state["transitions"]));
    relay.restore().await;

    two.signal(Signal::TERM);
    assert_eq!(two.finish().await.code, Some(0));
    leads_to("192.0.2.1").await;
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
    one.stderr.wait("a refusal", |log| log.contains("belongs to somebody else")).await;
    assert_eq!(slice(&cluster, &namespace, "web-ipv4").await["endpoints"][0]["addresses"][0], "192.0.2.9");
}

#[tokio::test]
async fn commands_run_with_the_term_and_none_outlives_it() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = candidate(&cluster, &namespace).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    // A child of the command that ignores the polite end: the whole group has to go.
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
