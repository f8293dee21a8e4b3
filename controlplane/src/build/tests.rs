//! Which port is meant, and when a burst is over.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
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
    let (endpoints, problems) = projection.endpoints(index.views().iter().map(|(key, view)| (key, view.clone())));
    let addresses = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
    (addresses, problems.iter().map(ToString::to_string).collect())
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
