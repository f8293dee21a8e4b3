//! What changes about a Service's slices is what changes about its endpoints, at once.

use std::time::Duration;

use controlplane::{build::PortSelector, client::connect, kube_cluster::KubeCluster};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use kubekit::cluster::{self, shared};
use testkit::{eventually::scaled, netns};

use crate::bed::{delete, put, reader_of_slices, run, run_on};

/// A change counts within this time after the API server knows: it is told by a watch, not found by a later list.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn slices_of_a_service_are_one_cluster_and_every_change_counts_at_once() {
    let cluster = shared().await;
    let client = cluster.client().await;
    let ns = cluster.namespace("slices").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-1", "cache", &[1, 2], 8080).await;
    put(&cluster, &ns, "cache-2", "cache", &[2, 3], 8080).await;
    put(&cluster, &ns, "other-1", "other", &[9], 8080).await;

    let running = run(account.kubeconfig_path(), &[&format!("{ns}/cache")], PortSelector::Only).await;
    running.until_ready(&["192.0.2.1:8080", "192.0.2.2:8080", "192.0.2.3:8080"]).await;
    running.until("is ready", |running| running.readiness.is_ready()).await;

    // Scaled up, then down: the time counts from the API server's answer.
    put(&cluster, &ns, "cache-2", "cache", &[2, 3, 4], 8080).await;
    running.until_ready(&["192.0.2.1:8080", "192.0.2.2:8080", "192.0.2.3:8080", "192.0.2.4:8080"]).await;
    put(&cluster, &ns, "cache-2", "cache", &[4], 8080).await;
    let took = running.until_ready(&["192.0.2.1:8080", "192.0.2.2:8080", "192.0.2.4:8080"]).await;
    assert!(took < scaled(AT_ONCE), "{took:?}");

    // The port of the whole service changes.
    put(&cluster, &ns, "cache-1", "cache", &[1, 2], 9090).await;
    put(&cluster, &ns, "cache-2", "cache", &[4], 9090).await;
    let took = running.until_ready(&["192.0.2.1:9090", "192.0.2.2:9090", "192.0.2.4:9090"]).await;
    assert!(took < scaled(AT_ONCE), "{took:?}");

    // A slice moves to another service, and another one is deleted.
    put(&cluster, &ns, "cache-2", "other", &[4], 9090).await;
    let took = running.until_ready(&["192.0.2.1:9090", "192.0.2.2:9090"]).await;
    assert!(took < scaled(AT_ONCE), "{took:?}");
    delete(&client, &ns, "cache-1").await;
    let took = running.until_ready(&[]).await;
    assert!(took < scaled(AT_ONCE), "{took:?}");
    assert!(running.now().is_some(), "the cluster is empty, not unknown");
    assert!(running.readiness.is_ready(), "an empty cluster is no reason to be unready here");
}

#[tokio::test]
async fn wildcards_select_services_and_a_port_is_chosen_by_name_or_number() {
    let cluster = shared().await;
    let ns = cluster.namespace("wild").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-eu-1", "cache-eu", &[1], 8080).await;
    put(&cluster, &ns, "cache-us-1", "cache-us", &[2], 8081).await;
    put(&cluster, &ns, "shop-1", "shop", &[3], 8080).await;
    let connection = connect(Some(account.kubeconfig_path())).await.expect("a valid kubeconfig");
    assert_eq!(connection.namespace, ns);
    let kube = KubeCluster::new(connection.client);

    let pattern = format!("{ns}/cache-*");
    let all = run_on(&kube, &[&pattern], PortSelector::Named("http".into()));
    let numbered = run_on(&kube, &[&pattern], PortSelector::Number(8081));
    let two = run_on(&kube, &[&format!("{ns}/shop"), &format!("{ns}/cache-us")], PortSelector::Only);
    let missing = run_on(&kube, &[&pattern], PortSelector::Named("grpc".into()));
    all.until_ready(&["192.0.2.1:8080", "192.0.2.2:8081"]).await;
    numbered.until_ready(&["192.0.2.2:8081"]).await;
    two.until_ready(&["192.0.2.3:8080", "192.0.2.2:8081"]).await;
    missing.until("is published", |running| running.now().is_some()).await;
    assert!(missing.ready().is_empty());

    // A service that matches later is selected when it comes, and gone when its last slice goes.
    put(&cluster, &ns, "cache-ap-1", "cache-ap", &[7], 8080).await;
    all.until_ready(&["192.0.2.1:8080", "192.0.2.2:8081", "192.0.2.7:8080"]).await;
    delete(&cluster.client().await, &ns, "cache-ap-1").await;
    all.until_ready(&["192.0.2.1:8080", "192.0.2.2:8081"]).await;
}

#[tokio::test]
async fn conditions_pods_and_zones_are_told_as_they_are() {
    let cluster = shared().await;
    let ns = cluster.namespace("facts").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    let yaml = format!(
        r"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: db-1, namespace: {ns}, labels: {{kubernetes.io/service-name: db}}}}
addressType: IPv6
endpoints:
- addresses: ['2001:db8::1']
  hostname: db-0
  nodeName: node-7
  zone: zone-b
  targetRef: {{kind: Pod, namespace: {ns}, name: db-0, uid: 11111111-1111-1111-1111-111111111111}}
- addresses: ['2001:db8::2']
  conditions: {{ready: false, serving: true, terminating: true}}
ports: [{{name: sql, port: 5432}}, {{name: dns, port: 53, protocol: UDP}}]
"
    );
    cluster.apply_yaml(&yaml).await.expect("a valid slice");
    let running = run(account.kubeconfig_path(), &[&format!("{ns}/db")], PortSelector::Only).await;
    running.until_ready(&["[2001:db8::1]:5432"]).await;
    let published = running.now().expect("it is published");
    let (first, second) = (&published.endpoints()[0], &published.endpoints()[1]);
    let pod = first.pod.as_ref().expect("a pod");
    assert_eq!((&*pod.namespace, &*pod.name, &*pod.uid), (&*ns, "db-0", "11111111-1111-1111-1111-111111111111"));
    assert_eq!(
        (first.hostname.as_deref(), first.node.as_deref(), first.zone.as_deref()),
        (Some("db-0"), Some("node-7"), Some("zone-b"))
    );
    assert!(!second.conditions.ready && second.conditions.serving && second.conditions.terminating);
}

const DUAL: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAMESPACE}
spec:
  selector: {app: web}
  ipFamilyPolicy: PreferDualStack
  ports: [{name: http, port: 80, targetPort: 8080}]
";

#[test]
fn a_service_with_real_pods_is_followed_until_it_is_deleted() {
    cluster::inside(testkit::test_name!(), async || {
        let cluster = cluster::Cluster::start_with_controllers().await;
        let client = cluster.client().await;
        let ns = cluster.namespace("pods").await;
        let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
        cluster.apply_yaml(&DUAL.replace("NAMESPACE", &ns)).await.expect("a valid service");
        cluster.pod(&ns, "web-0", "web", &[netns::ipv4(10), netns::ipv6(10)], true).await;
        cluster.pod(&ns, "web-1", "web", &[netns::ipv4(11), netns::ipv6(11)], false).await;
        let running = run(account.kubeconfig_path(), &[&format!("{ns}/web")], PortSelector::Named("http".into())).await;
        running.until_ready(&["192.0.2.10:8080"]).await;
        running
            .until("the other pod is known", |running| running.now().is_some_and(|c| c.endpoints().len() == 2))
            .await;

        cluster.set_pod_ready(&ns, "web-1", true).await;
        running.until_ready(&["192.0.2.10:8080", "192.0.2.11:8080"]).await;
        cluster.delete_pod(&ns, "web-0").await;
        running.until_ready(&["192.0.2.11:8080"]).await;

        let services: Api<Service> = Api::namespaced(client.clone(), &ns);
        services.delete("web", &DeleteParams::default()).await.expect("an administrator may delete it");
        running.until_ready(&[]).await;
        let slices: Api<EndpointSlice> = Api::namespaced(client, &ns);
        let left = slices.list(&ListParams::default()).await.expect("slices can be listed");
        assert!(left.items.is_empty(), "the garbage collector took the slices, and that is what was seen");
    });
}

/// Two slices of the same two pods, one of each family, for a Service whose primary family is IPv6.
const TWO_FAMILIES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAMESPACE}
spec: {clusterIP: None, ipFamilies: [IPv6], ipFamilyPolicy: SingleStack, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-v4, namespace: NAMESPACE, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [192.0.2.1], targetRef: {kind: Pod, name: a, uid: a}}
- {addresses: [192.0.2.2], targetRef: {kind: Pod, name: b, uid: b}}
ports: [{name: http, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-v6, namespace: NAMESPACE, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints:
- {addresses: ['2001:db8::1'], targetRef: {kind: Pod, name: a, uid: a}}
- {addresses: ['2001:db8::2'], targetRef: {kind: Pod, name: b, uid: b}}
ports: [{name: http, port: 8080}]
";

#[tokio::test]
async fn a_pod_of_both_families_counts_once_by_the_primary_family_where_services_can_be_read() {
    let cluster = shared().await;
    let ns = cluster.namespace("families").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    cluster.apply_yaml(&TWO_FAMILIES.replace("NAMESPACE", &ns)).await.expect("valid objects");
    let service = format!("{ns}/web");
    let without_services = run(account.kubeconfig_path(), &[&service], PortSelector::Only).await;
    without_services.until_ready(&["192.0.2.1:8080", "192.0.2.2:8080"]).await;
    let with_services = run(&cluster.kubeconfig_path(), &[&service], PortSelector::Only).await;
    with_services.until_ready(&["[2001:db8::1]:8080", "[2001:db8::2]:8080"]).await;
}
