//! Rule 1: what is written, and what comes of a write when something else is there than was looked at.

use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, PostParams};
use kubekit::fault_proxy::{Fault, FaultProxy, Verb};
use serde_json::{Value, json};
use testkit::eventually;

use crate::bed::{Bed, local, start};

impl Bed {
    /// A proxy in front of the local API server, and a client through it with the mirror's rights.
    async fn writing(&self) -> (FaultProxy, kube::Client) {
        let proxy = FaultProxy::start(local().await).await;
        let kubeconfig = proxy.kubeconfig(self.writer.kubeconfig_path());
        let connection = controlplane::client::connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig");
        (proxy, connection.client)
    }

    /// Somebody makes a Service of their own under the name of a mirror.
    async fn take(&self, service: &str) -> Service {
        let own = json!({"metadata": {"name": self.name(service), "labels": {"mine": "yes"}}, "spec": {"ports": [{"port": 7}]}});
        let own = serde_json::from_value(own).expect("a valid Service");
        self.services().create(&PostParams::default(), &own).await.expect("the name is free")
    }
}

/// Watches that tell nothing: what happens meanwhile shows only in the answers to writes.
#[tokio::test]
async fn rule_1_an_object_that_appeared_meanwhile_is_neither_overwritten_nor_deleted() {
    let bed = Bed::new("unseen").await;
    for name in ["changed", "deleted"] {
        bed.service(name, &[1]).await;
    }
    let (proxy, writer) = bed.writing().await;
    proxy.always(|call| call.verb == Verb::Watch, Fault::StallBody(std::time::Duration::ZERO));
    let mirror = start(bed.config(), writer, bed.readers(1).await).ready().await;
    for name in ["changed", "deleted"] {
        bed.until_addresses(name, &["192.0.2.1"]).await;
        bed.services().delete(&bed.name(name), &DeleteParams::default()).await.expect("it is there");
        bed.until_gone(name).await;
    }
    let mut taken = Vec::new();
    for name in ["created", "changed", "deleted"] {
        taken.push(bed.take(name).await);
    }
    bed.service("created", &[2]).await;
    bed.put(&crate::bed::service("changed", "ports: [{name: http, port: 81}]")).await;
    bed.unservice("deleted").await;
    for name in ["created", "changed"] {
        bed.event("ForeignService", &bed.name(name)).await;
    }
    let gone = bed.name("deleted");
    let tried = proxy.wait(1, move |call| call.is(Verb::Delete, "services") && call.name == gone).await;
    assert_eq!(tried[0].status, Some(409), "the preconditions do not hold");
    bed.service("control", &[3]).await;
    bed.until_addresses("control", &["192.0.2.3"]).await;
    mirror.stop().await;
    for before in taken {
        let name = before.metadata.name.as_deref().expect("a name");
        let after = bed.services().get(name).await.expect("it is still there");
        assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
        assert_eq!(bed.addresses(name).await, [""; 0], "nothing is put behind it either");
    }
}

#[tokio::test]
async fn rule_1_every_write_names_what_was_looked_at() {
    let bed = Bed::new("named").await;
    let (proxy, writer) = bed.writing().await;
    let mirror = start(bed.config(), writer, bed.readers(1).await).ready().await;
    bed.service("web", &[1]).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    bed.service("web", &[2]).await;
    bed.until_addresses("web", &["192.0.2.2"]).await;
    bed.edit(&bed.name("web"), json!({"spec": {"ports": [{"name": "x", "port": 9}]}})).await;
    let port = |service: &Option<Service>| {
        let ports = service.as_ref().and_then(|it| it.spec.as_ref()?.ports.as_ref());
        ports.is_some_and(|ports| ports[0].port == 80)
    };
    eventually!("it to heal", bed.mirror("web").await, port);
    bed.put(&crate::bed::slice("web", "web", &[])).await;
    bed.until_addresses("web", &[]).await;
    bed.unservice("web").await;
    bed.until_gone("web").await;
    mirror.stop().await;
    let mut seen = std::collections::BTreeSet::new();
    for call in proxy.calls().into_iter().filter(|call| call.writes()) {
        let (body, metadata) = (call.json(), call.json()["metadata"].clone());
        let named = match call.verb {
            Verb::Create => metadata["resourceVersion"] == Value::Null,
            Verb::Update => metadata["resourceVersion"].is_string() && metadata["uid"].is_string(),
            Verb::Delete => {
                body["preconditions"]["resourceVersion"].is_string() && body["preconditions"]["uid"].is_string()
            }
            _ => false,
        };
        assert!(named, "{:?} {} {body}", call.verb, call.path);
        seen.insert(format!("{:?} {}", call.verb, call.resource));
    }
    let expected = [
        "Create endpointslices",
        "Create services",
        "Delete endpointslices",
        "Delete services",
        "Update endpointslices",
        "Update services",
    ];
    assert!(expected.iter().all(|call| seen.contains(*call)), "{seen:?}");
}

/// The API server, or an admission webhook of it, never takes one of them.
#[tokio::test]
async fn an_object_that_is_refused_is_told_and_holds_up_no_other() {
    let bed = Bed::new("refused").await;
    let (proxy, writer) = bed.writing().await;
    let bad = bed.name("bad");
    proxy.always(
        move |call| call.is(Verb::Create, "services") && call.json()["metadata"]["name"] == *bad,
        Fault::Answer(422),
    );
    bed.service("bad", &[1]).await;
    let mirror = start(bed.config(), writer, bed.readers(1).await).ready().await;
    bed.event("Rejected", "the local API server refuses it").await;
    for (name, host) in [("good", 2), ("better", 3)] {
        bed.service(name, &[host]).await;
        bed.until_addresses(name, &[&format!("192.0.2.{host}")]).await;
    }
    eventually!("it to be counted", mirror.health.report()["failing"].clone(), |failing| *failing == 1);
    assert!(bed.mirror("bad").await.is_none());
    proxy.clear();
    bed.until_addresses_within(std::time::Duration::from_secs(30), "bad", &["192.0.2.1"]).await;
    mirror.stop().await;
}
