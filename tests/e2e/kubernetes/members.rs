//! The recipients of a request: the ready endpoints of one port of a service, each pod once, however its slices are divided.

use kubekit::cluster;
use testkit::{client, netns};

use super::bed::{Addresses, Bed, NS, broadcast, endpoint, hosts, readiness, slice, slice_in, v4, v6};
use crate::process::Fanfare;

const TWO_PORTS: &str = "{name: http, port: 8080}, {name: admin, port: 9090}, {name: dns, port: 53, protocol: UDP}";

#[test]
fn exactly_the_ready_endpoints_of_the_chosen_port_get_a_request_however_the_slices_are_cut() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        for port in [8080, 9090] {
            bed.listen((1..=9).map(|n| v4(n, port)));
        }
        let is = |n: u8, conditions: &str| endpoint(netns::ipv4(n), conditions);
        let first = [
            is(1, "ready: true, serving: true, terminating: false"),
            // An unset condition counts as ready.
            format!("{{addresses: ['{}']}}", netns::ipv4(2)),
            is(3, "serving: true"),
            is(4, "ready: false"),
            is(5, "ready: false, serving: true, terminating: true"),
        ];
        // While the controller moves an endpoint it is in both.
        let second = [is(1, "ready: true"), is(6, "ready: true"), is(7, "ready: false, serving: false")];
        bed.apply(&slice("cache-1", "cache", &first, TWO_PORTS)).await;
        bed.apply(&slice("cache-2", "cache", &second, TWO_PORTS)).await;
        bed.apply(&slice("other-1", "other", &[is(8, "ready: true")], "{name: http, port: 8080}")).await;
        // This one belongs to no service.
        let stray = slice("stray", "cache", &[is(9, "ready: true")], "{name: http, port: 8080}");
        bed.apply(&stray.replace("kubernetes.io/service-name", "example.org/service-name")).await;

        let expected = |port: u16| -> Addresses { [1, 2, 3, 6].map(|n| v4(n, port)).into() };
        for (flag, port) in [("http", 8080), ("admin", 9090), ("9090", 9090), ("8080", 8080)] {
            let fanfare = bed.fanfare(&["-s", "default/cache", "--port-name", flag]).await;
            fanfare.wait_ready().await;
            assert_eq!(bed.reached(&fanfare).await, expected(port), "--port-name {flag}");
            client::request(fanfare.address(), "POST", "/", &[], b"b").await.complete().expect_status(200);
        }
        for n in [4, 5, 7, 8, 9] {
            for port in [8080, 9090] {
                bed.pod(v4(n, port)).assert_untouched();
            }
        }
        // Endpoints that are not ready count as failed with `--members known`; terminating ones do not.
        let known = bed.fanfare(&["-s", "default/cache", "-p", "http", "--members", "known"]).await;
        known.wait_ready().await;
        let answer = client::get(known.address(), "/").await.complete();
        let result = answer.headers.get("X-Broadcast-Result");
        assert_eq!(result, Some("total=6, ok=4, failed=2, pending=0, required=6"), "{answer}");
        assert_eq!(answer.status, 503, "{answer}");
        bed.pod(v4(4, 8080)).assert_untouched();

        let only = bed.fanfare(&["-s", "default/other"]).await;
        only.wait_ready().await;
        assert_eq!(bed.reached(&only).await, hosts(&[8]));
    });
}

#[test]
fn a_port_that_cannot_be_chosen_is_a_named_reason_until_it_can() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080), v4(1, 9090)]);
        let one = [endpoint(netns::ipv4(1), "ready: true")];
        bed.apply(&slice("cache-1", "cache", &one, TWO_PORTS)).await;

        let names = async |fanfare: &Fanfare, reason: &str| {
            testkit::eventually!(reason, readiness(fanfare).await, |(status, why)| *status == 503
                && why.contains(reason));
            fanfare.stderr.wait("the log to say so", |log| log.contains(reason)).await;
            assert_eq!(bed.reached(fanfare).await, Addresses::new());
        };
        let ambiguous = bed.fanfare(&["-s", "default/cache"]).await;
        names(&ambiguous, "service default/cache has several ports (admin, http): choose one by name or number").await;
        let misspelt = bed.fanfare(&["-s", "default/cache", "-p", "htpp"]).await;
        names(&misspelt, "service default/cache has no TCP port htpp; it has admin, http").await;

        bed.apply(&slice("cache-1", "cache", &one, "{name: htpp, port: 8080}")).await;
        for fanfare in [&ambiguous, &misspelt] {
            fanfare.wait_ready().await;
            assert_eq!(bed.reached(fanfare).await, hosts(&[1]));
        }
        // A second port does not change the choice; the loss of a named port does.
        bed.apply(&slice("cache-1", "cache", &one, "{name: htpp, port: 8080}, {name: admin, port: 9090}")).await;
        let named = bed.fanfare(&["-s", "default/cache", "-p", "admin"]).await;
        named.wait_ready().await;
        assert_eq!(bed.reached(&named).await, [v4(1, 9090)].into());
        assert_eq!(bed.reached(&ambiguous).await, hosts(&[1]));
        bed.apply(&slice("cache-1", "cache", &one, "{name: htpp, port: 8080}")).await;
        names(&named, "service default/cache has no TCP port admin; it has htpp").await;
    });
}

const IPV6_SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: None, ipFamilies: [IPv6], ipFamilyPolicy: SingleStack, ports: [{name: http, port: 80}]}
";

#[test]
fn a_dual_stack_pod_gets_one_copy() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=3).flat_map(|n| [v4(n, 8080), v6(n.into(), 8080)]));
        bed.apply(IPV6_SERVICE).await;
        let pod = |address: std::net::IpAddr, name: &str, ready: bool| {
            format!(
                "{{addresses: ['{address}'], conditions: {{ready: {ready}}}, \
                 targetRef: {{kind: Pod, namespace: {NS}, name: {name}, uid: uid-of-{name}}}}}"
            )
        };
        let v4s = [pod(netns::ipv4(1), "a", true), pod(netns::ipv4(2), "b", true), pod(netns::ipv4(3), "c", false)];
        let v6s = [pod(netns::ipv6(1), "a", true), pod(netns::ipv6(2), "b", true), pod(netns::ipv6(3), "c", false)];
        let port = "{name: http, port: 8080}";
        bed.apply(&slice_in(NS, "web-4", "web", "IPv4", &v4s, port)).await;
        bed.apply(&slice_in(NS, "web-6", "web", "IPv6", &v6s, port)).await;

        // With the Role as shipped Services cannot be read.
        let fanfare = bed.fanfare(&["-s", "default/web"]).await;
        fanfare.wait_ready().await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1, 2]));
        // With the right to read Services the primary family is known.
        let reader = broadcast(&bed.cluster.kubeconfig_path(), &["-s", "default/web"]).await;
        reader.wait_ready().await;
        bed.until_reached(&reader, &[v6(1, 8080), v6(2, 8080)].into()).await;

        // A single family works as well.
        bed.delete(&slice_in(NS, "web-4", "web", "IPv4", &[], port)).await;
        bed.until_reached(&fanfare, &[v6(1, 8080), v6(2, 8080)].into()).await;
        for pod in [v4(3, 8080), v6(3, 8080)] {
            bed.pod(pod).assert_untouched();
        }
    });
}
