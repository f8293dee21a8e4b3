//! The shipped Role is enough; a missing right is named, affects nothing else, and is used once it is granted.

use kubekit::{cluster, relay::Relay};

use super::bed::{
    Addresses, Bed, NS, broadcast, endpoint, hosts, metric, readiness, ready, shipped, slice, slice_in, v4,
};
use crate::process::Fanfare;

const HTTP: &str = "{name: http, port: 8080}";

/// The shipped Role and its binding with less in it.
fn only_list() -> String {
    let role = shipped("rbac.yaml", NS);
    let less = role.replace("[\"list\",\"watch\"]", "[\"list\"]");
    assert_ne!(role, less, "the Role has these verbs");
    less
}

/// Takes the shipped Role away, and waits until the API server acts accordingly.
async fn revoke(bed: &Bed) {
    bed.delete(&shipped("rbac.yaml", NS)).await;
    bed.account.until_refused(&format!("/apis/discovery.k8s.io/v1/namespaces/{NS}/endpointslices")).await;
}

async fn until_named(fanfare: &Fanfare, words: &[&str]) -> String {
    let all = |(status, why): &(u16, String)| *status == 503 && words.iter().all(|word| why.contains(word));
    testkit::eventually!(format!("{words:?}"), readiness(fanfare).await, all).1
}

#[test]
fn a_missing_verb_is_named_and_the_process_goes_on_when_it_is_granted() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080)]);
        bed.apply(&slice("cache-1", "cache", &ready(&[1]), HTTP)).await;
        revoke(&bed).await;
        let fanfare = bed.fanfare(&["-s", "default/cache"]).await;
        let missing = "the verb \"list\" on endpointslices.discovery.k8s.io is missing in namespace default";
        until_named(&fanfare, &[missing, "a Role in namespace default with the verbs list, watch"]).await;
        fanfare.stderr.wait("the log to name it", |log| log.contains(missing)).await;
        assert!(metric(&fanfare, "fanfare_watch_errors_total", &["reason=\"forbidden\""]).await >= 1.0);
        assert_eq!(bed.reached(&fanfare).await, Addresses::new());

        bed.apply(&only_list()).await;
        let missing = "the verb \"watch\" on endpointslices.discovery.k8s.io is missing in namespace default";
        until_named(&fanfare, &[missing]).await;
        fanfare.stderr.wait("the log to name it", |log| log.contains(missing)).await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1]), "what was listed is used");

        bed.apply(&shipped("rbac.yaml", NS)).await;
        fanfare.wait_ready().await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1]));
    });
}

#[test]
fn a_right_that_is_taken_away_takes_no_endpoint_with_it() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080), v4(2, 8080)]);
        bed.apply(&slice("cache-1", "cache", &ready(&[1]), HTTP)).await;
        let mut relay = Relay::start(bed.cluster.api_port()).await;
        let kubeconfig = relay.kubeconfig(bed.account.kubeconfig_path());
        let fanfare = broadcast(kubeconfig.path(), &["-s", "default/cache"]).await;
        fanfare.wait_ready().await;

        revoke(&bed).await;
        relay.cut().await;
        relay.restore().await;
        let refused = async || metric(&fanfare, "fanfare_watch_errors_total", &["reason=\"forbidden\""]).await;
        testkit::eventually!("the watch to be refused twice", refused().await, |times| *times >= 2.0);
        fanfare.stderr.wait("the log to name it", |log| log.contains("the verb \"watch\"")).await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1]));
        assert_eq!(readiness(&fanfare).await, (200, "OK".into()));

        bed.apply(&slice("cache-1", "cache", &ready(&[2]), HTTP)).await;
        bed.apply(&shipped("rbac.yaml", NS)).await;
        bed.until_reached(&fanfare, &hosts(&[2])).await;
    });
}

#[test]
fn a_service_that_may_not_be_seen_keeps_no_other_away() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080), v4(2, 8080)]);
        let foreign = bed.cluster.namespace("foreign").await;
        bed.apply(&slice("cache-1", "cache", &ready(&[1]), HTTP)).await;
        let other = [endpoint(testkit::netns::ipv4(2), "ready: true")];
        bed.apply(&slice_in(&foreign, "cache-1", "cache", "IPv4", &other, HTTP)).await;
        let fanfare = bed.fanfare(&["-s", "default/cache", "-s", &format!("{foreign}/cache")]).await;
        let why = until_named(&fanfare, &[&format!("is missing in namespace {foreign}")]).await;
        assert!(!why.contains("is missing in namespace default"), "{why}");
        bed.until_reached(&fanfare, &hosts(&[1])).await;
        // The same Role there, bound to the same account.
        let role = shipped("rbac.yaml", &foreign);
        let subject = |namespace: &str| format!("\"name\":\"fanfare\",\"namespace\":\"{namespace}\"}}]");
        let role = role.replace(&subject(&foreign), &subject(NS));
        bed.apply(&role).await;
        fanfare.wait_ready().await;
        bed.until_reached(&fanfare, &hosts(&[1, 2])).await;
    });
}
