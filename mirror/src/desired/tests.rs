//! Tests of the desired state of mirrors.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service as RawService;
use serde_json::{Value, json};

use super::*;
use crate::{config::Global, marks};

fn origin(name: &str, created: i64, spec: Value) -> Origin {
    let raw: RawService = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "labels": {"team": "a"}},
        "spec": spec,
    }))
    .expect("a valid Service");
    Origin { created, ..Origin::read(raw).expect("it has a name") }
}

fn slice(address_type: &str, addresses: &[&str]) -> Arc<Slice> {
    let endpoints: Vec<Value> = addresses.iter().map(|ip| json!({"addresses": [ip]})).collect();
    let raw = serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "shop", "labels": {marks::SERVICE_NAME: "web"}},
        "addressType": address_type, "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
    }))
    .expect("a valid slice");
    Arc::new(Slice::read(&raw).expect("it belongs to a Service"))
}

fn local() -> ServiceKey {
    ServiceKey { namespace: "m".into(), name: "west-web".into() }
}

fn one(spec: Value, slices: &[Arc<Slice>], verdict: Verdict) -> Desired {
    let config = Remote::new("west", "west", "mirror=true", "m");
    let peer = Peer { config: &config, cluster: Some("cluster-uid") };
    mirror(&local(), peer, &origin("web", 1, spec), slices, verdict).expect("it is mirrored")
}

fn spec_of(desired: &Desired) -> Value {
    serde_json::to_value(desired.service.spec.clone()).expect("it can be written")
}

/// Names of two remotes' slices differ, names of the same remote's do not change.
#[test]
fn names_of_slices_follow_from_cluster_and_place() {
    let slices = [slice("IPv4", &["192.0.2.1"])];
    let name = |cluster: Option<&str>, remote: &str| {
        let config = Remote::new(remote, "west", "mirror=true", "m");
        let peer = Peer { config: &config, cluster };
        let desired =
            mirror(&local(), peer, &origin("web", 1, json!({})), &slices, Verdict::AsKnown).expect("it is mirrored");
        desired.slices[0].metadata.name.clone().expect("a name")
    };
    assert_eq!(name(Some("uid"), "west"), name(Some("uid"), "renamed"));
    assert_ne!(name(Some("uid"), "west"), name(Some("other"), "west"));
    assert_ne!(name(None, "west"), name(None, "east"));
    assert!(name(Some("uid"), "west").starts_with("west-web-"));
}

#[test]
fn addresses_that_the_api_server_refuses_are_left_out_and_counted() {
    let bad = ["127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.5", "010.0.0.1", "example.com", "2001:db8::1"];
    let four = slice("IPv4", &[&bad[..], &["192.0.2.1"]].concat());
    let six = slice("IPv6", &["::1", "fe80::1", "ff02::1", "::", "::ffff:192.0.2.1", "192.0.2.1", "2001:DB8::1"]);
    assert_eq!((four.unusable, six.unusable), (7, 6));
    let desired = one(json!({"ports": [{"port": 80}]}), &[four, six], Verdict::AsKnown);
    let found: Vec<(&str, &str)> = desired
        .slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().map(|it| (slice.address_type.as_str(), it.addresses[0].as_str())))
        .collect();
    assert_eq!(found, [("IPv4", "192.0.2.1"), ("IPv6", "2001:db8::1")]);
}

#[test]
fn a_lost_remote_has_no_ready_endpoint() {
    let desired = one(json!({}), &[slice("IPv4", &["192.0.2.1"])], Verdict::NotReady);
    let conditions = desired.slices[0].endpoints[0].conditions.clone().expect("conditions");
    assert_eq!((conditions.ready, conditions.serving, conditions.terminating), (Some(false), Some(false), Some(false)));
}

#[test]
fn one_family_asks_for_that_and_two_for_both() {
    let of = |families: Value| {
        let spec = spec_of(&one(json!({"ipFamilies": families}), &[], Verdict::AsKnown));
        (spec["ipFamilyPolicy"].clone(), spec["ipFamilies"].clone())
    };
    assert_eq!(of(json!(["IPv6"])), (json!("SingleStack"), json!(["IPv6"])));
    assert_eq!(of(json!(["IPv6", "IPv4"])), (json!("PreferDualStack"), Value::Null));
    assert_eq!(of(Value::Null), (Value::Null, Value::Null));
}

/// The global Service of these: remote, age, spec. Each has one endpoint, on the port `http`.
fn merged(all: &[(&str, i64, Value)]) -> Desired {
    merged_beside(all, &[], None)
}

/// The same, where these remotes are not known and this Service is here.
fn merged_beside(all: &[(&str, i64, Value)], untouched: &[&str], there: Option<&RawService>) -> Desired {
    let remotes: Vec<Remote> = all.iter().map(|(name, ..)| Remote::new(*name, *name, "x=y", "m")).collect();
    let origins: Vec<Origin> = all.iter().map(|(_, created, spec)| origin("web", *created, spec.clone())).collect();
    let sources = remotes.iter().zip(&origins).enumerate().map(|(number, (config, origin))| Source {
        peer: Peer { config, cluster: Some(&config.name) },
        origin,
        slices: vec![slice("IPv4", &[&format!("192.0.2.{}", number + 1)])],
        verdict: Verdict::AsKnown,
    });
    let untouched = untouched.iter().map(|name| (*name).to_owned()).collect();
    merge(&local(), &Global::new("global", "m"), sources.collect(), untouched, there).expect("it is mirrored")
}

/// The endpoints behind a port of the Service, as kube-proxy finds them: by name and protocol.
fn behind(desired: &Desired, name: &str) -> Vec<String> {
    let serves = |slice: &&EndpointSlice| slice.ports.iter().flatten().any(|port| port.name.as_deref() == Some(name));
    let all = desired.slices.iter().filter(serves).flat_map(|slice| &slice.endpoints);
    all.map(|endpoint| endpoint.addresses[0].clone()).collect()
}

fn ports_of(desired: &Desired) -> Vec<(String, i32)> {
    let ports = desired.service.spec.clone().expect("a spec").ports.unwrap_or_default();
    ports.into_iter().map(|port| (port.name.unwrap_or_default(), port.port)).collect()
}

#[test]
fn ports_are_united_and_where_they_contradict_the_oldest_wins_whoever_comes_first() {
    let young = ("west", 200, json!({"ports": [{"name": "http", "port": 8080}, {"name": "new", "port": 1}]}));
    let old = ("east", 100, json!({"ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 9000}]}));
    for all in [[young.clone(), old.clone()], [old, young]] {
        let desired = merged(&all);
        let expected = [("http".to_owned(), 80), ("grpc".to_owned(), 9000), ("new".to_owned(), 1)];
        assert_eq!(ports_of(&desired), expected);
        assert_eq!(desired.conflicts.len(), 1, "{:?}", desired.conflicts);
        assert_eq!((&*desired.conflicts[0].remote, desired.conflicts[0].about.reason()), ("west", "PortConflict"));
        assert!(desired.conflicts[0].to_string().contains("http 8080/TCP"));
    }
}

#[test]
fn contradictions_of_every_kind_are_told() {
    let base = json!({"ports": [{"name": "http", "port": 80, "appProtocol": "http"}]});
    let kinds = |other: Value| -> Vec<&'static str> {
        let desired = merged(&[("a", 1, base.clone()), ("b", 2, other)]);
        desired.conflicts.iter().map(|conflict| conflict.about.reason()).collect()
    };
    assert!(kinds(base.clone()).is_empty());
    assert_eq!(kinds(json!({"ports": [{"name": "http", "port": 80}]})), ["PortConflict"], "another protocol");
    assert_eq!(kinds(json!({"ports": [{"name": "web", "port": 80}]})), ["PortConflict"], "another name");
    assert_eq!(kinds(json!({"ports": [{"port": 81}]})), ["PortConflict"], "only a single port has no name");
    assert_eq!(kinds(json!({"clusterIP": "None", "ports": base["ports"]})), ["TypeConflict"]);
    assert_eq!(kinds(json!({"sessionAffinity": "ClientIP", "ports": base["ports"]})), ["SessionAffinityConflict"]);
    let udp = json!({"ports": [base["ports"][0], {"name": "dns", "port": 80, "protocol": "UDP"}]});
    assert!(kinds(udp).is_empty(), "another protocol is another port");
}

#[test]
fn each_remote_has_slices_of_its_own_even_for_equal_endpoints() {
    let spec = json!({"ports": [{"name": "http", "port": 80}]});
    let desired = merged(&[("a", 1, spec.clone()), ("b", 2, spec)]);
    let names: std::collections::BTreeSet<_> = desired.slices.iter().map(|slice| &slice.metadata.name).collect();
    assert_eq!((desired.slices.len(), names.len()), (2, 2));
}

#[test]
fn endpoints_get_no_traffic_for_a_port_that_means_something_else_where_they_are() {
    let old = ("a", 1, json!({"ports": [{"name": "http", "port": 80}]}));
    let with = |spec: Value| merged(&[old.clone(), ("b", 2, spec)]);
    let both = ["192.0.2.1", "192.0.2.2"];
    for (why, ports) in [
        ("another number", json!([{"name": "http", "port": 8080}])),
        ("another protocol", json!([{"name": "http", "port": 80, "protocol": "UDP"}])),
        ("crossed", json!([{"name": "web", "port": 80}, {"name": "http", "port": 9000}])),
        ("only in its slices, where the older Service gives it a meaning", json!([{"name": "web", "port": 9000}])),
    ] {
        let desired = with(json!({ "ports": ports }));
        assert_eq!(behind(&desired, "http"), both[..1], "{why}");
        let addresses = desired.slices.iter().flat_map(|slice| &slice.endpoints).count();
        assert_eq!(addresses, 1, "{why}: one without a port is not in a slice, of which DNS would make an address");
    }
    assert_eq!(behind(&with(json!({"ports": [{"name": "http", "port": 80}]})), "http"), both);
    let other_words = json!({"ports": [{"name": "http", "port": 80, "appProtocol": "http"}]});
    assert_eq!(behind(&with(other_words), "http"), both, "it is the same port all the same");
    let more = json!({"ports": [{"name": "http", "port": 80}, {"name": "grpc", "port": 80, "protocol": "UDP"}]});
    assert_eq!(behind(&with(more), "http"), both, "only what contradicts is left out");
}

#[test]
fn while_the_oldest_is_not_known_the_others_fit_the_service_that_is_here() {
    let young = ("b", 2, json!({"ports": [{"name": "http", "port": 8080}]}));
    let here = merged(&[("a", 1, json!({"ports": [{"name": "http", "port": 80}]})), young.clone()]).service;
    let desired = merged_beside(std::slice::from_ref(&young), &["a"], Some(&here));
    assert_eq!(behind(&desired, "http"), Vec::<String>::new());
    let alone = merged_beside(&[young], &[], Some(&here));
    assert_eq!(behind(&alone, "http"), ["192.0.2.1"], "once it is known that there is no other");
}
