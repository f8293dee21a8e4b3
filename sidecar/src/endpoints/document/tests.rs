//! Tests that the JSON is what a reader of v1 Endpoints expects.

use controlplane::{
    catalog::Facts,
    index::{Index, ServiceKey},
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;

/// The entry of these slices.
pub(in crate::endpoints) fn entry(slices: &[Value]) -> Entry {
    let mut index = Index::default();
    for slice in slices {
        index.apply(&serde_json::from_value::<EndpointSlice>(slice.clone()).expect("a valid slice"));
    }
    let view = index.views().into_iter().next().map(|(_key, view)| view).unwrap_or_default();
    Entry { key: ServiceKey { namespace: "shop".into(), name: "db".into() }, facts: Facts::default(), view }
}

pub(in crate::endpoints) fn slice(name: &str, endpoints: &Value, ports: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports})
}

fn document(entry: &Entry) -> Value {
    serde_json::to_value(Document::new(entry)).expect("it can be JSON")
}

#[test]
fn every_field_of_the_older_object_is_where_it_was() {
    let endpoints = json!([
        {"addresses": ["192.0.2.1"], "hostname": "db-0", "nodeName": "node-7", "zone": "z",
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": "db-0", "uid": "u0"}},
        {"addresses": ["192.0.2.2"], "conditions": {"ready": false}},
        {"addresses": ["192.0.2.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["192.0.2.4"], "conditions": {"ready": true, "terminating": true}},
    ]);
    let ports = json!([{"name": "sql", "port": 5432, "appProtocol": "postgres"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let mut entry = entry(&[slice("a", &endpoints, &ports)]);
    entry.facts.created = 1_767_323_045;
    let labels = [("app", "db"), ("kubernetes.io/service-name", "db"), ("endpointslice.kubernetes.io/managed-by", "x")];
    entry.facts.labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let expected = json!({
        "metadata": {"name": "db", "namespace": "shop", "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"app": "db"}},
        "subsets": [{
            "addresses": [
                {"ip": "192.0.2.1", "hostname": "db-0", "nodeName": "node-7",
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": "db-0", "uid": "u0"}},
                {"ip": "192.0.2.4"},
            ],
            "notReadyAddresses": [{"ip": "192.0.2.2"}],
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "sql", "port": 5432, "protocol": "TCP", "appProtocol": "postgres"},
            ],
        }],
    });
    assert_eq!(document(&entry), expected, "a terminating endpoint is omitted, unless it is published as ready");
}

#[test]
fn addresses_are_grouped_by_the_ports_that_they_serve_on() {
    let http = |number: u16| json!([{"name": "http", "port": number}]);
    let entry = entry(&[
        slice("a", &json!([{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"]}]), &http(80)),
        slice("b", &json!([{"addresses": ["192.0.2.3"], "conditions": {"ready": false}}]), &http(80)),
        slice("c", &json!([{"addresses": ["192.0.2.4"]}]), &http(8080)),
        slice("d", &json!([{"addresses": ["192.0.2.4"]}]), &json!([{"name": "admin", "port": 90}])),
    ]);
    let subsets = document(&entry)["subsets"].clone();
    let ips = |addresses: &Value| -> Vec<String> {
        addresses.as_array().into_iter().flatten().map(|a| a["ip"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let list: Vec<_> = subsets.as_array().expect("a list").iter().collect();
    assert_eq!(list.len(), 2, "{subsets}");
    let names = |subset: &Value| -> Vec<u64> {
        subset["ports"].as_array().into_iter().flatten().filter_map(|port| port["port"].as_u64()).collect()
    };
    assert_eq!((names(list[0]), ips(&list[0]["addresses"])), (vec![90, 8080], vec!["192.0.2.4".to_owned()]));
    assert_eq!((names(list[1]), ips(&list[1]["addresses"])), (vec![80], vec!["192.0.2.1".into(), "192.0.2.2".into()]));
    assert_eq!(ips(&list[1]["notReadyAddresses"]), ["192.0.2.3"]);
}

#[test]
fn a_service_without_slices_and_one_without_ports_have_a_document() {
    let empty = document(&entry(&[]));
    assert_eq!(empty["subsets"], json!([]), "a list, so that a client may walk it");
    assert_eq!(empty["metadata"]["creationTimestamp"], Value::Null);
    let portless =
        document(&entry(&[slice("a", &json!([{"addresses": ["192.0.2.1"], "hostname": "db-0"}]), &Value::Null)]));
    assert_eq!(portless["subsets"], json!([{"addresses": [{"ip": "192.0.2.1", "hostname": "db-0"}]}]));
}

#[test]
fn more_than_a_thousand_addresses_are_listed_and_give_the_same_bytes_however_they_are_sliced() {
    let endpoint = |n: usize| json!({"addresses": [format!("10.0.{}.{}", n / 200, n % 200 + 1)]});
    let ports = json!([{"name": "http", "port": 80}]);
    let cut = |size: usize| {
        let all: Vec<Value> = (0..1500).map(endpoint).collect();
        let slices: Vec<Value> =
            all.chunks(size).enumerate().map(|(n, chunk)| slice(&format!("s{n}"), &json!(chunk), &ports)).collect();
        serde_json::to_string(&Document::new(&entry(&slices))).expect("it can be JSON")
    };
    let text = cut(100);
    assert_eq!(text, cut(1000));
    let value: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(value["subsets"][0]["addresses"].as_array().map(Vec::len), Some(1500));
}
