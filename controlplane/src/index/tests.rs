//! The merge of slices does not depend on how they were cut or in what order they came.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use snapshot::{Conditions, Endpoint};

use super::*;

/// What is true about a pod; slices tell it.
#[derive(Clone, Debug)]
struct Pod {
    number: u8,
    v4: bool,
    v6: bool,
    ready: Option<bool>,
    port: u16,
}

fn v4(n: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, n).into()
}

fn v6(n: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into()
}

fn slice(name: &str, service: &str, endpoints: &[Value], ports: &Value) -> EndpointSlice {
    let v6 = endpoints.first().is_some_and(|e| e["addresses"][0].as_str().is_some_and(|a| a.contains(':')));
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
        "addressType": if v6 { "IPv6" } else { "IPv4" },
        "endpoints": endpoints,
        "ports": ports,
    }))
    .expect("a valid slice")
}

fn told(pod: &Pod, address: IpAddr) -> Value {
    json!({
        "addresses": [address.to_string()],
        "conditions": {"ready": pod.ready},
        "targetRef": {"kind": "Pod", "name": format!("p{}", pod.number), "uid": format!("u{}", pod.number)},
    })
}

/// Tells about each pod and family in one slice, or in two.
fn cut(pods: &[Pod], places: &[(u8, u8)]) -> Vec<EndpointSlice> {
    let mut groups: HashMap<(u8, bool, u16), Vec<Value>> = HashMap::new();
    for (pod, (one, other)) in pods.iter().zip(places) {
        for (has, address) in [(pod.v4, v4(pod.number)), (pod.v6, v6(pod.number))] {
            for place in BTreeSet::from([one, other]) {
                if has {
                    groups.entry((*place, address.is_ipv6(), pod.port)).or_default().push(told(pod, address));
                }
            }
        }
    }
    let named = groups.iter().map(|((place, v6, port), endpoints)| {
        slice(&format!("s-{place}-{v6}-{port}"), "cache", endpoints, &json!([{"name": "http", "port": port}]))
    });
    named.collect()
}

fn view(index: &mut Index, service: &str) -> Arc<View> {
    let found = index.views().into_iter().find(|(key, _view)| &*key.name == service).map(|(_key, view)| view);
    found.unwrap_or_default()
}

fn http(view: &View) -> Vec<Endpoint> {
    view.endpoints(&Port { name: "http".into(), protocol: Protocol::Tcp }).to_vec()
}

fn addresses(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn one(n: u8) -> Value {
    json!({"addresses": [v4(n).to_string()]})
}

fn port(number: u16) -> Value {
    json!([{"name": "http", "port": number}])
}

prop_compose! {
    fn pods()(
        facts in vec((any::<[bool; 2]>(), any::<Option<bool>>(), 0..2_u16), 0..12),
    ) -> Vec<Pod> {
        facts.into_iter().zip(1..).map(|(([v4, v6], ready, port), number)| Pod { number, v4, v6, ready, port: 8080 + port }).collect()
    }
}

proptest! {
    #[test]
    fn any_cut_of_the_same_endpoints_gives_the_same_view(
        pods in pods(),
        places in vec((0..4_u8, 0..4_u8), 12),
        order in any::<u64>(),
    ) {
        let mut whole = Index::default();
        whole.reset(&cut(&pods, &[(0, 0); 12]), &[]);
        let mut slices = cut(&pods, &places);
        fastrand::Rng::with_seed(order).shuffle(&mut slices);
        let mut pieces = Index::default();
        slices.iter().for_each(|slice| pieces.apply(slice));
        prop_assert_eq!(view(&mut whole, "cache"), view(&mut pieces, "cache"));
        // And each pod is there once.
        let there = pods.iter().filter(|pod| pod.v4 || pod.v6).count();
        prop_assert_eq!(http(&view(&mut pieces, "cache")).len(), there);
    }

    #[test]
    fn events_in_any_number_end_where_a_list_of_what_is_left_does(
        steps in vec((0..4_u8, 0..3_u8, vec(1..9_u8, 0..4), any::<bool>()), 0..40),
    ) {
        let mut followed = Index::default();
        let mut left = HashMap::new();
        for (name, service, endpoints, delete) in steps {
            let endpoints: Vec<Value> = endpoints.into_iter().map(one).collect();
            let object = slice(&format!("s{name}"), &format!("service-{service}"), &endpoints, &port(80));
            if delete {
                left.remove(&name);
                followed.delete(&ObjectKey::of(&object.metadata));
            } else {
                followed.apply(&object);
                left.insert(name, object);
            }
            // Looking in between must not freeze anything.
            let _ = followed.views().len();
        }
        let mut listed = Index::default();
        listed.reset(&left.into_values().collect::<Vec<_>>(), &[]);
        prop_assert_eq!(followed.views(), listed.views());
    }
}

#[test]
fn conditions_that_are_not_told_mean_ready_and_serving() {
    let mut index = Index::default();
    let silent = one(1);
    let empty = json!({"addresses": ["192.0.2.2"], "conditions": {}});
    let ending = json!({"addresses": ["192.0.2.3"], "conditions": {"ready": false, "terminating": true}});
    index.apply(&slice("s", "cache", &[silent, empty, ending], &port(80)));
    let conditions: Vec<Conditions> = http(&view(&mut index, "cache")).iter().map(|e| e.conditions).collect();
    let ending = Conditions { ready: false, serving: true, terminating: true };
    assert_eq!(conditions, [Conditions::READY, Conditions::READY, ending]);
}

#[test]
fn a_complete_list_replaces_everything_but_what_could_not_be_read() {
    let mut index = Index::default();
    for n in 1..=3 {
        index.apply(&slice(&format!("s{n}"), "cache", &[one(n)], &port(80)));
    }
    let unreadable = ObjectKey::of(&slice("s2", "cache", &[], &port(80)).metadata);
    index.reset(&[slice("s4", "cache", &[one(4)], &port(80))], &[unreadable]);
    assert_eq!(addresses(&http(&view(&mut index, "cache"))), ["192.0.2.2:80", "192.0.2.4:80"]);
    index.reset(&[], &[]);
    assert_eq!(index.views().len(), 0);
}

#[test]
fn the_primary_family_is_the_one_told_then_the_larger_then_ipv4() {
    let both = |n| Pod { number: n, v4: true, v6: true, ready: None, port: 80 };
    let only_v6 = Pod { v4: false, ..both(3) };
    let mut even = Index::default();
    even.reset(&cut(&[both(1), both(2)], &[(0, 0); 2]), &[]);
    assert_eq!(addresses(&http(&view(&mut even, "cache"))), ["192.0.2.1:80", "192.0.2.2:80"]);
    let key = even.undecided().into_iter().next().expect("nobody told the primary family");
    assert!(even.set_primary(&key, IpFamily::V6));
    assert!(!even.set_primary(&key, IpFamily::V6), "no news");
    assert!(even.undecided().is_empty());
    assert_eq!(addresses(&http(&view(&mut even, "cache"))), ["[2001:db8::1]:80", "[2001:db8::2]:80"]);
    let mut larger = Index::default();
    larger.reset(&cut(&[both(1), only_v6], &[(0, 0); 2]), &[]);
    assert_eq!(addresses(&http(&view(&mut larger, "cache"))), ["[2001:db8::1]:80", "[2001:db8::3]:80"]);
}

#[test]
fn the_services_without_a_known_family_are_the_same_set_while_only_others_change() {
    let both = |n| Pod { number: n, v4: true, v6: true, ready: None, port: 80 };
    let mut index = Index::default();
    let dual = cut(&[both(1)], &[(0, 0)]);
    index.reset(&dual, &[]);
    let before = index.undecided();
    assert_eq!(before.len(), 1);
    index.apply(&slice("s", "other", &[one(1)], &port(80)));
    assert!(index.undecided().ptr_eq(&before), "nobody has to look at it again");
    for slice in &dual {
        Store::delete(&mut index, &ObjectKey::of(&slice.metadata));
    }
    assert!(index.undecided().is_empty());
}

#[test]
fn ports_count_by_name_and_protocol_also_where_nobody_serves() {
    let mut index = Index::default();
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "any"}]);
    index.apply(&slice("s", "cache", &[], &ports));
    let view = view(&mut index, "cache");
    let names: Vec<String> = view.ports().map(|port| format!("{} {:?}", port.name, port.protocol)).collect();
    assert_eq!(names, ["dns Udp", "http Tcp"], "a port without a number is none");
}

#[test]
fn a_slice_of_no_service_and_an_address_that_is_none_are_left_out() {
    let mut index = Index::default();
    let mut lost = slice("s", "cache", &[one(1)], &port(80));
    index.apply(&lost);
    lost.metadata.labels = None;
    index.apply(&lost);
    assert_eq!(index.views().len(), 0, "its label is gone");
    let domain = json!({"addresses": ["cache.example"]});
    index.apply(&slice("t", "cache", &[domain, one(2)], &port(80)));
    assert_eq!(addresses(&http(&view(&mut index, "cache"))), ["192.0.2.2:80"]);
}

#[test]
fn application_protocols_are_told_by_port() {
    let mut index = Index::default();
    let ports =
        json!([{"name": "http", "port": 80, "appProtocol": "kubernetes.io/h2c"}, {"name": "sql", "port": 5432}]);
    index.apply(&slice("s", "cache", &[one(1)], &ports));
    // While the controller changes it, slices differ: what is said counts.
    index.apply(&slice("t", "cache", &[one(2)], &port(80)));
    let view = view(&mut index, "cache");
    let told: Vec<&str> = view.ports().map(|port| view.app_protocol(port)).collect();
    assert_eq!(told, ["kubernetes.io/h2c", ""]);
}

#[test]
fn endpoints_without_a_port_are_kept_apart() {
    let mut index = Index::default();
    index.apply(&slice("s", "db", &[one(1), one(2)], &Value::Null));
    let view = view(&mut index, "db");
    assert_eq!(view.ports().count(), 0);
    assert_eq!(addresses(view.portless()), ["192.0.2.1:0", "192.0.2.2:0"]);
}
