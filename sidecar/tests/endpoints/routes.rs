//! Tests of the routes and their answers.

use std::time::Duration;

use kubekit::fault_proxy::{Fault, Verb};
use serde_json::{Value, json};
use sidecar::endpoints::Deliver;
use testkit::client::request;

use crate::bed::{Bed, addresses};

#[tokio::test]
async fn the_routes_of_the_original_answer_with_and_without_a_slash() {
    let bed = Bed::new("routes").await;
    bed.slice(
        "cache-1",
        "cache",
        &[
            "{addresses: [192.0.2.1], hostname: a, nodeName: n1}",
            "{addresses: [192.0.2.2], conditions: {ready: false}}",
        ],
    )
    .await;
    let running = bed.run(&["cache", "none"], None, Deliver::default()).await;
    let answer = running.until(&[1]).await.expect_status(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document: Value = serde_json::from_slice(&answer.body).expect("it is JSON");
    assert_eq!(document["metadata"]["name"], "cache");
    assert_eq!(document["metadata"]["namespace"], bed.namespace);
    assert_eq!(document["metadata"]["labels"], json!({"app": "x"}));
    let subset = json!({
        "addresses": [{"ip": "192.0.2.1", "hostname": "a", "nodeName": "n1"}],
        "notReadyAddresses": [{"ip": "192.0.2.2"}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    });
    assert_eq!(document["subsets"], json!([subset]));

    let own = format!("/v1/services/{}/cache/endpoints", bed.namespace);
    for path in ["/endpoints/", &own, &format!("{own}/")] {
        assert_eq!(running.get(path).await.expect_status(200).body, answer.body, "{path}");
    }
    for path in ["/endpoints/last_updated", "/endpoints/last_updated/", &format!("{own}/last_updated")] {
        let json: Value = serde_json::from_slice(&running.get(path).await.expect_status(200).body).expect("it is JSON");
        let text = json["lastUpdated"].as_str().expect("a time");
        assert_eq!((text.len(), &text[text.len() - 5..], &text[10..11]), (24, "+0000", "T"), "{text}");
    }
    for path in ["/health", "/health/"] {
        assert_eq!(running.get(path).await.expect_status(200).text(), "ok", "{path}");
    }
    testkit::eventually!("readiness", running.get("/ready/").await.status, |status| *status == 200);

    // A service without a slice has a complete list, without endpoints.
    let none = running.get(&format!("/v1/services/{}/none/endpoints", bed.namespace)).await.expect_status(200);
    assert_eq!(serde_json::from_slice::<Value>(&none.body).expect("it is JSON")["subsets"], json!([]));
    let all: Value = serde_json::from_slice(&running.get("/v1/services").await.body).expect("it is JSON");
    assert_eq!((&all["services"][0]["path"], &all["services"][0]["notReady"]), (&json!(own), &json!(1)), "{all}");
    assert_eq!(all["services"][1]["ready"], 0, "{all}");
    for path in ["/", "/endpoints/x", "/v1/services/a/b/endpoints"] {
        let nothing = running.get(path).await.expect_status(404);
        assert!(nothing.text().contains(&own), "it says what there is: {nothing}");
    }
    request(running.address, "POST", "/endpoints", &[], b"x").await.expect_status(405);
    assert!(running.get("/metrics").await.text().contains("fanfare_endpoints_addresses{"));
}

#[tokio::test]
async fn before_the_first_complete_list_the_answer_is_503_and_after_an_outage_the_last_state() {
    let bed = Bed::new("first").await;
    bed.ready("cache", &[1]).await;
    bed.proxy.always(|call| call.verb == Verb::List, Fault::Answer(503));
    let running = bed.run(&["cache"], None, Deliver::default()).await;
    bed.proxy.wait(1, |call| call.verb == Verb::List).await;
    for path in ["/endpoints", "/endpoints/last_updated"] {
        let answer = running.get(path).await.expect_status(503);
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
    }
    let why = running.get("/ready").await.expect_status(503).text();
    assert!(why.contains(&format!("{}/cache: there is no complete list", bed.namespace)), "{why}");
    running.get("/health").await.expect_status(200);
    bed.proxy.clear();
    running.until(&[1]).await;
    testkit::eventually!("readiness", running.get("/ready").await.status, |status| *status == 200);

    // An outage: the last state stays, and its age grows.
    bed.proxy.cut();
    assert_eq!(addresses(&running.get("/endpoints").await), ["192.0.2.1"]);
    let old = testkit::eventually!(
        "the age to grow",
        running.get("/endpoints").await.header("x-endpoints-age").and_then(|age| age.parse::<f64>().ok()),
        |age| age.is_some_and(|age| age > 1.5)
    );
    assert!(old.is_some_and(|age| age < 60.0));
    running.get("/ready").await.expect_status(200);
}

#[tokio::test]
async fn data_that_is_too_old_is_served_but_not_ready() {
    let bed = Bed::new("age").await;
    bed.ready("cache", &[1]).await;
    let running = bed.run(&["cache"], Some(Duration::from_secs(1)), Deliver::default()).await;
    running.until(&[1]).await;
    bed.proxy.cut();
    let why = testkit::eventually!("readiness to end", running.get("/ready").await.text(), |why| why.contains("s old"));
    assert!(why.contains("may be 1s old"), "{why}");
    assert_eq!(addresses(&running.get("/endpoints").await.expect_status(200)), ["192.0.2.1"]);
    bed.proxy.restore();
    testkit::eventually!("readiness", running.get("/ready").await.status, |status| *status == 200);
}

#[tokio::test]
async fn a_client_that_has_it_gets_304_and_head_tells_the_same() {
    let bed = Bed::new("etag").await;
    bed.ready("cache", &[1, 2]).await;
    let running = bed.run(&["cache"], None, Deliver::default()).await;
    let answer = running.until(&[1, 2]).await;
    let etag = answer.header("etag").expect("a tag").to_owned();
    assert!(etag.starts_with('"') && etag.len() == 34, "strong: {etag}");
    let modified = answer.header("last-modified").expect("a date").to_owned();
    assert!(modified.ends_with(" GMT") && modified.len() == 29, "{modified}");
    assert_eq!(answer.header("cache-control"), Some("no-cache"));

    let same = running.get_with("/endpoints/", "If-None-Match", &format!("\"x\", {etag}")).await.expect_status(304);
    assert_eq!((same.header("etag"), same.body.len()), (Some(etag.as_str()), 0));
    let head = request(running.address, "HEAD", "/endpoints", &[], b"").await.expect_status(200);
    for name in ["etag", "last-modified", "content-type", "content-length", "x-endpoints-index"] {
        assert_eq!(head.header(name), answer.header(name), "{name}");
    }
    request(running.address, "HEAD", "/endpoints", &[("If-None-Match", &etag)], b"").await.expect_status(304);

    // The tag stays the same if endpoints move to other slices, changes with another endpoint, and returns with the old content.
    bed.slice("cache-2", "cache", &["{addresses: [192.0.2.2], hostname: h-2}"]).await;
    bed.ready("cache", &[1]).await;
    bed.slice("cache-2", "cache", &["{addresses: [192.0.2.3]}"]).await;
    let other = running.until(&[1, 3]).await;
    assert_ne!(other.header("etag"), Some(etag.as_str()));
    bed.slice("cache-2", "cache", &["{addresses: [192.0.2.2], hostname: h-2}"]).await;
    assert_eq!(running.until(&[1, 2]).await.header("etag"), Some(etag.as_str()));
}
