//! The environment and the routes of the tool that this role replaces, unchanged.

use std::process::Command;

use rustix::process::Signal;
use testkit::client::{self, RawClient, request_bytes};

use super::bed::{Bed, told};
use crate::process::{Fanfare, run};

#[tokio::test]
async fn its_environment_is_enough_and_its_end_is_in_order() {
    let bed = Bed::new("original").await;
    bed.slice("cache-1", "cache", [1]).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("endpoints").env("KUBECONFIG", bed.kubeconfig());
    command.env("KUBERNETES_POD_DISCOVERY_SERVICE_NAME", "cache");
    command.env("KUBERNETES_POD_DISCOVERY_NAMESPACE", &bed.namespace);
    command.env("KUBERNETES_POD_DISCOVERY_LISTEN_PORT", "0");
    let fanfare = Fanfare::spawn(command.into());
    let address = fanfare.listening("for endpoints").await;
    assert!(address.ip().is_unspecified() && address.port() > 0, "{address}");
    for path in ["/endpoints/", "/endpoints"] {
        testkit::eventually!("the endpoints", told(address, path).await, |told| told == &["h-1"]);
    }
    assert!(client::get(address, "/endpoints/last_updated/").await.text().starts_with("{\"lastUpdated\":\"20"));
    assert_eq!(client::get(address, "/health/").await.text(), "ok");
    assert!(!fanfare.stderr.text().contains("admin API"), "a port that the original did not take stays free");

    // Waiting clients get an answer, and the process exits successfully.
    let mut waiting = RawClient::connect(address).await;
    waiting.send(request_bytes("x", "GET", "/endpoints?wait=9m", &[], b"")).await;
    let metrics = async || client::get(address, "/metrics").await.text();
    testkit::eventually!("it to wait", metrics().await, |text| text.contains("fanfare_endpoints_waiting 1\n"));
    fanfare.signal(Signal::TERM);
    waiting.read_response("GET").await.expect_status(200);
    assert_eq!(fanfare.finish().await.code, Some(0));
}

#[tokio::test]
async fn invalid_variables_are_reported_by_name() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("endpoints").env("KUBERNETES_POD_DISCOVERY_LISTEN_PORT", "80a");
    let finished = Fanfare::spawn(command.into()).finish().await;
    assert_eq!(finished.code, Some(64));
    for part in ["--service: is missing", "KUBERNETES_POD_DISCOVERY_LISTEN_PORT (--listen): \"80a\""] {
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
    let twice = run(["endpoints", "-s", "a,a"]).await;
    assert!(twice.code == Some(64) && twice.stderr.contains("named twice"), "{}", twice.stderr);
}

#[tokio::test]
async fn several_services_have_a_path_each_and_the_first_has_the_old_one_too() {
    let bed = Bed::new("several").await;
    let other = bed.cluster.namespace("unreadable").await;
    bed.slice("cache-1", "cache", [1]).await;
    bed.slice("db-1", "db", [2]).await;
    let services = format!("cache,db,{other}/x");
    let (_fanfare, address) = bed.start(&services, &[]).await;
    let own = |name: &str| format!("/v1/services/{}/{name}/endpoints/", bed.namespace);
    testkit::eventually!("the first", told(address, "/endpoints").await, |told| told == &["h-1"]);
    testkit::eventually!("the second", told(address, &own("db")).await, |told| told == &["h-2"]);
    // The Service without a right does not block the others, and is named.
    client::get(address, &format!("/v1/services/{other}/x/endpoints")).await.expect_status(503);
    let why = client::get(address, "/ready").await.expect_status(503).text();
    assert!(why.contains(&format!("{other}/x")) && !why.contains("cache"), "{why}");
}
