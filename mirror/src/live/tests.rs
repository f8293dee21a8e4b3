//! Tests of the ownership of local objects.

use serde_json::{Value, json};

use super::*;

fn service(name: &str, labels: Value, annotations: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels, "annotations": annotations}}))
        .expect("valid")
}

fn labels() -> Value {
    json!({marks::MIRRORED: "true", marks::PREFIX: "west"})
}

const NAME: &str = "west-web-6d6972726f720a-shop";

fn owns(cluster: Option<&str>, service: &Service) -> Ownership {
    let mut config = Remote::new("w", "west", "mirror=true", "m");
    config.former = vec!["former".into()];
    Owner { prefix: "west", remote: Some((&config, cluster)) }.owns(service)
}

#[test]
fn rule_2_both_labels_make_it_ours_unless_it_is_annotated_with_another_cluster() {
    let of = |labels: Value, annotations: Value| owns(Some("uid"), &service(NAME, labels, annotations));
    assert_eq!(of(labels(), json!({})), Ownership::Adoptable);
    assert_eq!(of(labels(), json!({marks::CLUSTER: "uid"})), Ownership::Ours);
    assert_eq!(of(labels(), json!({marks::CLUSTER: "former"})), Ownership::Ours);
    assert_eq!(of(labels(), json!({marks::CLUSTER: "other"})), Ownership::OtherCluster("other".into()));
    for one in [json!({}), json!({marks::MIRRORED: "true"}), json!({marks::PREFIX: "west"})] {
        assert_eq!(of(one.clone(), json!({})), Ownership::Foreign);
        assert_eq!(of(one, json!({marks::CLUSTER: "uid"})), Ownership::Foreign);
    }
    let other = json!({marks::MIRRORED: "true", marks::PREFIX: "east"});
    assert_eq!(of(other, json!({})), Ownership::Foreign);
}

#[test]
fn a_mirror_that_lost_its_labels_is_known_by_its_annotations_and_its_name() {
    let notes = json!({marks::CLUSTER: "uid", marks::NAMESPACE: "shop", marks::SERVICE: "web"});
    assert_eq!(owns(Some("uid"), &service(NAME, json!({}), notes.clone())), Ownership::Ours);
    assert_eq!(owns(Some("uid"), &service("another-name", json!({}), notes.clone())), Ownership::Foreign);
    assert_eq!(owns(Some("other"), &service(NAME, json!({}), notes)), Ownership::Foreign);
}

#[test]
fn where_clusters_cannot_be_told_apart_their_names_have_to_do() {
    let of = |annotations: Value| owns(None, &service(NAME, labels(), annotations));
    assert_eq!(of(json!({marks::CLUSTER: "any", marks::REMOTE: "w"})), Ownership::Ours);
    assert_eq!(of(json!({marks::CLUSTER: "any", marks::REMOTE: "e"})), Ownership::OtherCluster("any".into()));
    assert_eq!(of(json!({})), Ownership::Adoptable);
}

#[test]
fn a_global_service_is_no_mirror_of_one_remote() {
    let owner = Owner { prefix: "west", remote: None };
    let of = |annotations: Value| owner.owns(&service("gl", labels(), annotations));
    assert_eq!(of(json!({marks::GLOBAL: "shop/web"})), Ownership::Ours);
    assert_eq!(of(json!({})), Ownership::Adoptable);
    assert_eq!(of(json!({marks::CLUSTER: "uid"})), Ownership::OtherCluster("uid".into()));
}

#[test]
fn a_digest_depends_on_content_and_not_on_form() {
    let slice = |patch: Value| -> u64 {
        let mut slice = json!({"metadata": {"name": "s", "labels": {"a": "b"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": [{"name": "", "port": 80, "protocol": "TCP"}]});
        for (key, value) in patch.as_object().expect("an object") {
            slice[key] = value.clone();
        }
        slice_digest(&serde_json::from_value(slice).expect("valid"))
    };
    let same = slice(json!({}));
    assert_eq!(slice(json!({"ports": [{"port": 80}]})), same);
    assert_eq!(
        slice(json!({"metadata": {"name": "s", "labels": {"a": "b"}, "resourceVersion": "7", "uid": "u"}})),
        same
    );
    for other in [
        json!({"metadata": {"name": "s", "labels": {"a": "c"}}}),
        json!({"metadata": {"name": "s", "labels": {"a": "b"}, "annotations": {"x": "y"}}}),
        json!({"endpoints": []}),
        json!({"endpoints": [{"addresses": ["192.0.2.1"], "nodeName": "n"}]}),
        json!({"ports": null}),
        json!({"addressType": "IPv6"}),
    ] {
        assert_ne!(slice(other.clone()), same, "{other}");
    }
}

#[test]
fn versions_are_numbers_whichever_object_they_are_of() {
    let at = |uid: &str, version: &str| Version { uid: uid.into(), version: version.into() };
    assert!(at("a", "9").is_older_than(&at("a", "10")));
    assert!(!at("a", "10").is_older_than(&at("a", "10")));
    assert!(at("a", "9").is_older_than(&at("b", "10")));
    assert!(!at("a", "x").is_older_than(&at("a", "10")));
}

/// The names of events follow from it, and processes of different builds are to find each other's.
#[test]
fn a_digest_is_the_same_in_every_process_and_build() {
    // printf '["m","web","ForeignService","note"]' | sha256sum | head -c 16
    assert_eq!(format!("{:016x}", digest(&("m", "web", "ForeignService", "note"))), "4884da9224708d0a");
}
