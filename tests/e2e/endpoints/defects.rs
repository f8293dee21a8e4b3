//! Regression tests of the defects of the tool that this role replaces, with their numbers in `docs/migrating.md`.

use std::time::{Duration, Instant};

use kubekit::fault_proxy::{Fault, FaultProxy, Verb};
use serde_json::Value;
use testkit::{client, eventually::scaled};

use super::bed::{Bed, told};
use crate::process::Fanfare;

/// 1: it requested the whole object every 5 s, the first time after 5 s.
#[tokio::test]
async fn d1_changes_are_told_at_once_and_nothing_is_asked_for_again() {
    let bed = Bed::new("d1").await;
    bed.slice("cache-1", "cache", [1]).await;
    let proxy = FaultProxy::start(&bed.cluster).await;
    let kubeconfig = proxy.kubeconfig(bed.account.kubeconfig_path());
    let (_fanfare, address) = bed.start_as(kubeconfig.path(), "cache", &[]).await;
    testkit::eventually!("the first list", told(address, "/endpoints").await, |told| told == &["h-1"]);
    bed.slice("cache-1", "cache", [1, 2]).await;
    let started = Instant::now();
    testkit::eventually!("the change", told(address, "/endpoints").await, |told| told == &["h-1", "h-2"]);
    assert!(started.elapsed() < scaled(Duration::from_secs(5)), "{:?}", started.elapsed());
    assert_eq!(proxy.count(|call| call.verb == Verb::List), 1);
    assert_eq!(proxy.count(|call| call.resource != "endpointslices"), 0, "{:?}", proxy.calls());
}

/// 2: v1 Endpoints are truncated at 1,000 addresses.
#[tokio::test]
async fn d2_more_than_a_thousand_addresses_are_told() {
    let bed = Bed::new("d2").await;
    for part in 0..3 {
        bed.slice(&format!("cache-{part}"), "cache", part * 500..part * 500 + 500).await;
    }
    let (_fanfare, address) = bed.start("cache", &[]).await;
    testkit::eventually!("all of them", told(address, "/endpoints").await.len(), |number| *number == 1500);
}

/// 3: before its first list it answered 200 with a Service without endpoints.
/// 4: `/health` was always ok, and the age of the data was not reported.
#[tokio::test]
async fn d3_d4_unknown_services_are_not_published_and_the_age_of_data_is_shown() {
    let bed = Bed::new("d3").await;
    bed.slice("cache-1", "cache", [1]).await;
    let proxy = FaultProxy::start(&bed.cluster).await;
    proxy.always(|call| call.verb == Verb::List, Fault::Answer(500));
    let kubeconfig = proxy.kubeconfig(bed.account.kubeconfig_path());
    let flags = ["--max-age=2s", "-m", "127.0.0.1:0"];
    let (mut fanfare, address) = bed.start_as(kubeconfig.path(), "cache", &flags).await;
    fanfare.wait_listening().await;
    proxy.wait(1, |call| call.verb == Verb::List).await;
    client::get(address, "/endpoints/").await.expect_status(503);
    client::get(address, "/ready").await.expect_status(503);
    assert_eq!(client::get(address, "/health/").await.expect_status(200).text(), "ok");
    proxy.clear();
    testkit::eventually!("the first list", told(address, "/endpoints").await, |told| told == &["h-1"]);

    proxy.hang();
    let ready = async || client::get(address, "/ready").await;
    let why = testkit::eventually!("it to be too old", ready().await, |answer| answer.status == 503).text();
    assert!(why.contains("may be 2s old"), "{why}");
    testkit::eventually!("the process too", client::get(fanfare.admin(), "/-/ready").await.text(), |text| text
        .contains("may be 2s old"));
    let answer = client::get(address, "/endpoints").await.expect_status(200);
    let age: f64 = answer.header("x-endpoints-age").and_then(|age| age.parse().ok()).expect("a number");
    assert!(age > 2.0, "{age}");
    let metrics = client::get(address, "/metrics").await.text();
    assert!(metrics.contains(&format!("fanfare_endpoints_age_seconds{{service=\"{}/cache\"}}", bed.namespace)));
    proxy.restore();
    bed.slice("cache-1", "cache", [1, 2]).await;
    testkit::eventually!("it to be fresh", ready().await.status, |status| *status == 200);
}

/// 5: an answer was modified while it was written.
#[tokio::test]
async fn d5_every_answer_is_one_state_whatever_changes() {
    let bed = Bed::new("d5").await;
    bed.slice("cache-1", "cache", [1, 2]).await;
    let (_fanfare, address) = bed.start("cache", &[]).await;
    testkit::eventually!("the first list", told(address, "/endpoints").await.len(), |number| *number == 2);
    let asking = tokio::spawn(async move {
        let mut tags = std::collections::BTreeMap::new();
        for _ in 0..300 {
            let answer = client::get(address, "/endpoints").await.expect_status(200);
            let json: Value = serde_json::from_slice(&answer.body).expect("it is whole");
            let number = json["subsets"][0]["addresses"].as_array().map_or(0, Vec::len);
            assert!(number == 2 || number == 40, "{number} addresses");
            let etag = answer.header("etag").expect("a tag").to_owned();
            assert_eq!(*tags.entry(etag).or_insert_with(|| answer.body.clone()), answer.body, "a tag stands for bytes");
        }
    });
    for round in 0..20 {
        bed.slice("cache-1", "cache", 1..=if round % 2 == 0 { 40 } else { 2 }).await;
    }
    asking.await.expect("every answer is right");
}

/// 6: the paths without a slash were redirected, which many clients do not follow.
#[tokio::test]
async fn d6_no_path_is_redirected() {
    let bed = Bed::new("d6").await;
    bed.slice("cache-1", "cache", [1]).await;
    let (_fanfare, address) = bed.start("cache", &[]).await;
    for path in ["/endpoints", "/endpoints/last_updated", "/health"] {
        for path in [path.to_owned(), format!("{path}/")] {
            testkit::eventually!("an answer", client::get(address, &path).await.status, |status| *status == 200);
        }
    }
}

/// 7: an invalid port was read as 0, which is any port.
#[tokio::test]
async fn d7_a_port_that_is_none_is_refused() {
    let finished = Fanfare::start(["endpoints", "-s", "x", "--listen", "http"]).finish().await;
    assert!(finished.code == Some(64) && finished.stderr.contains("--listen: \"http\""), "{}", finished.stderr);
}

/// 8: the right on Endpoints grants more than is needed, and newer clusters remove it.
#[tokio::test]
async fn d8_a_missing_right_is_named_and_the_process_goes_on_when_it_is_granted() {
    let bed = Bed::new("d8").await;
    let nobody = bed.cluster.service_account(&bed.namespace, "nobody").await;
    bed.slice("cache-1", "cache", [1]).await;
    let (fanfare, address) = bed.start_as(nobody.kubeconfig_path(), "cache", &[]).await;
    let named = "the verb \"list\" on endpointslices.discovery.k8s.io is missing in namespace";
    fanfare.stderr.wait("the right to be named", |log| log.contains(named)).await;
    client::get(address, "/endpoints").await.expect_status(503);
    let binding = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "nobody", "namespace": bed.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "example-endpoints"},
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": bed.namespace}],
    });
    bed.cluster.apply_yaml(&binding.to_string()).await.expect("a valid binding");
    testkit::eventually!("the endpoints", told(address, "/endpoints").await, |told| told == &["h-1"]);
}
