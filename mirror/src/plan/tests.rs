//! Tests of the steps for a mirror: objects of others are never touched.

use serde_json::{Value, json};

use super::*;
use crate::config::Remote;

fn wanted() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "w", "namespace": "m",
            "labels": {marks::MIRRORED: "true", marks::PREFIX: "west"},
            "annotations": {marks::CLUSTER: "uid", marks::UID: "1"}},
        "spec": {"type": "ClusterIP", "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ipFamilyPolicy": "SingleStack",
            "ipFamilies": ["IPv4"]},
    }))
    .expect("valid")
}

fn desired() -> Desired {
    Desired { service: wanted(), slices: Vec::new(), untouched: Vec::new(), dimmed: Vec::new(), conflicts: Vec::new() }
}

/// The Service as the API server returns it, with this patch applied.
fn there(patch: Value) -> LiveService {
    let mut live = serde_json::to_value(wanted()).expect("it can be written");
    lay_over(
        &mut live,
        &json!({"metadata": {"uid": "here", "resourceVersion": "5"},
        "spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"]}}),
    );
    lay_over(&mut live, &patch);
    LiveService::of(serde_json::from_value(live).expect("valid"), None)
}

fn lay_over(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(value), Value::Object(patch)) => {
            for (key, patch) in patch {
                lay_over(value.entry(key.clone()).or_insert(Value::Null), patch);
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}

fn key() -> ServiceKey {
    ServiceKey { namespace: "m".into(), name: "w".into() }
}

fn step(live: Option<&LiveService>) -> ServiceStep {
    let config = Remote::new("west", "west", "a=b", "m");
    service(&desired(), &key(), live, Owner { prefix: "west", remote: Some((&config, Some("uid"))) }, None)
}

#[test]
fn objects_in_their_desired_state_are_kept() {
    assert!(matches!(step(Some(&there(json!({})))), ServiceStep::Keep));
    assert!(matches!(step(None), ServiceStep::Create(_)));
    let noted = there(json!({"metadata": {"annotations": {"cloud/note": "x"}, "finalizers": ["a/b"]}}));
    assert!(matches!(step(Some(&noted)), ServiceStep::Keep), "what other controllers note is theirs");
}

#[test]
fn whatever_differs_is_named_and_written_over_the_version_that_was_looked_at() {
    for (patch, field) in [
        (json!({"metadata": {"labels": {"extra": "x"}}}), "labels"),
        (json!({"metadata": {"annotations": {marks::UID: "2"}}}), "annotations"),
        (json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 81}]}}), "spec.ports"),
        (json!({"spec": {"ports": [{"name": "http", "port": 80, "nodePort": 30000}]}}), "spec.ports"),
        (json!({"spec": {"type": "LoadBalancer"}}), "spec.type"),
        (json!({"spec": {"selector": {"a": "b"}}}), "spec.selector"),
        (json!({"spec": {"externalIPs": ["203.0.113.1"]}}), "spec.externalIPs"),
        (json!({"spec": {"sessionAffinity": "ClientIP"}}), "spec.sessionAffinity"),
        (json!({"spec": {"internalTrafficPolicy": "Local"}}), "spec.internalTrafficPolicy"),
        (json!({"spec": {"trafficDistribution": "PreferClose"}}), "spec.trafficDistribution"),
        (json!({"spec": {"publishNotReadyAddresses": true}}), "spec.publishNotReadyAddresses"),
        (json!({"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}), "spec.loadBalancerSourceRanges"),
    ] {
        let ServiceStep::Update(write, differences) = step(Some(&there(patch.clone()))) else { panic!("{patch}") };
        assert_eq!(differences, [field], "{patch}");
        assert_eq!(write.metadata.resource_version.as_deref(), Some("5"));
        assert_eq!(write.metadata.uid.as_deref(), Some("here"));
        assert_eq!(write.spec.expect("a spec").cluster_ip.as_deref(), Some("10.96.0.7"), "it keeps its address");
    }
}

#[test]
fn an_immutable_change_recreates_the_object_under_its_version() {
    for patch in [
        json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
        json!({"spec": {"type": "ExternalName", "externalName": "x"}}),
        json!({"spec": {"ipFamilies": ["IPv6"]}}),
    ] {
        let ServiceStep::Recreate { at, service: write, adopts: false, .. } = step(Some(&there(patch.clone()))) else {
            panic!("{patch}")
        };
        assert_eq!(at, Version { uid: "here".into(), version: "5".into() });
        assert_eq!(write.metadata.resource_version, None);
    }
}

#[test]
fn rule_1_foreign_objects_are_refused_whatever_their_labels() {
    let foreign = there(json!({"metadata": {"labels": {marks::PREFIX: "east"}}}));
    assert!(matches!(step(Some(&foreign)), ServiceStep::Refuse(Refusal::Foreign(_))));
    let other = there(json!({"metadata": {"annotations": {marks::CLUSTER: "other"}}}));
    assert!(matches!(step(Some(&other)), ServiceStep::Refuse(Refusal::OtherCluster { .. })));
    let config = Remote::new("west", "west", "a=b", "m");
    let owner = Owner { prefix: "west", remote: Some((&config, Some("uid"))) };
    for service in [foreign, other] {
        let live = Live { service: Some(service), ..Live::default() };
        assert_eq!(removal(&live, owner, None), Removal::Nothing);
    }
}

#[test]
fn a_service_that_this_process_made_is_ours_without_any_mark() {
    let bare = there(json!({"metadata": {"labels": null, "annotations": null}}));
    let config = Remote::new("west", "west", "a=b", "m");
    let owner = Owner { prefix: "west", remote: Some((&config, Some("uid"))) };
    let by = |written| service(&desired(), &key(), Some(&bare), owner, written);
    assert!(matches!(by(Some("here")), ServiceStep::Update(..)));
    assert!(matches!(by(Some("another")), ServiceStep::Refuse(_)));
    assert!(matches!(by(None), ServiceStep::Refuse(_)));
}

#[test]
fn one_that_the_api_server_insists_on_is_not_written_again_and_again() {
    let mut live = there(json!({"metadata": {"labels": {"injected": "by a webhook"}}}));
    live.settled = Some(service_digest(&wanted()));
    assert!(matches!(step(Some(&live)), ServiceStep::Keep));
    live.settled = Some(1);
    assert!(matches!(step(Some(&live)), ServiceStep::Update(..)), "something else was asked for then");
}

fn slice(name: &str, host: u8) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "m", "labels": {marks::MANAGED_BY: marks::MANAGER, marks::PREFIX: "west",
            marks::SOURCE_CLUSTER: "west"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [format!("192.0.2.{host}")]}], "ports": [],
    }))
    .expect("valid")
}

/// The slice as the API server returns it, for a Service with this UID.
fn live_slice(name: &str, host: u8, uid: &str) -> LiveSlice {
    let all = [slice(name, host)];
    let mut slice = owned(&all, &key(), uid).next().expect("there is one");
    (slice.metadata.uid, slice.metadata.resource_version) = (Some(format!("uid-{name}")), Some("3".into()));
    LiveSlice::of(&slice, None)
}

fn by_name(slices: Vec<LiveSlice>) -> BTreeMap<String, LiveSlice> {
    slices.into_iter().map(|slice| (slice.name.clone(), slice)).collect()
}

#[test]
fn slices_come_before_others_go_and_change_owners_with_their_service() {
    let mut desired = desired();
    desired.slices = vec![slice("same", 1), slice("changed", 2), slice("new", 3), slice("orphan", 4)];
    let live = by_name(vec![
        live_slice("same", 1, "here"),
        live_slice("changed", 9, "here"),
        live_slice("gone", 5, "here"),
        live_slice("orphan", 4, "another"),
    ]);
    let steps = slices(&desired, &live, &key(), "here", "west");
    let text: Vec<String> = steps
        .iter()
        .map(|step| match step {
            SliceStep::Create(slice) => format!("create {}", slice.metadata.name.as_deref().unwrap_or_default()),
            SliceStep::Update(slice) => {
                assert_eq!(slice.metadata.resource_version.as_deref(), Some("3"));
                assert_eq!(slice.metadata.owner_references.as_ref().expect("an owner")[0].uid, "here");
                format!("update {}", slice.metadata.name.as_deref().unwrap_or_default())
            }
            SliceStep::Delete(name, at) => format!("delete {name} {}", at.version),
            SliceStep::Refuse(refusal) => format!("refuse {refusal}"),
        })
        .collect();
    assert_eq!(text, ["create new", "update changed", "update orphan", "delete gone 3"]);
}

#[test]
fn rule_6_slices_of_a_remote_that_has_not_listed_stay() {
    let mut desired = desired();
    desired.untouched = vec!["west".into()];
    let live = by_name(vec![live_slice("unknown", 5, "here")]);
    assert!(slices(&desired, &live, &key(), "here", "west").is_empty());
    desired.untouched.clear();
    assert_eq!(slices(&desired, &live, &key(), "here", "west").len(), 1);
}

#[test]
fn foreign_slices_are_neither_written_nor_deleted() {
    let mut desired = desired();
    desired.slices = vec![slice("taken", 1)];
    let mut taken = live_slice("taken", 1, "another");
    taken.managed_by = "somebody".into();
    let mut beside = live_slice("beside", 2, "here");
    beside.managed_by = "somebody".into();
    let steps = slices(&desired, &by_name(vec![taken, beside]), &key(), "here", "west");
    assert!(
        matches!(steps.as_slice(), [SliceStep::Refuse(Refusal::ForeignSlice(name))] if name == "taken"),
        "{steps:?}"
    );
}

#[test]
fn leftovers_are_only_what_controllers_made() {
    let by = |manager: &str, owner: &str| {
        let mut slice = live_slice("x", 1, owner);
        slice.managed_by = manager.into();
        leftovers(&by_name(vec![slice]), "here")
    };
    assert_eq!(by("somebody", "here"), Leftovers::default());
    assert_eq!(by(marks::SLICE_CONTROLLER, "another"), Leftovers::default());
    assert!(by(marks::MIRRORING_CONTROLLER, "").endpoints);
    let made = by(marks::SLICE_CONTROLLER, "here");
    assert!(made.endpoints && made.slices.len() == 1);
}
