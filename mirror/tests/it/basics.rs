//! The local Services and slices of each kind of remote Service.

use k8s_openapi::api::core::v1::Service;
use mirror::marks;
use serde_json::{Value, json};

use crate::bed::{Bed, label, service, slice};

fn spec(service: &Service) -> Value {
    serde_json::to_value(service.spec.clone().unwrap_or_default()).expect("it can be written")
}

#[tokio::test]
async fn a_service_comes_changes_and_goes_with_its_endpoints() {
    let bed = Bed::new("basic").await;
    let mirror = bed.start(bed.config()).await.ready().await;
    bed.service("web", &[1, 2]).await;
    let made = bed.mirrored("web").await;
    bed.until_addresses("web", &["192.0.2.1", "192.0.2.2"]).await;
    let labels = made.metadata.labels.as_ref();
    assert_eq!(label(labels, marks::MIRRORED), Some("true"));
    assert_eq!(label(labels, marks::PREFIX), Some("west"));
    let notes = made.metadata.annotations.as_ref();
    assert_eq!(label(notes, marks::NAMESPACE), Some(&*bed.there));
    assert_eq!(label(notes, marks::SERVICE), Some("web"));
    assert!(label(notes, marks::CLUSTER).is_some_and(|uid| uid.len() == 36), "{notes:?}");
    assert_eq!(spec(&made)["selector"], Value::Null);

    bed.put(&slice("web", "web", &[2, 3])).await;
    bed.until_addresses("web", &["192.0.2.2", "192.0.2.3"]).await;
    bed.unservice("web").await;
    bed.until_gone("web").await;
    mirror.stop().await;
}

#[tokio::test]
async fn node_ports_and_load_balancers_are_mirrored_without_what_is_theirs() {
    let bed = Bed::new("ports").await;
    let ports = "ports: [{name: http, port: 80, targetPort: web, nodePort: 30123, appProtocol: kubernetes.io/h2c}, {name: dns, \
                 port: 53, protocol: UDP}]";
    bed.put(&service("np", &format!("type: NodePort, {ports}"))).await;
    let lb = "type: LoadBalancer, externalTrafficPolicy: Local, externalIPs: [203.0.113.7], ports: [{port: 443}]";
    bed.put(&service("lb", lb)).await;
    let _mirror = bed.start(bed.config()).await;
    let np = spec(&bed.mirrored("np").await);
    let expected = json!([
        {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web", "appProtocol": "kubernetes.io/h2c"},
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
    ]);
    assert_eq!((&np["type"], &np["ports"]), (&json!("ClusterIP"), &expected));
    let lb = spec(&bed.mirrored("lb").await);
    assert_eq!(lb["ports"], json!([{"port": 443, "protocol": "TCP", "targetPort": 443}]));
    for field in ["externalTrafficPolicy", "externalIPs", "healthCheckNodePort", "allocateLoadBalancerNodePorts"] {
        assert_eq!(lb[field], Value::Null, "{field}");
    }
}

#[tokio::test]
async fn rule_3_endpoints_lose_node_and_pod_and_keep_host_names_conditions_zones_and_families() {
    let bed = Bed::new("headless").await;
    let there = "clusterIP: None, ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4], publishNotReadyAddresses: true, \
                sessionAffinity: None, ports: [{name: sql, port: 5432}]";
    bed.put(&service("db", there)).await;
    bed.put(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-6, namespace: NAMESPACE, labels: {kubernetes.io/service-name: db}}
addressType: IPv6
endpoints:
- {addresses: ['2001:db8::1'], hostname: db-0, nodeName: node-7, zone: zone-b, hints: {forZones: [{name: zone-b}]},
   targetRef: {kind: Pod, name: db-0, namespace: NAMESPACE}}
ports: [{name: sql, port: 5432, appProtocol: postgres}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-4, namespace: NAMESPACE, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints:
- {addresses: [192.0.2.2], hostname: db-1, conditions: {ready: false, serving: true, terminating: true}}
ports: [{name: sql, port: 5432}]",
    )
    .await;
    let _mirror = bed.start(bed.config()).await;
    bed.until_addresses("db", &["192.0.2.2!", "2001:db8::1"]).await;
    let made = bed.mirrored("db").await;
    let spec = spec(&made);
    assert_eq!((&spec["clusterIP"], &spec["publishNotReadyAddresses"]), (&json!("None"), &json!(true)));
    assert_eq!(spec["ipFamilyPolicy"], json!("PreferDualStack"));
    let slices = bed.slices_of(&bed.name("db")).await;
    let of = |family: &str| {
        let slice = slices.iter().find(|slice| slice.address_type == family).expect("one of each family");
        serde_json::to_value(slice).expect("it can be written")
    };
    let (six, four) = (of("IPv6"), of("IPv4"));
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    assert_eq!(
        six["endpoints"],
        json!([{"addresses": ["2001:db8::1"], "conditions": ready, "hostname": "db-0", "zone": "zone-b"}]),
        "no node, no pod, no hints"
    );
    assert_eq!(six["ports"], json!([{"name": "sql", "port": 5432, "protocol": "TCP", "appProtocol": "postgres"}]));
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    assert_eq!(four["endpoints"][0]["conditions"], leaving);
    for slice in &slices {
        let labels = slice.metadata.labels.as_ref();
        assert_eq!(label(labels, marks::HEADLESS), Some(""));
        assert_eq!(label(labels, marks::MANAGED_BY), Some(marks::MANAGER));
        assert_eq!(label(labels, marks::SOURCE_CLUSTER), Some("west"));
        let owner = &slice.metadata.owner_references.as_ref().expect("an owner")[0];
        assert_eq!((owner.kind.as_str(), Some(&owner.uid)), ("Service", made.metadata.uid.as_ref()));
    }
}

#[tokio::test]
async fn affinity_and_policies_are_copied_where_they_mean_something_here() {
    let bed = Bed::new("policy").await;
    let spec_there = "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 77}}, \
                      internalTrafficPolicy: Local, trafficDistribution: PreferClose, ports: [{port: 80}]";
    let labelled = service("web", spec_there).replace(
        "labels: {mirror: 'true'}",
        "labels: {mirror: 'true', app.kubernetes.io/name: x, team: a, drop/me: z}, annotations: {keep/this: '1', other: '2'}",
    );
    bed.put(&labelled).await;
    let mut config = bed.config();
    config.remotes[0].labels.exclude = vec!["drop/*".into()];
    config.remotes[0].annotations.include = vec!["keep/*".into()];
    let mirror = bed.start(config.clone()).await;
    let made = bed.mirrored("web").await;
    let spec = spec(&made);
    assert_eq!(spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], json!(77));
    assert_eq!(
        (&spec["internalTrafficPolicy"], &spec["trafficDistribution"]),
        (&json!("Cluster"), &json!("PreferClose"))
    );
    let labels: Vec<&str> = made.metadata.labels.iter().flatten().map(|(key, _)| key.as_str()).collect();
    assert_eq!(labels, ["mirror", marks::PREFIX, marks::MIRRORED, "team"]);
    let notes = made.metadata.annotations.as_ref();
    assert_eq!((label(notes, "keep/this"), label(notes, "other")), (Some("1"), None));
    mirror.stop().await;

    // Annotations that are no longer copied are removed; those of others stay.
    bed.edit(&bed.name("web"), json!({"metadata": {"annotations": {"note/of": "others"}}})).await;
    config.remotes[0].annotations.include.clear();
    config.remotes[0].traffic_distribution = false;
    let _mirror = bed.start(config).await;
    let gone = |service: &Option<Service>| {
        service.as_ref().is_some_and(|it| label(it.metadata.annotations.as_ref(), "keep/this").is_none())
    };
    let made = testkit::eventually!("the annotation to go", bed.mirror("web").await, gone).expect("it is there");
    assert_eq!(label(made.metadata.annotations.as_ref(), "note/of"), Some("others"));
    assert_eq!(made.spec.expect("a spec").traffic_distribution, None);
}

#[tokio::test]
async fn more_than_a_thousand_endpoints_are_all_there() {
    let bed = Bed::new("many").await;
    bed.put(&service("big", "ports: [{name: http, port: 80}]")).await;
    for part in 0..11 {
        let endpoints: Vec<String> = (0..100).map(|n| format!("{{addresses: [10.1.{part}.{n}]}}")).collect();
        let all = format!("endpoints: [{}]", endpoints.join(", "));
        bed.put(&slice(&format!("big-{part}"), "big", &[]).replace("endpoints: []", &all)).await;
    }
    let _mirror = bed.start(bed.config()).await;
    let name = bed.name("big");
    let all = testkit::eventually!("1,100 endpoints", bed.addresses(&name).await, |all| all.len() == 1100);
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 1100);
    let slices = bed.slices_of(&name).await;
    assert!(slices.iter().all(|slice| slice.endpoints.len() <= 100));
    assert!(slices.len() < 33, "not too many either: {}", slices.len());
}

#[tokio::test]
async fn rule_5_a_name_that_is_too_long_is_cut_and_hashed() {
    let bed = Bed::new("long").await;
    let long = "a-very-long-name-of-a-service-that-leaves-no-room";
    bed.service(long, &[1]).await;
    let _mirror = bed.start(bed.config()).await;
    let name = mirror::names::local_name(&mirror::names::Scheme::V02, "west", &bed.there, long).expect("it has a name");
    assert!(name.is_hashed() && name.as_str().len() <= 63);
    let found = testkit::eventually!("the mirror", bed.addresses(name.as_str()).await, |all| !all.is_empty());
    assert_eq!(found, ["192.0.2.1"]);
    let made = bed.services().get(name.as_str()).await.expect("it is there");
    assert_eq!(label(made.metadata.annotations.as_ref(), marks::SERVICE), Some(long));
}

/// The hint of each endpoint is for consumers here; where one would have none, none has.
#[tokio::test]
async fn zones_and_hints_are_mapped_or_dropped() {
    let bed = Bed::new("zones").await;
    let zoned = |name: &str, second: &str| {
        let endpoints = format!(
            "endpoints: [{{addresses: [192.0.2.1], zone: a, hints: {{forZones: [{{name: a}}]}}}}, {{addresses: [192.0.2.2]{second}}}]"
        );
        format!(
            "{}\n---\n{}",
            service(name, "ports: [{name: http, port: 80}]"),
            slice(name, name, &[]).replace("endpoints: []", &endpoints)
        )
    };
    bed.put(&zoned("all", ", zone: b")).await;
    bed.put(&zoned("some", "")).await;
    let mut config = bed.config();
    config.remotes[0].zones = mirror::config::Zones::Map([("a".into(), "here-1".into())].into());
    config.remotes[0].hints =
        [("a".into(), vec!["here-1".into(), "here-2".into()]), ("b".into(), vec!["here-2".into()])].into();
    let _mirror = bed.start(config).await;
    for (name, hinted) in [("all", true), ("some", false)] {
        bed.until_addresses(name, &["192.0.2.1", "192.0.2.2"]).await;
        let slice = bed.slices_of(&bed.name(name)).await.remove(0);
        let slice = serde_json::to_value(slice).expect("it can be written");
        assert_eq!((&slice["endpoints"][0]["zone"], &slice["endpoints"][1]["zone"]), (&json!("here-1"), &Value::Null));
        let hints = if hinted { json!([{"name": "here-1"}, {"name": "here-2"}]) } else { Value::Null };
        assert_eq!(slice["endpoints"][0]["hints"]["forZones"], hints, "{name}");
    }
}
