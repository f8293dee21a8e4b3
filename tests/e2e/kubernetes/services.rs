//! Which services `--service` and `--namespace` select.

use kubekit::cluster;
use testkit::{client, netns};

use super::bed::{Addresses, Bed, NS, broadcast, endpoint, hosts, readiness, shipped, slice_in, v4, v6};

/// The rules of the Role, for all namespaces.
const EVERYWHERE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: fanfare}
rules: [{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: fanfare}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: fanfare}
subjects: [{kind: ServiceAccount, name: fanfare, namespace: default}]
";

#[test]
fn wildcards_cover_several_services_and_the_namespace_restricts() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=7).map(|n| v4(n, 8080)));
        let (mine, foreign) = (bed.cluster.namespace("mine").await, bed.cluster.namespace("foreign").await);
        let put = |namespace: &str, service: &str, n: u8| {
            let ready = [endpoint(netns::ipv4(n), "ready: true")];
            slice_in(namespace, &format!("{service}-1"), service, "IPv4", &ready, "{name: redis, port: 8080}")
        };
        for (namespace, service, n) in [
            (&*mine, "redis-a", 1),
            (&mine, "redis-b", 2),
            (&mine, "memcached", 3),
            (&foreign, "redis-a", 4),
            (&foreign, "redis-c", 5),
            ("default", "redis-a", 6),
        ] {
            bed.apply(&put(namespace, service, n)).await;
        }
        for file in ["serviceaccount.yaml", "rbac.yaml"] {
            bed.apply(&shipped(file, &mine)).await;
        }
        let account = bed.cluster.token_for(&mine, "fanfare").await;
        let reaches = async |flags: &[&str], expected: &Addresses| {
            let fanfare = broadcast(account.kubeconfig_path(), flags).await;
            fanfare.wait_ready().await;
            assert_eq!(bed.reached(&fanfare).await, *expected, "{flags:?}");
            fanfare
        };
        let wild = reaches(&["-s", &format!("{mine}/redis-*")], &hosts(&[1, 2])).await;
        reaches(&["-n", &mine, "-s", "redis-*"], &hosts(&[1, 2])).await;
        reaches(&["-n", &mine, "-s", "redis-a", "-s", "mem*"], &hosts(&[1, 3])).await;
        // A service's own namespace takes precedence.
        reaches(&["-n", "default", "-s", &format!("{mine}/*")], &hosts(&[1, 2, 3])).await;

        // Later services are included, and deleted ones removed.
        bed.apply(&put(&mine, "redis-d", 7)).await;
        bed.until_reached(&wild, &hosts(&[1, 2, 7])).await;
        bed.delete(&put(&mine, "redis-a", 1)).await;
        bed.until_reached(&wild, &hosts(&[2, 7])).await;

        // Without a namespace it is all of them, which takes a ClusterRole.
        let all = bed.fanfare(&["-s", "redis-a"]).await;
        let named = |(status, why): &(u16, String)| *status == 503 && why.contains("a ClusterRole");
        testkit::eventually!("the ClusterRole to be named", readiness(&all).await, named);
        bed.apply(EVERYWHERE).await;
        all.wait_ready().await;
        assert_eq!(bed.reached(&all).await, hosts(&[4, 6]));
        // As in the replaced tool, with a warning, because it may be a mistake.
        let told = format!("several have one: default, {foreign}. ");
        let log = all.stderr.wait("both namespaces to be told", |log| log.contains(&told)).await;
        assert!(log.contains("write default/redis-a or give --namespace"), "{log}");
        let part = bed.fanfare(&["-s", "fore*/redis-*", "-s", "*/memcached"]).await;
        part.wait_ready().await;
        assert_eq!(bed.reached(&part).await, hosts(&[3, 4, 5]));
    });
}

#[test]
fn a_request_without_an_endpoint_is_told_why_and_the_log_tells_what_there_is() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080)]);
        let put = |service: &str, endpoints: &[String]| {
            slice_in(NS, &format!("{service}-1"), service, "IPv4", endpoints, "{name: http, port: 8080}")
        };
        let ready = [endpoint(netns::ipv4(1), "ready: true")];
        bed.apply(&put("cache", &ready)).await;
        bed.apply(&put("web", &[])).await;
        let why = async |fanfare: &crate::process::Fanfare, why: &str| {
            let answer = async || client::get(fanfare.address(), "/").await.complete();
            let told = testkit::eventually!(why, answer().await, |answer| answer.text().contains(why));
            assert_eq!(told.status, 503);
        };
        let mistaken = bed.fanfare(&["-s", "default/cach", "-p", "http"]).await;
        why(&mistaken, "there is no Service default/cach").await;
        let told = |line: &str| line.contains(" WARN ") && line.contains("in namespace default there are cache, web");
        mistaken.stderr.wait("what there is", |log| log.lines().any(told)).await;
        let port = bed.fanfare(&["-s", "default/cache", "-p", "htpp"]).await;
        why(&port, "service default/cache has no TCP port htpp; it has http").await;
        let idle = bed.fanfare(&["-s", "default/web"]).await;
        why(&idle, "it has no pods").await;
        // What comes later is taken up.
        bed.apply(&put("cach", &ready)).await;
        bed.until_reached(&mistaken, &hosts(&[1])).await;
        bed.apply(&put("cach", &[endpoint(netns::ipv4(1), "ready: false")])).await;
        why(&mistaken, "none of its 1 known endpoints is ready").await;
    });
}

/// As with the headless Service beside the usual one of a StatefulSet, and one more for the other family.
#[test]
fn a_pod_of_several_matching_services_gets_one_copy() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080), v4(2, 8080), v6(1, 8080), v6(2, 8080), v4(1, 9090)]);
        let pod = |address: std::net::IpAddr, n: u8| {
            let target = format!("{{kind: Pod, namespace: {NS}, name: redis-{n}, uid: uid-{n}}}");
            format!("{{addresses: ['{address}'], targetRef: {target}}}")
        };
        let v4s = [1, 2].map(|n| pod(netns::ipv4(n), n));
        let v6s = [1, 2].map(|n| pod(netns::ipv6(n.into()), n));
        let port = "{name: redis, port: 8080}";
        bed.apply(&slice_in(NS, "redis-1", "redis", "IPv4", &v4s, port)).await;
        bed.apply(&slice_in(NS, "redis-headless-1", "redis-headless", "IPv4", &v4s, port)).await;
        bed.apply(&slice_in(NS, "redis-v6-1", "redis-v6", "IPv6", &v6s, port)).await;
        let fanfare = bed.fanfare(&["-s", "default/redis*"]).await;
        fanfare.wait_ready().await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1, 2]));
        // One and the same pod on another port is another endpoint.
        bed.apply(&slice_in(NS, "redis-admin-1", "redis-admin", "IPv4", &v4s[..1], "{name: redis, port: 9090}")).await;
        bed.until_reached(&fanfare, &[v4(1, 8080), v4(2, 8080), v4(1, 9090)].into()).await;
    });
}
