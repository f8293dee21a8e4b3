//! Which port is meant, and when a burst is over.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::{Value, json};
use snapshot::{Cluster, ClusterName};
use tokio::sync::watch;

use super::*;
use crate::index::Index;

fn slice(name: &str, host: u8, ports: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": "cache"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [format!("192.0.2.{host}")]}],
        "ports": ports,
    }))
    .expect("a valid slice")
}

fn project(projection: &mut Projection, index: &mut Index) -> (Vec<String>, Vec<String>) {
    let views = index.views();
    let gone: Vec<ServiceKey> = projection.services().filter(|key| !views.contains_key(*key)).cloned().collect();
    for (key, view) in gone.iter().map(|key| (key, None)).chain(views.iter().map(|(key, view)| (key, Some(&**view)))) {
        projection.update(key, view);
    }
    let cluster = projection.cluster(ClusterName::new("c").expect("a name"));
    let addresses = cluster.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect();
    (addresses, projection.problems().iter().map(ToString::to_string).collect())
}

#[test]
fn a_port_may_be_left_out_while_there_is_one_and_stays_chosen_when_another_comes() {
    let mut index = Index::default();
    let mut projection = Projection::new(PortSelector::Only);
    assert_eq!(project(&mut projection, &mut index), (vec![], vec![]));
    let udp = json!({"name": "dns", "port": 53, "protocol": "UDP"});
    let http = json!({"name": "http", "port": 80});
    let metrics = json!({"name": "metrics", "port": 9000});
    index.apply(&slice("s", 1, json!([http, udp])));
    assert_eq!(project(&mut projection, &mut index), (vec!["192.0.2.1:80".into()], vec![]));
    index.apply(&slice("s", 1, json!([metrics, http])));
    assert_eq!(project(&mut projection, &mut index), (vec!["192.0.2.1:80".into()], vec![]), "it was chosen before");
    let fresh = project(&mut Projection::new(PortSelector::Only), &mut index);
    let problem = "service shop/cache has several ports (http, metrics): choose one by name or number";
    assert_eq!(fresh, (vec![], vec![problem.into()]));
}

#[test]
fn a_pod_of_two_services_counts_once_for_each_port() {
    let mut index = Index::default();
    let mut put = |service: &str, family: &str, address: &str, uid: &str, port: u16| {
        let object = json!({
            "metadata": {"name": service, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
            "addressType": family,
            "endpoints": [{"addresses": [address], "targetRef": {"kind": "Pod", "name": uid, "uid": uid}}],
            "ports": [{"port": port}],
        });
        index.apply(&serde_json::from_value(object).expect("a valid slice"));
    };
    put("a", "IPv6", "2001:db8::1", "one", 80);
    put("b", "IPv4", "192.0.2.1", "one", 80);
    put("c", "IPv4", "192.0.2.1", "one", 81);
    put("d", "IPv6", "2001:db8::2", "two", 80);
    // Without a UID pods cannot be told apart.
    put("e", "IPv6", "2001:db8::3", "", 80);
    put("f", "IPv4", "192.0.2.3", "", 80);
    let (mut addresses, _) = project(&mut Projection::new(PortSelector::Only), &mut index);
    addresses.sort_unstable();
    let kept = ["192.0.2.1:80", "192.0.2.1:81", "192.0.2.3:80", "[2001:db8::2]:80", "[2001:db8::3]:80"];
    assert_eq!(addresses, kept);
}

/// A Service with these endpoints, each an address and a pod; pod 0 has no UID.
fn view(endpoints: &[(u8, u8)]) -> Arc<View> {
    let mut index = Index::default();
    for family in ["IPv4", "IPv6"] {
        let of_family = endpoints.iter().filter(|(address, _)| (address % 2 == 0) == (family == "IPv4"));
        let endpoints: Vec<Value> = of_family
            .map(|(address, pod)| {
                let address =
                    if family == "IPv4" { format!("192.0.2.{address}") } else { format!("2001:db8::{address}") };
                let uid = if *pod == 0 { String::new() } else { pod.to_string() };
                json!({"addresses": [address], "targetRef": {"kind": "Pod", "name": format!("p{pod}"), "uid": uid},
                    "conditions": {"ready": pod % 3 != 0}})
            })
            .collect();
        let object = json!({
            "metadata": {"name": family.to_lowercase(), "namespace": "shop", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": family, "endpoints": endpoints, "ports": [{"port": 80}],
        });
        index.apply(&serde_json::from_value(object).expect("a valid slice"));
    }
    index.views().values().next().expect("there is one").clone()
}

fn cluster(projection: &mut Projection) -> Cluster {
    projection.cluster(ClusterName::new("c").expect("a name"))
}

proptest! {
    #[test]
    fn a_cluster_depends_on_the_services_that_there_are_and_not_on_how_they_came_about(
        history in proptest::collection::vec((0..4_u8, proptest::option::of(
            proptest::collection::vec((0..8_u8, 0..5_u8), 0..5))), 1..12)
    ) {
        let key = |n: u8| ServiceKey { namespace: "shop".into(), name: format!("s{n}").into() };
        let mut step_by_step = Projection::new(PortSelector::Only);
        let mut last = BTreeMap::new();
        for (service, endpoints) in history {
            let view = endpoints.map(|endpoints| view(&endpoints));
            step_by_step.update(&key(service), view.as_deref());
            last.insert(service, view);
        }
        let mut at_once = Projection::new(PortSelector::Only);
        for (service, view) in last.iter().rev() {
            at_once.update(&key(*service), view.as_deref());
        }
        prop_assert_eq!(cluster(&mut step_by_step), cluster(&mut at_once));
        // Each pod is there once, and each address.
        let mut pods = std::collections::HashSet::new();
        for endpoint in cluster(&mut at_once).endpoints() {
            let uid = endpoint.pod.as_ref().map(|pod| pod.uid.clone()).filter(|uid| !uid.is_empty());
            prop_assert!(uid.is_none_or(|uid| pods.insert(uid)));
        }
    }
}

#[test]
fn a_port_is_found_by_name_whatever_its_number_and_by_number_whatever_its_name() {
    let mut index = Index::default();
    index.apply(&slice("s", 1, json!([{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}])));
    index.apply(&slice("t", 2, json!([{"name": "http", "port": 9090}])));
    let mut of = |port| project(&mut Projection::new(port), &mut index);
    assert_eq!(of(PortSelector::Named("http".into())).0, ["192.0.2.1:8080", "192.0.2.2:9090"]);
    assert_eq!(of(PortSelector::Number(9090)).0, ["192.0.2.1:9090", "192.0.2.2:9090"]);
    let missing = of(PortSelector::Named("grpc".into()));
    assert_eq!(missing.1, ["service shop/cache has no TCP port grpc; it has admin, http"]);
    assert_eq!(of(PortSelector::Number(1)).1, ["service shop/cache has no TCP port 1; it has admin, http"]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_ends_after_20_ms_of_quiet_and_after_100_ms_at_the_latest() {
    let (sender, receiver) = watch::channel(State::default());
    let mut states = [receiver];
    let started = Instant::now();
    burst(&mut states).await;
    assert_eq!(started.elapsed(), BURST_QUIET);

    let busy = tokio::spawn(async move {
        for _ in 0..1000 {
            sender.send_modify(|state| state.changes += 1);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let started = Instant::now();
    burst(&mut states).await;
    let took = started.elapsed();
    busy.abort();
    assert!(took >= BURST_MAX && took < BURST_MAX + BURST_QUIET, "{took:?}");
}
