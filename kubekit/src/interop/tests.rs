//! The candidates on a real API server: what the tests of elections rely on.

use super::*;
use testkit::{eventually, eventually::patience};

use crate::cluster;

const TTL: Duration = Duration::from_secs(2);

/// One leads, the other follows, and SIGTERM hands over at once.
async fn hand_over(of: ClientGo, lock_type: &str) {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("interop").await;
    let election = Election { lock_type, namespace: &namespace, name: "e", ttl: TTL };
    let kubeconfig = cluster.kubeconfig_path();
    let mut first = Candidate::start(of, &kubeconfig, "first", &election).await;
    let leads = |events: &Vec<Event>| events.iter().any(|event| event.what == What::Started);
    let events = eventually!("the first to lead", first.events(), leads);
    assert_eq!(events[0].what, What::Candidate);
    let second = Candidate::start(of, &kubeconfig, "second", &election).await;
    let sees = |events: &Vec<Event>| events.iter().any(|event| event.what == What::Leader("first".into()));
    eventually!("the second to see it", second.events(), sees);
    first.signal(Signal::TERM);
    assert!(first.wait(patience()).await, "it does not end: {}", first.log());
    let stopped = first.events().into_iter().find(|event| event.what == What::Stopped).expect("it says so");
    let events = eventually!("the second to lead", second.events(), leads);
    let started = events.iter().find(|event| event.what == What::Started).expect("it leads");
    assert!(started.at > stopped.at, "{started:?} after {stopped:?}");
}

#[tokio::test]
async fn a_current_client_go_elects_by_lease() {
    hand_over(ClientGo::V0_35, "leases").await;
}

#[tokio::test]
async fn an_old_client_go_elects_by_config_map() {
    hand_over(ClientGo::V0_23, "configmaps").await;
}
