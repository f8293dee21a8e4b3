//! Watches are shared by key, and end with their last user.

use kube::{Client, Config};
use runtime::readiness::Readiness;
use snapshot::{Reader, channel};
use testkit::{
    eventually::within,
    origin::{At, Origin, Reply, Script},
};

use super::*;
use crate::build::PortSelector;

const SLICES: &str = r#"{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "metadata": {"resourceVersion": "1"},
    "items": [{"metadata": {"namespace": "shop", "name": "s", "labels": {"kubernetes.io/service-name": "cache"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}],
        "ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 90}]}]}"#;

/// An API server with one slice on which nothing ever changes.
fn api_server() -> Origin {
    Origin::start(Script::on_head(|request| {
        if request.target.contains("watch=true") {
            Reply::new(200).chunked(["\n"]).hang_at(At::Body(0))
        } else {
            Reply::ok(SLICES)
        }
    }))
}

fn kube(api_server: &Origin) -> KubeCluster {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::new(format!("http://{}", api_server.address()).parse().expect("a valid address"));
    KubeCluster::new(Client::try_from(config).expect("a client without TLS"))
}

fn source(kube: &KubeCluster, readiness: &Readiness, services: &[&str], port: PortSelector) -> (KubeSource, Reader) {
    let (publisher, reader) = channel();
    let services = services.iter().map(|text| Pattern::parse(text, None).expect("a valid pattern")).collect();
    let selection = EndpointSelection { services, port };
    let cluster = ClusterName::new("c").expect("a valid name");
    (KubeSource { cluster, selection, kube: kube.clone(), publisher, gate: readiness.register("kubernetes") }, reader)
}

#[tokio::test]
async fn equal_watches_are_one_and_end_with_the_last_user() {
    let api_server = api_server();
    let kube = kube(&api_server);
    let readiness = Readiness::new();
    let named = |name: &str| PortSelector::Named(name.into());
    let (one, mut first) = source(&kube, &readiness, &["shop/cache", "shop/cache"], named("http"));
    let (other, mut second) = source(&kube, &readiness, &["shop/cache"], named("admin"));
    let (one, other) = (tokio::spawn(one.run()), tokio::spawn(other.run()));
    within("both clusters", async {
        assert_eq!(address(&first.newer_than(0).await.expect("it runs")), "192.0.2.1:80");
        assert_eq!(address(&second.newer_than(0).await.expect("it runs")), "192.0.2.1:90");
        readiness.ready().await;
    })
    .await;
    assert_eq!(api_server.requests().len(), 2, "one list and one watch: {:?}", api_server.requests());

    one.abort();
    let _ = one.await;
    assert_eq!(api_server.journal().connections.iter().filter(|c| c.open).count(), 1, "the other one still watches");
    other.abort();
    within("the watch is closed", api_server.wait_closed()).await;
}

fn address(snapshot: &snapshot::Snapshot) -> String {
    snapshot.cluster("c").expect("it is published").endpoints()[0].address.to_string()
}
