//! Pods that are replaced, on a real API server: what one missed is its own, by its name.

use std::path::Path;

use kubekit::cluster;
use rustix::process::Signal;
use testkit::{client, netns};

use super::bed::{owed, until_all_have_everything};
use crate::{
    kubernetes::bed::{Bed, hosts, metric, slice, v4},
    process::Fanfare,
};

/// The slice of the service, with these pods at the addresses with these numbers.
fn pods(pods: &[(&str, u8)]) -> String {
    let endpoints = pods.iter().map(|(name, n)| {
        let target = format!("{{kind: Pod, namespace: default, name: {name}}}");
        format!("{{addresses: ['{}'], conditions: {{ready: true}}, targetRef: {target}}}", netns::ipv4(*n))
    });
    slice("cache-1", "cache", &endpoints.collect::<Vec<_>>(), "{name: http, port: 8080}")
}

async fn start(bed: &Bed, keep: &str, more: &[&str]) -> Fanfare {
    let mut flags = vec!["-s", "default/cache", "-p", "http", "--redeliver", keep, "--on-deferred", "202"];
    flags.extend(["--redeliver-backoff", "10ms..100ms"]);
    flags.extend(more);
    let fanfare = bed.fanfare(&flags).await;
    fanfare.wait_ready().await;
    fanfare
}

async fn put(fanfare: &Fanfare, target: &str, status: u16) {
    client::request(fanfare.address(), "PUT", target, &[], b"value").await.complete().expect_status(status);
}

/// The targets that the pod at this address has got.
fn got(bed: &Bed, n: u8) -> Vec<String> {
    bed.pod(v4(n, 8080)).requests().into_iter().map(|request| request.complete().target).collect()
}

/// The process at this address is gone; nobody has said so yet.
async fn crash(bed: &Bed, n: u8) {
    let pod = bed.pod(v4(n, 8080));
    pod.stop_listening().await;
    pod.reset_all().await;
}

#[test]
fn the_pod_of_a_statefulset_gets_its_deliveries_at_its_new_address_and_no_other_pod_does() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([1, 2, 7].map(|n| v4(n, 8080)));
        bed.apply(&pods(&[("cache-0", 1), ("cache-1", 2)])).await;
        let journal = tempfile::tempdir().expect("a temporary folder");
        let path = |directory: &Path| directory.to_str().expect("a path of ASCII").to_owned();
        let flags = ["--redeliver-journal".to_owned(), path(journal.path())];
        let flags = flags.each_ref().map(String::as_str);
        let mut fanfare = start(&bed, "1h", &flags).await;
        bed.until_seen(&fanfare, &hosts(&[1, 2])).await;
        crash(&bed, 2).await;
        put(&fanfare, "/1", 202).await;
        put(&fanfare, "/2", 202).await;
        bed.apply(&pods(&[("cache-0", 1)])).await;
        bed.until_seen(&fanfare, &hosts(&[1])).await;
        // Who is no member when a request arrives is not owed it.
        put(&fanfare, "/3", 200).await;

        // Another pod is now where it was.
        bed.pod(v4(2, 8080)).listen_again().await;
        bed.apply(&pods(&[("cache-0", 1), ("other-0", 2)])).await;
        bed.until_seen(&fanfare, &hosts(&[1, 2])).await;
        put(&fanfare, "/4", 200).await;
        fanfare.signal(Signal::KILL);
        fanfare.exit().await;
        let fanfare = start(&bed, "1h", &flags).await;
        bed.until_seen(&fanfare, &hosts(&[1, 2])).await;
        assert_eq!(owed(&fanfare).await, 2.0);

        // And it comes back elsewhere.
        bed.apply(&pods(&[("cache-0", 1), ("other-0", 2), ("cache-1", 7)])).await;
        until_all_have_everything(&fanfare).await;
        assert_eq!(got(&bed, 7), ["/1", "/2"]);
        assert_eq!(got(&bed, 2), ["/4"], "the address is another pod's");
        assert_eq!(got(&bed, 1), ["/1", "/2", "/3", "/4"]);
        // The journal may not know yet that nothing is owed.
        let live = async || client::request(fanfare.address(), "PUT", "/5", &[], b"value").await.status;
        testkit::eventually!("a live request", live().await, |status| *status == 200);
    });
}

#[test]
fn deliveries_of_a_deployments_pod_expire_or_are_dropped_and_its_successor_gets_none() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([1, 2, 7].map(|n| v4(n, 8080)));
        for (keep, more, result) in
            [("5s", &[][..], "result=\"expired\""), ("1h", &["--redeliver-gone", "drop"][..], "result=\"dropped\"")]
        {
            bed.apply(&pods(&[("web-a1", 1), ("web-b2", 2)])).await;
            let fanfare = start(&bed, keep, more).await;
            bed.until_seen(&fanfare, &hosts(&[1, 2])).await;
            crash(&bed, 2).await;
            put(&fanfare, "/missed", 202).await;
            assert_eq!(owed(&fanfare).await, 1.0);
            bed.apply(&pods(&[("web-a1", 1), ("web-c3", 7)])).await;
            bed.until_seen(&fanfare, &hosts(&[1, 7])).await;
            let ended = async || metric(&fanfare, "fanfare_deliveries_total", &[result]).await;
            testkit::eventually!(format!("a delivery with {result}"), ended().await, |ended| *ended == 1.0);
            testkit::eventually!("nothing to be owed", owed(&fanfare).await, |owed| *owed == 0.0);
            put(&fanfare, "/live", 200).await;
            assert!(got(&bed, 7).iter().all(|target| target == "/live"), "{:?}", got(&bed, 7));
            bed.pod(v4(2, 8080)).listen_again().await;
        }
        assert_eq!(got(&bed, 2), Vec::<String>::new());
    });
}
