//! Requests follow changes of the slices within a second, without a failed request.

use kubekit::cluster;
use testkit::{
    client::RawClient,
    netns,
    origin::{Gate, Reply},
};

use super::{
    bed::{Addresses, Bed, endpoint, hosts, readiness, ready, slice, v4},
    load::{Load, Timeline, assert_all_ok},
};

const HTTP: &str = "{name: http, port: 8080}";

#[test]
fn scaling_rollouts_and_port_changes_count_within_a_second_and_fail_no_request() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=6).map(|n| v4(n, 8080)));
        bed.listen((4..=6).map(|n| v4(n, 9090)));
        let cache = |endpoints: &[String], port: &str| slice("cache-1", "cache", endpoints, port);
        bed.apply(&cache(&ready(&[1, 2]), HTTP)).await;
        let fanfare = bed.fanfare(&["-s", "default/cache", "-p", "http"]).await;
        fanfare.wait_ready().await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1, 2]));

        let mut timeline = Timeline::new(hosts(&[1, 2]));
        let mut load = Load::start(fanfare.address());
        // Scaled up, then down.
        timeline.step(&mut load, hosts(&[1, 2, 3]), bed.apply(&cache(&ready(&[1, 2, 3]), HTTP))).await;
        timeline.step(&mut load, hosts(&[3]), bed.apply(&cache(&ready(&[3]), HTTP))).await;
        // Connections to a removed endpoint are closed as well.
        for pod in [1, 2] {
            bed.pod(v4(pod, 8080)).wait_closed().await;
        }
        // A rollout: all pods are replaced.
        timeline.step(&mut load, hosts(&[4, 5]), bed.apply(&cache(&ready(&[4, 5]), HTTP))).await;
        // One of them becomes unready, becomes ready again, terminates.
        let [unready, ending] = ["ready: false", "ready: false, serving: true, terminating: true"]
            .map(|conditions| [ready(&[4]), vec![endpoint(netns::ipv4(5), conditions)]].concat());
        timeline.step(&mut load, hosts(&[4]), bed.apply(&cache(&unready, HTTP))).await;
        timeline.step(&mut load, hosts(&[4, 5]), bed.apply(&cache(&ready(&[4, 5]), HTTP))).await;
        timeline.step(&mut load, hosts(&[4]), bed.apply(&cache(&ending, HTTP))).await;
        timeline.step(&mut load, hosts(&[4, 5]), bed.apply(&cache(&ready(&[4, 5]), HTTP))).await;
        // The same pods listen on another port.
        let moved: Addresses = [v4(4, 9090), v4(5, 9090)].into();
        timeline.step(&mut load, moved, bed.apply(&cache(&ready(&[4, 5]), "{name: http, port: 9090}"))).await;
        let sent = load.stop().await;
        assert_all_ok(&sent);
        timeline.check(&sent, bed.pods());
        for (step, pod) in [(2, v4(1, 8080)), (2, v4(2, 8080)), (3, v4(3, 8080)), (8, v4(4, 8080)), (8, v4(5, 8080))] {
            timeline.check_removed(step, bed.pod(pod));
        }
        assert_eq!(bed.pod(v4(6, 8080)).accepted(), 0, "it never belonged to the service");
    });
}

#[test]
fn slices_come_and_go_under_load_and_an_empty_service_is_not_ready() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=4).map(|n| v4(n, 8080)));
        let [first, second] = ["cache-1", "cache-2"];
        let put = |name: &str, numbers: &[u8]| slice(name, "cache", &ready(numbers), HTTP);
        bed.apply(&put(first, &[1, 2])).await;
        let fanfare = bed.fanfare(&["-s", "default/cache"]).await;
        fanfare.wait_ready().await;

        let mut timeline = Timeline::new(hosts(&[1, 2]));
        let mut load = Load::start(fanfare.address());
        timeline.step(&mut load, hosts(&[1, 2, 3]), bed.apply(&put(second, &[2, 3]))).await;
        timeline.step(&mut load, hosts(&[2, 3]), bed.delete(&put(first, &[]))).await;
        // It now belongs to another service.
        let stranger = slice(second, "other", &ready(&[2, 3]), HTTP);
        timeline.step(&mut load, hosts(&[]), bed.apply(&stranger)).await;
        let (status, why) = readiness(&fanfare).await;
        let told = "no endpoint (there is no Service default/cache, or it has no EndpointSlice) for kube:default/cache";
        assert!(status == 503 && why.contains(told), "{why}");
        timeline.step(&mut load, hosts(&[3]), bed.apply(&put(second, &[3]))).await;
        fanfare.wait_ready().await;
        timeline.step(&mut load, hosts(&[]), bed.delete(&put(second, &[]))).await;
        // Created again, with other pods.
        timeline.step(&mut load, hosts(&[1, 4]), bed.apply(&put(first, &[1, 4]))).await;
        fanfare.wait_ready().await;
        let sent = load.stop().await;
        timeline.check(&sent, bed.pods());
        timeline.check_removed(3, bed.pod(v4(2, 8080)));
        timeline.check_removed(5, bed.pod(v4(3, 8080)));
    });
}

#[test]
fn a_burst_of_changes_is_never_seen_half_done_and_ends_right() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=8).map(|n| v4(n, 8080)));
        let put = |numbers: &[u8]| slice("cache-1", "cache", &ready(numbers), HTTP);
        bed.apply(&put(&[1, 2, 3, 4])).await;
        let fanfare = bed.fanfare(&["-s", "default/cache"]).await;
        fanfare.wait_ready().await;
        let mut timeline = Timeline::new(hosts(&[1, 2, 3, 4]));
        let mut load = Load::start(fanfare.address());
        // Every one of them is a different set, and none is empty.
        for mask in (1..=120_u8).map(|n| n.wrapping_mul(37) | 1 << (n % 8)) {
            let members: Vec<u8> = (1..=8).filter(|n| mask & 1 << (n - 1) != 0).collect();
            timeline.brief_step(hosts(&members), bed.apply(&put(&members))).await;
        }
        timeline.step(&mut load, hosts(&[5, 6]), bed.apply(&put(&[5, 6]))).await;
        let sent = load.stop().await;
        assert_all_ok(&sent);
        timeline.check(&sent, bed.pods());
    });
}

#[test]
fn a_request_under_way_ends_with_the_endpoints_it_began_with() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen((1..=3).map(|n| v4(n, 8080)));
        let put = |numbers: &[u8]| slice("cache-1", "cache", &ready(numbers), HTTP);
        bed.apply(&put(&[1, 2])).await;
        let fanfare =
            bed.fanfare(&["-s", "default/cache", "--stream", "--timeout", "1h", "--body-timeout", "1h"]).await;
        fanfare.wait_ready().await;
        let gate = Gate::new();
        bed.pod(v4(1, 8080)).set(Reply::ok("held").hold(&gate));

        let mut client = RawClient::connect(fanfare.address()).await;
        client.send("POST /whole HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf").await;
        for n in [1, 2] {
            bed.pod(v4(n, 8080)).wait_until("half of the body", |j| j.requests.iter().any(|r| r.body == b"half")).await;
        }
        // One is removed while a request is sent to it, the other one before its answer.
        bed.apply(&put(&[1, 3])).await;
        bed.until_seen(&fanfare, &hosts(&[1, 3])).await;
        client.send("more").await;
        for n in [1, 2] {
            let whole = bed.pod(v4(n, 8080)).wait_requests(1).await.remove(0).complete();
            assert_eq!((&*whole.target, &*whole.body), ("/whole", &b"halfmore"[..]));
        }
        bed.apply(&put(&[3])).await;
        bed.until_seen(&fanfare, &hosts(&[3])).await;
        assert!(client.is_quiet(), "all must succeed, and one has not answered");
        gate.release();
        let answer = client.read_response("POST").await.complete();
        let result = answer.headers.get("X-Broadcast-Result");
        assert_eq!((answer.status, result), (200, Some("total=2, ok=2, failed=0, pending=0, required=2")));
        assert_eq!(bed.reached(&fanfare).await, hosts(&[3]));
        for n in [1, 2] {
            bed.pod(v4(n, 8080)).wait_closed().await;
        }
    });
}
