//! A missing right is named, harms nothing else, and is used as soon as it is there.

use controlplane::build::PortSelector;
use kubekit::{cluster::shared, relay::Relay};

use crate::bed::{Running, grant, metric, put, reader_of_slices, run};

#[tokio::test]
async fn a_missing_verb_is_named_and_the_source_goes_on_when_it_is_granted() {
    let cluster = shared().await;
    let ns = cluster.namespace("verbs").await;
    let account = reader_of_slices(&cluster, &ns, "get").await;
    put(&cluster, &ns, "cache-1", "cache", &[1], 8080).await;
    let running = run(account.kubeconfig_path(), &[&format!("{ns}/cache")], PortSelector::Only).await;
    let says =
        |words: &'static str| move |running: &Running| running.readiness.check().is_err_and(|why| why.contains(words));
    running.until("`list` is named", says("the verb \"list\" on endpointslices.discovery.k8s.io is missing")).await;
    let why = running.readiness.check().expect_err("it is not ready");
    assert!(why.contains(&format!("a Role in namespace {ns}")), "{why}");

    grant(&cluster, &ns, "get, list").await;
    running.until_ready(&["192.0.2.1:8080"]).await;
    running.until("`watch` is named", says("the verb \"watch\" on endpointslices.discovery.k8s.io is missing")).await;

    grant(&cluster, &ns, "get, list, watch").await;
    running.until("is ready", |running| running.readiness.is_ready()).await;
}

#[tokio::test]
async fn a_right_that_is_taken_away_takes_no_endpoint_and_no_readiness_with_it() {
    let cluster = shared().await;
    let ns = cluster.namespace("revoked").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-1", "cache", &[1], 8080).await;
    let mut relay = Relay::start(cluster.api_port()).await;
    let kubeconfig = relay.kubeconfig(account.kubeconfig_path());
    let running = run(kubeconfig.path(), &[&format!("{ns}/cache")], PortSelector::Only).await;
    running.until_ready(&["192.0.2.1:8080"]).await;
    running.until("is ready", |running| running.readiness.is_ready()).await;

    grant(&cluster, &ns, "get").await;
    account.until_refused(&format!("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices")).await;
    relay.cut().await;
    relay.restore().await;
    // Every accepted watch makes the data young again, every second at the latest: this one is refused.
    let age = || metric(&["fanfare_watch_age_seconds{", &format!("scope=\"{ns}\"")]).unwrap_or(0.0);
    running.until("the data grows old", |_| age() > 8.0).await;
    assert_eq!(running.ready().len(), 1);
    assert!(running.readiness.is_ready());

    grant(&cluster, &ns, "get, list, watch").await;
    put(&cluster, &ns, "cache-1", "cache", &[2], 8080).await;
    running.until_ready(&["192.0.2.2:8080"]).await;
}

#[tokio::test]
async fn a_service_that_may_not_be_seen_does_not_keep_the_others_away() {
    let cluster = shared().await;
    let (mine, foreign) = (cluster.namespace("mine").await, cluster.namespace("foreign").await);
    let account = reader_of_slices(&cluster, &mine, "get, list, watch").await;
    put(&cluster, &mine, "cache-1", "cache", &[1], 8080).await;
    put(&cluster, &foreign, "cache-1", "cache", &[2], 8080).await;
    let services = [format!("{mine}/cache"), format!("{foreign}/cache")];
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    let running = run(account.kubeconfig_path(), &services, PortSelector::Only).await;
    running.until_ready(&["192.0.2.1:8080"]).await;
    let named = format!("endpointslices.discovery.k8s.io is missing in namespace {foreign}:");
    let alone =
        |why: String| why.contains(&named) && why.matches("is missing").count() == 1 && !why.contains("waiting");
    running.until("only the other one is named", |running| running.readiness.check().is_err_and(alone)).await;
}

#[tokio::test]
async fn all_namespaces_need_a_cluster_role_and_the_message_says_so() {
    let cluster = shared().await;
    let ns = cluster.namespace("wide").await;
    let account = reader_of_slices(&cluster, &ns, "get, list, watch").await;
    let running = run(account.kubeconfig_path(), &["*/cache"], PortSelector::Only).await;
    let named = |running: &Running| running.readiness.check().is_err_and(|why| why.contains("a ClusterRole"));
    running.until("the ClusterRole is named", named).await;
}
