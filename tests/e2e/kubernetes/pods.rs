//! Pods that come and go, with real slice controllers: no request fails unnecessarily.

use std::time::Instant;

use kubekit::cluster;
use testkit::{client, netns};

use super::{
    bed::{Addresses, Bed, NS, hosts, readiness, v4},
    load::{Load, assert_all_ok},
};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: default}
spec:
  selector: {app: cache}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

fn name(n: u8) -> String {
    format!("cache-{n}")
}

/// The pod as an object.
async fn make(bed: &Bed, n: u8, ready: bool) {
    bed.cluster.pod(NS, &name(n), "cache", &[netns::ipv4(n)], ready).await;
}

async fn with_three_pods() -> Bed {
    let mut bed = Bed::start_with_controllers().await;
    bed.apply(SERVICE).await;
    bed.listen((1..=3).map(|n| v4(n, 8080)));
    for n in 1..=3 {
        make(&bed, n, true).await;
    }
    bed
}

#[test]
fn an_orderly_rollout_and_pods_that_become_unready_fail_no_request_though_all_must_succeed() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = with_three_pods().await;
        let fanfare = bed.fanfare(&["-s", "default/cache", "-p", "http"]).await;
        bed.until_reached(&fanfare, &hosts(&[1, 2, 3])).await;
        fanfare.wait_ready().await;
        let mut load = Load::start(fanfare.address());
        let mut members = hosts(&[1, 2, 3]);
        for (old, new) in [(1, 4), (2, 5), (3, 6)] {
            // It exists, but listens only once it is ready.
            make(&bed, new, false).await;
            let known = async || client::get(fanfare.admin(), "/-/endpoints").await.text();
            let address = v4(new, 8080);
            testkit::eventually!("the new pod", known().await, |text| text.contains(&address.to_string()));
            assert_eq!(bed.reached(&fanfare).await, members);
            bed.listen([address]);
            bed.cluster.set_pod_ready(NS, &name(new), true).await;
            members.insert(address);
            bed.until_reached(&fanfare, &members).await;
            // It keeps serving until it gets no more requests.
            bed.cluster.terminate_pod(NS, &name(old)).await;
            members.remove(&v4(old, 8080));
            bed.until_reached(&fanfare, &members).await;
            load.beyond(Instant::now()).await;
            let ended = bed.pod(v4(old, 8080));
            ended.stop_listening().await;
            ended.close_idle().await;
            bed.cluster.delete_pod(NS, &name(old)).await;
        }
        for _ in 0..5 {
            bed.cluster.set_pod_ready(NS, &name(5), false).await;
            bed.until_reached(&fanfare, &hosts(&[4, 6])).await;
            bed.cluster.set_pod_ready(NS, &name(5), true).await;
            bed.until_reached(&fanfare, &hosts(&[4, 5, 6])).await;
        }
        // A pod is replaced by one with the same address: idle connections to the old one are not used.
        bed.cluster.terminate_pod(NS, &name(6)).await;
        bed.until_reached(&fanfare, &hosts(&[4, 5])).await;
        load.beyond(Instant::now()).await;
        let replaced = bed.pod(v4(6, 8080));
        replaced.stop_listening().await;
        replaced.close_idle().await;
        bed.cluster.delete_pod(NS, &name(6)).await;
        replaced.listen_again().await;
        bed.cluster.pod(NS, &name(7), "cache", &[netns::ipv4(6)], true).await;
        bed.until_reached(&fanfare, &hosts(&[4, 5, 6])).await;
        load.beyond(Instant::now()).await;
        assert_all_ok(&load.stop().await);

        // The service is deleted and created again, while its pods stay.
        bed.delete(SERVICE).await;
        bed.until_reached(&fanfare, &Addresses::new()).await;
        testkit::eventually!("no longer ready", readiness(&fanfare).await, |(status, _)| *status == 503);
        bed.apply(SERVICE).await;
        bed.until_reached(&fanfare, &hosts(&[4, 5, 6])).await;
        fanfare.wait_ready().await;
    });
}

#[test]
fn pods_that_crash_fail_no_request_where_any_is_enough() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = with_three_pods().await;
        let fanfare = bed.fanfare(&["-s", "default/cache", "-p", "http", "--require", "any"]).await;
        bed.until_reached(&fanfare, &hosts(&[1, 2, 3])).await;
        let mut load = Load::start(fanfare.address());
        for round in 0..2 {
            for n in 1..=3 {
                // It crashes with requests in flight, and its status changes only later.
                let pod = bed.pod(v4(n, 8080));
                pod.stop_listening().await;
                pod.reset_all().await;
                load.beyond(Instant::now()).await;
                let mut rest = hosts(&[1, 2, 3]);
                rest.remove(&v4(n, 8080));
                assert_eq!(bed.reached(&fanfare).await, rest, "round {round}");
                bed.cluster.set_pod_ready(NS, &name(n), false).await;
                load.beyond(Instant::now()).await;
                // It comes back, and its status changes later again.
                pod.listen_again().await;
                bed.cluster.set_pod_ready(NS, &name(n), true).await;
                bed.until_reached(&fanfare, &hosts(&[1, 2, 3])).await;
            }
        }
        // Two of three are gone for good, and others take their place.
        for (old, new) in [(1, 4), (2, 5)] {
            let pod = bed.pod(v4(old, 8080));
            pod.stop_listening().await;
            pod.reset_all().await;
            bed.cluster.delete_pod(NS, &name(old)).await;
            bed.listen([v4(new, 8080)]);
            make(&bed, new, true).await;
            load.beyond(Instant::now()).await;
        }
        bed.until_reached(&fanfare, &hosts(&[3, 4, 5])).await;
        load.beyond(Instant::now()).await;
        assert_all_ok(&load.stop().await);
    });
}
