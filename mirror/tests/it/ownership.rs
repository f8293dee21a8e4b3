//! Edits of mirrors are reverted; objects of others are never touched.

use std::time::Duration;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kubekit::fault_proxy::{Fault, FaultProxy, Verb as Asked};
use mirror::{Verb, config::Config, marks};
use serde_json::{Value, json};
use testkit::eventually;

use crate::bed::{Bed, label, local, service, slice, start};

/// Rule 1: what is foreign is refused when it is in the way.
#[tokio::test]
async fn rule_1_a_service_of_somebody_else_is_never_touched() {
    let bed = Bed::new("foreign").await;
    let name = bed.name("web");
    bed.put_here(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: NAMESPACE, labels: {{mine: 'yes'}}}}\nspec: \
         {{selector: {{app: x}}, ports: [{{port: 1}}]}}"
    ))
    .await;
    let before = bed.services().get(&name).await.expect("it was made");
    let mirror = bed.start(bed.config()).await.ready().await;
    bed.service("web", &[1]).await;
    bed.service("other", &[2]).await;
    let event = bed.event("ForeignService", &name).await;
    assert_eq!(event.involved_object.uid, before.metadata.uid);
    bed.until_addresses("other", &["192.0.2.2"]).await;
    // Changes and the deletion of the remote Service, and a restart, do not affect it.
    bed.service("web", &[3]).await;
    bed.unservice("web").await;
    bed.service("last", &[4]).await;
    bed.until_addresses("last", &["192.0.2.4"]).await;
    mirror.stop().await;
    let _mirror = bed.start(bed.config()).await.ready().await;
    bed.service("later", &[5]).await;
    bed.until_addresses("later", &["192.0.2.5"]).await;
    let after = bed.services().get(&name).await.expect("it is still there");
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert!(bed.slices_of(&name).await.iter().all(|slice| {
        slice
            .metadata
            .labels
            .as_ref()
            .is_some_and(|labels| labels.get(marks::MANAGED_BY).is_some_and(|by| by != marks::MANAGER))
    }));
}

#[tokio::test]
async fn a_slice_of_somebody_else_is_not_touched_and_nothing_goes_meanwhile() {
    let bed = Bed::new("slice").await;
    let mirror = bed.start(bed.config()).await.ready().await;
    bed.service("web", &[1]).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    mirror.stop().await;
    let name = bed.slices_of(&bed.name("web")).await[0].metadata.name.clone().expect("a name");
    bed.services().delete(&bed.name("web"), &DeleteParams::default()).await.expect("it is there");
    bed.until_gone("web").await;
    bed.put_here(&format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, namespace: NAMESPACE}}\naddressType: \
         IPv4\nendpoints: []\nports: []"
    ))
    .await;
    let before = bed.slices().get(&name).await.expect("it was made");
    let _mirror = bed.start(bed.config()).await.ready().await;
    bed.event("ForeignEndpointSlice", &name).await;
    let after = bed.slices().get(&name).await.expect("it is there");
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    // After it is removed, the mirror is complete within the longest delay.
    bed.slices().delete(&name, &DeleteParams::default()).await.expect("it is there");
    bed.until_addresses_within(Duration::from_secs(30), "web", &["192.0.2.1"]).await;
}

#[tokio::test]
async fn whatever_is_edited_by_hand_heals() {
    let bed = Bed::new("heal").await;
    bed.service("web", &[1, 2]).await;
    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1", "192.0.2.2"]).await;
    let name = bed.name("web");
    let wanted = normal(&bed.mirrored("web").await);
    let edits = [
        json!({"metadata": {"labels": {marks::MIRRORED: null}}}),
        json!({"metadata": {"labels": {marks::PREFIX: null, "extra": "label"}}}),
        json!({"metadata": {"annotations": {marks::UID: "other", marks::CLUSTER: null}}}),
        json!({"metadata": {"labels": {marks::MIRRORED: null, marks::PREFIX: null}, "annotations": {
            marks::UID: null, marks::CLUSTER: null, marks::REMOTE: null, marks::NAMESPACE: null, marks::SERVICE: null}}}),
        json!({"spec": {"ports": [{"name": "other", "port": 81}]}}),
        json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 1234, "appProtocol": "x"}]}}),
        json!({"spec": {"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local"}}),
        json!({"spec": {"type": "NodePort", "externalIPs": ["203.0.113.9"], "publishNotReadyAddresses": true}}),
        json!({"spec": {"selector": {"app": "nobody"}}}),
    ];
    for edit in edits {
        let version = bed.edit(&name, edit.clone()).await.metadata.resource_version;
        let healed = |service: &Option<Service>| {
            service.as_ref().is_some_and(|it| it.metadata.resource_version != version && normal(it) == wanted)
        };
        eventually!(&format!("{edit} to heal"), bed.mirror("web").await, healed);
    }
    // Edits of slices are reverted as well, and deleted slices come back.
    for patch in [
        json!({"endpoints": []}),
        json!({"ports": [{"name": "http", "port": 1}]}),
        json!({"metadata": {"labels": {marks::SERVICE_NAME: null}}}),
        json!({"metadata": {"ownerReferences": null, "labels": {marks::SOURCE_UID: "x"}, "annotations": {"a": "b"}}}),
        json!({"endpoints": [{"addresses": ["192.0.2.1"], "nodeName": "node-1", "conditions": {"ready": false}}]}),
    ] {
        let slices = bed.slices_of(&name).await;
        let ours = slices.iter().find(|slice| managed(slice)).expect("there is one");
        let slice = ours.metadata.name.clone().expect("a name");
        let wanted = content(ours);
        bed.slices().patch(&slice, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("it is there");
        let slices = bed.slices();
        let healed = |slice: &Option<EndpointSlice>| slice.as_ref().is_some_and(|slice| content(slice) == wanted);
        eventually!(&format!("{patch} to heal"), slices.get_opt(&slice).await.expect("it can be read"), healed);
    }
    let all = bed.slices().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    all.expect("an administrator may");
    bed.until_addresses("web", &["192.0.2.1", "192.0.2.2"]).await;
    let uid = bed.mirrored("web").await.metadata.uid;
    bed.services().delete(&name, &DeleteParams::default()).await.expect("it is there");
    let new = |service: &Option<Service>| service.as_ref().is_some_and(|service| service.metadata.uid != uid);
    eventually!("the mirror to come back", bed.mirror("web").await, new);
    bed.until_addresses("web", &["192.0.2.1", "192.0.2.2"]).await;
}

/// A selector makes controllers write slices and Endpoints for the mirror, which stay after the selector is removed.
#[tokio::test]
async fn slices_of_a_selector_are_removed_with_it() {
    let bed = Bed::new("selector").await;
    bed.service("web", &[1]).await;
    let mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    mirror.stop().await;
    let name = bed.name("web");
    local().await.pod(&bed.here, "own", "own", &["192.0.2.99".parse().expect("an address")], true).await;
    bed.edit(&name, json!({"spec": {"selector": {"app": "own"}}})).await;
    eventually!("the controller's slice", bed.addresses(&name).await, |all| all.contains(&"192.0.2.99".to_owned()));
    eventually!("the controller's Endpoints", bed.endpoints().get_opt(&name).await.expect("readable"), Option::is_some);
    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    eventually!("its Endpoints to go", bed.endpoints().get_opt(&name).await.expect("readable"), Option::is_none);
    assert_eq!(bed.mirrored("web").await.spec.expect("a spec").selector, None);
}

/// Rule 2: both labels make it ours; the old tool's v1 Endpoints go with it.
#[tokio::test]
async fn rule_2_a_mirror_of_the_old_tool_is_adopted_and_loses_its_endpoints() {
    let bed = Bed::new("adopt").await;
    let name = bed.name("web");
    let labels = "labels: {mirrored-svc: 'true', mirror-svc-prefix-sync: west}";
    bed.put_here(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: NAMESPACE, {labels}}}\nspec: {{ports: [{{name: \
         http, port: 80, targetPort: 80}}]}}\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: {name}, namespace: \
         NAMESPACE, {labels}}}\nsubsets: [{{addresses: [{{ip: 192.0.2.50}}], ports: [{{name: http, port: 8080}}]}}]"
    ))
    .await;
    eventually!("the slice of the Endpoints", bed.addresses(&name).await, |all| all == &["192.0.2.50"]);
    let before = bed.services().get(&name).await.expect("it is there");
    bed.service("web", &[1]).await;

    let report = bed.plan(bed.config()).await;
    assert_eq!(report.entries.len(), 1, "{report}");
    assert_eq!(report.entries[0].verb, Verb::Adopt, "{report}");
    assert_eq!(
        bed.services().get(&name).await.expect("it is there").metadata.resource_version,
        before.metadata.resource_version
    );

    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let after = bed.mirrored("web").await;
    assert_eq!(after.metadata.uid, before.metadata.uid, "it keeps its address");
    assert!(label(after.metadata.annotations.as_ref(), marks::CLUSTER).is_some());
    assert!(bed.endpoints().get_opt(&name).await.expect("readable").is_none());
}

/// Rule 2, where adopting is cut short: the old Endpoints go all the same, though no slice of theirs shows that they are there.
#[tokio::test]
async fn rule_2_adopting_that_was_cut_short_is_finished_by_the_next_process() {
    let bed = Bed::new("halfway").await;
    for (name, spec) in
        [("web", "ports: [{name: http, port: 80}]"), ("db", "clusterIP: None, ports: [{name: http, port: 80}]")]
    {
        let local = bed.name(name);
        let labels = "mirrored-svc: 'true', mirror-svc-prefix-sync: west";
        bed.put_here(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {local}, namespace: NAMESPACE, labels: {{{labels}}}}}\nspec: \
             {{ports: [{{name: http, port: 80}}]}}\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: {local}, namespace: \
             NAMESPACE, labels: {{{labels}, endpointslice.kubernetes.io/skip-mirror: 'true'}}}}\nsubsets: [{{addresses: [{{ip: \
             192.0.2.50}}], ports: [{{name: http, port: 8080}}]}}]"
        ))
        .await;
        bed.put(&format!("{}\n---\n{}", service(name, spec), slice(name, name, &[1]))).await;
    }
    let proxy = FaultProxy::start(local().await).await;
    let kubeconfig = proxy.kubeconfig(bed.writer.kubeconfig_path());
    let writer = controlplane::client::connect(Some(kubeconfig.path())).await.expect("a valid kubeconfig").client;
    proxy.always(|call| call.is(Asked::Create, "endpointslices"), Fault::Answer(500));
    let crashes = start(bed.config(), writer.clone(), bed.readers(1).await);
    proxy.wait(4, |call| call.is(Asked::Create, "endpointslices")).await;
    drop(crashes);
    proxy.clear();

    let _mirror = start(bed.config(), writer, bed.readers(1).await);
    for name in ["web", "db"] {
        bed.until_addresses(name, &["192.0.2.1"]).await;
        let local = bed.name(name);
        let endpoints = bed.endpoints();
        let what = format!("the old Endpoints of {name} to go");
        eventually!(&what, endpoints.get_opt(&local).await.expect("readable"), Option::is_none);
        let adopted = |service: &Option<Service>| {
            service.as_ref().is_some_and(|it| label(it.metadata.annotations.as_ref(), marks::CLUSTER).is_some())
        };
        eventually!("it to be ours", bed.mirror(name).await, adopted);
    }
    let deleted = proxy.count(|call| call.is(Asked::Delete, "endpoints"));
    assert_eq!(deleted, 2, "nobody else need tidy up");
    assert_eq!(bed.mirrored("db").await.spec.expect("a spec").cluster_ip.as_deref(), Some("None"));
}

#[tokio::test]
async fn rule_2_a_mirror_of_another_cluster_is_not_ours_unless_it_is_a_former_one() {
    let bed = Bed::new("other").await;
    let name = bed.name("web");
    bed.put_here(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: NAMESPACE, labels: {{mirrored-svc: 'true', \
         mirror-svc-prefix-sync: west}}, annotations: {{{}: 00000000-0000-0000-0000-000000000000}}}}\nspec: {{ports: [{{port: \
         1}}]}}",
        marks::CLUSTER
    ))
    .await;
    let before = bed.services().get(&name).await.expect("it is there");
    bed.service("web", &[1]).await;
    bed.service("control", &[2]).await;
    let mirror = bed.start(bed.config()).await.ready().await;
    bed.event("OtherClustersMirror", "00000000-0000-0000-0000-000000000000").await;
    bed.unservice("web").await;
    bed.unservice("control").await;
    bed.until_gone("control").await;
    mirror.stop().await;
    let after = bed.services().get(&name).await.expect("it is there");
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);

    let mut config = bed.config();
    config.remotes[0].former = vec!["00000000-0000-0000-0000-000000000000".into()];
    bed.service("web", &[1]).await;
    let _mirror = bed.start(config).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
}

#[tokio::test]
async fn rule_2_a_mirror_that_another_cluster_has_taken_over_is_not_deleted_by_whoever_made_it() {
    let bed = Bed::new("taken-over").await;
    let _mirror = bed.start(bed.config()).await.ready().await;
    bed.service("web", &[1]).await;
    bed.until_addresses("web", &["192.0.2.1"]).await;
    let name = bed.name("web");
    let before = bed.services().get(&name).await.expect("it was made");
    let mark = json!({"metadata": {"annotations": {marks::CLUSTER: "00000000-0000-0000-0000-000000000000"}}});
    bed.services().patch(&name, &PatchParams::default(), &Patch::Merge(mark)).await.expect("it can be marked");
    bed.event("OtherClustersMirror", "00000000-0000-0000-0000-000000000000").await;
    bed.unservice("web").await;
    // A later Service is mirrored, so this one has been processed.
    bed.service("control", &[2]).await;
    bed.until_addresses("control", &["192.0.2.2"]).await;
    bed.unservice("control").await;
    bed.until_gone("control").await;
    let after = bed.services().get(&name).await.expect("it is still there");
    assert_eq!((&after.metadata.uid, &after.metadata.deletion_timestamp), (&before.metadata.uid, &None));
}

#[tokio::test]
async fn two_services_with_one_name_are_told_and_the_first_keeps_it() {
    let bed = Bed::new("collision").await;
    let scheme = || "{prefix}-same-{service}".parse().expect("a template");
    let mut config = Config { remotes: vec![bed.remote("west"), bed.remote("west-2")], ..bed.config() };
    config.remotes[0].scheme = scheme();
    // Another prefix that makes the same names: only the service tells them apart.
    config.remotes[1].scheme = "west-same-{service}".parse().expect("a template");
    config.remotes[1].selector = "mirror-2=true".into();
    bed.service("web", &[1]).await;
    let _mirror = bed.start(config).await;
    eventually!("the first", bed.addresses("west-same-web").await, |all| all == &["192.0.2.1"]);
    let both =
        service("web", "ports: [{name: http, port: 80}]").replace("mirror: 'true'", "mirror: 'true', mirror-2: 'true'");
    bed.put(&both).await;
    bed.event("NameCollision", "of west-2 is not mirrored, because").await;
    let made = bed.services().get("west-same-web").await.expect("it is there");
    assert_eq!(label(made.metadata.labels.as_ref(), marks::PREFIX), Some("west"));
}

fn managed(slice: &EndpointSlice) -> bool {
    label(slice.metadata.labels.as_ref(), marks::MANAGED_BY) == Some(marks::MANAGER)
}

/// What is to heal of a Service.
fn normal(service: &Service) -> Value {
    let metadata = &service.metadata;
    let mut spec = serde_json::to_value(&service.spec).expect("it can be written");
    // Chosen by the API server, at random once it was a NodePort.
    spec.as_object_mut().expect("a spec").retain(|key, _value| !key.starts_with("clusterIP"));
    json!({"labels": metadata.labels, "annotations": metadata.annotations, "spec": spec})
}

fn content(slice: &EndpointSlice) -> Value {
    let metadata = &slice.metadata;
    json!({"labels": metadata.labels, "annotations": metadata.annotations, "owners": metadata.owner_references,
        "endpoints": slice.endpoints, "ports": slice.ports})
}
