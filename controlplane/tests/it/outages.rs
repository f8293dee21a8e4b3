//! Losing the API server changes nothing; when it is back, the source catches up.

use std::time::{Duration, Instant};

use controlplane::{build::PortSelector, watch::MAX_DELAY};
use kubekit::{cluster::Cluster, relay::Relay};

use crate::bed::{Running, delete, metric, put, reader_of_slices, run};

/// The longest outage that is tested; the tries have the longest distance well before.
const OUTAGE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_long_outage_keeps_every_endpoint_and_the_source_catches_up_after_it() {
    let mut cluster = Cluster::start().await;
    let ns = cluster.namespace("outage").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-1", "cache", &[1, 2], 8080).await;
    let running = run(account.kubeconfig_path(), &[&format!("{ns}/cache")], PortSelector::Only).await;
    running.until_ready(&["192.0.2.1:8080", "192.0.2.2:8080"]).await;
    running.until("is ready", |running| running.readiness.is_ready()).await;
    let version = running.reader.load().version();

    cluster.kill_apiserver();
    let started = Instant::now();
    // The outage is time, in which nothing may change: there is no condition to wait for.
    while started.elapsed() < OUTAGE {
        assert_eq!(running.reader.load().version(), version, "after {:?}", started.elapsed());
        assert!(running.readiness.is_ready(), "after {:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let age = || metric(&["fanfare_watch_age_seconds{", &format!("scope=\"{ns}\"")]).expect("the age is reported");
    assert!(age() > OUTAGE.as_secs_f64() - 5.0, "{} s", age());

    cluster.start_apiserver().await;
    put(&cluster, &ns, "cache-1", "cache", &[2, 3], 8080).await;
    let took = running.until_ready(&["192.0.2.2:8080", "192.0.2.3:8080"]).await;
    assert!(took < MAX_DELAY + Duration::from_secs(10), "{took:?}");
    running.until("the data is young again", |_| age() < 5.0).await;
}

#[tokio::test]
async fn after_410_gone_a_complete_list_replaces_everything_at_once() {
    let mut cluster = Cluster::start().await;
    let ns = cluster.namespace("gone").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-1", "cache", &[1], 8080).await;
    put(&cluster, &ns, "cache-2", "cache", &[2], 8080).await;
    let mut relay = Relay::start(cluster.api_port()).await;
    let kubeconfig = relay.kubeconfig(account.kubeconfig_path());
    let running = run(kubeconfig.path(), &[&format!("{ns}/cache")], PortSelector::Only).await;
    running.until_ready(&["192.0.2.1:8080", "192.0.2.2:8080"]).await;
    running.until("is ready", |running| running.readiness.is_ready()).await;
    let before = running.reader.load().version().sequence;
    let gone = || metric(&["fanfare_watch_errors_total{", "reason=\"gone\""]).unwrap_or(0.0);
    let gone_before = gone();

    relay.cut().await;
    put(&cluster, &ns, "cache-3", "cache", &[3], 8080).await;
    delete(&cluster.client().await, &ns, "cache-1").await;
    cluster.compact().await;
    // It keeps recent events in memory, so that it could still tell them.
    cluster.kill_apiserver();
    cluster.start_apiserver().await;
    assert_eq!(running.reader.load().version().sequence, before, "nothing changed while it was away");

    relay.restore().await;
    running.until_ready(&["192.0.2.2:8080", "192.0.2.3:8080"]).await;
    assert!(gone() > gone_before, "the API server answered 410");
    assert_eq!(running.reader.load().version().sequence, before + 1, "it was replaced in one step");
    // The new watch is alive.
    put(&cluster, &ns, "cache-3", "cache", &[4], 8080).await;
    running.until_ready(&["192.0.2.2:8080", "192.0.2.4:8080"]).await;
}

#[tokio::test]
async fn a_restarted_api_server_is_followed_again() {
    let mut cluster = Cluster::start().await;
    let ns = cluster.namespace("restart").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-1", "cache", &[1], 8080).await;
    let running = run(account.kubeconfig_path(), &[&format!("{ns}/cache")], PortSelector::Only).await;
    running.until_ready(&["192.0.2.1:8080"]).await;
    cluster.stop_apiserver().await;
    assert_eq!(running.ready().len(), 1);
    cluster.start_apiserver().await;
    put(&cluster, &ns, "cache-1", "cache", &[1, 2], 8080).await;
    running.until_ready(&["192.0.2.1:8080", "192.0.2.2:8080"]).await;
}

#[tokio::test]
async fn an_api_server_that_is_away_at_the_start_is_waited_for() {
    let mut cluster = Cluster::start().await;
    let ns = cluster.namespace("late").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-1", "cache", &[1], 8080).await;
    cluster.kill_apiserver();
    let running = run(account.kubeconfig_path(), &[&format!("{ns}/cache")], PortSelector::Only).await;
    let named = |running: &Running| running.readiness.check().is_err_and(|why| why.contains("cannot list"));
    running.until("the failure is named", named).await;
    cluster.start_apiserver().await;
    running.until_ready(&["192.0.2.1:8080"]).await;
    running.until("is ready", |running| running.readiness.is_ready()).await;
}

#[tokio::test]
async fn an_api_server_that_hangs_changes_nothing() {
    let cluster = Cluster::start().await;
    let ns = cluster.namespace("hang").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-1", "cache", &[1], 8080).await;
    let running = run(account.kubeconfig_path(), &[&format!("{ns}/cache")], PortSelector::Only).await;
    running.until("is ready", |running| running.readiness.is_ready()).await;
    let age = || metric(&["fanfare_watch_age_seconds{", &format!("scope=\"{ns}\"")]).unwrap_or(0.0);

    cluster.pause_apiserver();
    running.until("the data grows old", |_| age() > 3.0).await;
    assert_eq!(running.ready().len(), 1);
    assert!(running.readiness.is_ready());
    cluster.resume_apiserver();
    put(&cluster, &ns, "cache-1", "cache", &[2], 8080).await;
    running.until_ready(&["192.0.2.2:8080"]).await;
}
