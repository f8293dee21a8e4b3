//! Tests of lists and events of a remote, and of the Services that each affects.

use std::time::Duration;

use serde_json::json;

use super::*;

fn service(name: &str, uid: &str) -> Service {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "shop", "uid": uid}})).expect("valid")
}

fn slice(name: &str, of: &str) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}], "ports": [{"port": 80}],
    }))
    .expect("valid")
}

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "shop".into(), name: name.into() }
}

/// An index of this many Services with a slice each.
fn filled(count: usize) -> Index {
    let mut index = Index::default();
    for n in 0..count {
        index.apply_service(service(&format!("s{n}"), "u"));
        index.apply_slice(&slice(&format!("s{n}-1"), &format!("s{n}")));
    }
    index
}

#[test]
fn unchanged_objects_cause_no_change() {
    let mut index = Index::default();
    assert!(index.apply_service(service("web", "1")).is_some());
    assert!(index.apply_service(service("web", "1")).is_none());
    let (old, new) = index.apply_service(service("web", "2")).expect("another UID");
    assert_eq!((&*old.expect("it was there").uid, &*new.uid), ("1", "2"));
    assert_eq!(index.apply_slice(&slice("a", "web")), [key("web")]);
    assert!(index.apply_slice(&slice("a", "web")).is_empty());
}

#[test]
fn a_slice_that_moves_touches_both_services() {
    let mut index = filled(2);
    let mut touched = index.apply_slice(&slice("s0-1", "s1"));
    touched.sort();
    assert_eq!(touched, [key("s0"), key("s1")]);
    assert!(index.slices(&key("s0")).is_empty());
    assert_eq!(index.slices(&key("s1")).len(), 2);
}

#[test]
fn a_list_of_one_namespace_says_nothing_about_another() {
    let mut index = filled(3);
    let relisted = index.reset_services(Some("other"), Vec::new(), &[]);
    assert!(relisted.vanished.is_empty() && relisted.touched.is_empty());
    let unreadable = ObjectKey::of(&service("s1", "u").metadata);
    let relisted = index.reset_services(Some("shop"), vec![service("s0", "u")], &[unreadable]);
    let vanished: Vec<&ServiceKey> = relisted.vanished.iter().map(|origin| &origin.key).collect();
    assert_eq!(vanished, [&key("s2")], "an object that cannot be parsed still exists");
}

/// Rule 4: what a list takes from too many Services at once is kept, until it is confirmed or comes back.
#[test]
fn endpoints_of_many_services_are_not_lost_to_one_list() {
    let (mut index, now) = (filled(20), Instant::now());
    let few: Vec<EndpointSlice> = (0..10).map(|n| slice(&format!("s{n}-1"), &format!("s{n}"))).collect();
    let touched = index.reset_slices(None, &few, &[], MaxDelete::default(), now);
    assert_eq!((touched.len(), index.emptied()), (10, 0), "10 may go");

    let mut index = filled(20);
    let touched = index.reset_slices(None, &few[1..], &[], MaxDelete::default(), now);
    assert_eq!((touched.len(), index.emptied()), (0, 11), "11 of 20 may not");
    assert_eq!(index.slices(&key("s19")).len(), 1);
    // One of them gets a slice again: the slices that were kept for it are dropped.
    index.apply_slice(&slice("s19-new", "s19"));
    assert_eq!((index.slices(&key("s19")).len(), index.emptied()), (1, 10));
    // A deletion that the watch reports applies at once.
    assert_eq!(index.delete_slice(&ObjectKey::of(&slice("s18-1", "s18").metadata)), Some(key("s18")));
    assert!(index.slices(&key("s18")).is_empty());
    assert!(index.confirm_emptied(now.checked_sub(Duration::from_secs(1)).expect("the machine runs")).is_empty());
    assert_eq!(index.confirm_emptied(now).len(), 9);
    assert!(index.slices(&key("s15")).is_empty());
}

#[test]
fn a_service_that_keeps_one_slice_loses_the_others() {
    let mut index = filled(20);
    for n in 0..20 {
        index.apply_slice(&slice(&format!("s{n}-2"), &format!("s{n}")));
    }
    let left: Vec<EndpointSlice> = (0..20).map(|n| slice(&format!("s{n}-2"), &format!("s{n}"))).collect();
    let touched = index.reset_slices(None, &left, &[], MaxDelete::default(), Instant::now());
    assert_eq!((touched.len(), index.emptied()), (20, 0));
}
