//! `-leader-elect`: of two replicas one writes, and the other one takes over.

use kubekit::fault_proxy::{Call, FaultProxy};
use rustix::process::Signal;
use serde_json::json;
use testkit::client;

use super::bed::{Bed, endpoint, text};

/// Waits for a write of the mirror.
fn writes(call: &Call) -> bool {
    call.writes() && ["services", "endpointslices"].contains(&&*call.resource)
}

#[tokio::test]
async fn one_replica_writes_and_the_other_one_takes_over() {
    let bed = Bed::start().await;
    bed.service("web", json!({})).await;
    bed.slice("web", "IPv4", &[endpoint("192.0.2.1")]).await;
    let lease = format!("-leader-elect-resource-namespace={}", bed.here);
    let ha = ["-leader-elect", &lease, "-leader-elect-lease-duration=9s", "-leader-elect-renew-deadline=6s"];
    let ha = [&ha[..], &["-leader-elect-retry-period=500ms"]].concat();
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let proxy = FaultProxy::start(&bed.local).await;
        let kubeconfig = proxy.kubeconfig(&bed.local.kubeconfig_path());
        let access = vec![
            format!("-kube-config={}", text(kubeconfig.path())),
            format!("-target-kube-config={}", text(&bed.remote.kubeconfig_path())),
        ];
        let fanfare = bed.mirror(&[bed.what(), access], &ha);
        let address = fanfare.listening("for mirror").await;
        testkit::eventually!("it to be ready", client::get(address, "/readyz").await.status, |status| *status == 200);
        // The second one starts when the first one leads.
        bed.until_mirrored("web", &["192.0.2.1"]).await;
        replicas.push((fanfare, proxy, kubeconfig));
    }
    let (second, second_proxy, _kubeconfig) = replicas.pop().expect("there are two");
    let (first, first_proxy, _kubeconfig) = replicas.pop().expect("there are two");
    assert!(first_proxy.count(writes) > 0, "the first one leads");
    assert_eq!(second_proxy.count(writes), 0, "and the second one does not");

    first.signal(Signal::TERM);
    assert_eq!(first.finish().await.code, Some(0));
    let written = first_proxy.count(writes);
    bed.slice("web", "IPv4", &[endpoint("192.0.2.2")]).await;
    bed.until_mirrored("web", &["192.0.2.2"]).await;
    assert_eq!(first_proxy.count(writes), written, "it has ended");
    assert!(second_proxy.count(writes) > 0, "the second one leads");
    drop(second);
}
