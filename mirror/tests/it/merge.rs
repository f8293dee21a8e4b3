//! Rule 6: Services of several remotes as one.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use mirror::{
    config::{Config, Global},
    marks,
};
use serde_json::{Value, json};
use testkit::eventually;

use crate::bed::{Bed, label};

impl Bed {
    fn global(&self) -> Config {
        Config {
            remotes: vec![self.remote("west"), self.remote("east")],
            global: Some(Global::new("global=true", &self.here)),
            ..Config::default()
        }
    }

    /// Waits until a global Service has exactly these addresses.
    async fn until_global(&self, name: &str, expected: &[&str]) {
        eventually!("those endpoints", self.addresses(name).await, |all| all == expected);
    }

    fn global_name(&self, service: &str) -> String {
        format!("gl-{}-73736d-{service}", self.there)
    }
}

fn opted_in(yaml: &str) -> String {
    yaml.replace("mirror: 'true'", "mirror: 'true', global: 'true'")
}

fn ports(service: &Service) -> Value {
    json!(
        service
            .spec
            .as_ref()
            .and_then(|spec| spec.ports.as_ref())
            .map(|ports| { ports.iter().map(|port| (port.name.clone(), port.port)).collect::<Vec<_>>() })
    )
}

#[tokio::test]
async fn rule_6_services_of_several_remotes_feed_one_and_go_only_when_all_have_listed() {
    let bed = Bed::new("global").await;
    // The second remote is another API server: the local one, used as a remote.
    let other = crate::bed::local().await;
    let yaml = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}", bed.there);
    other.apply_yaml(&yaml).await.expect("a valid namespace");
    let put_there = async |yaml: &str| {
        let yaml = yaml.replace("NAMESPACE", &bed.there);
        other.apply_yaml(&yaml).await.unwrap_or_else(|e| panic!("{e}"));
    };
    let one = crate::bed::service("web", "ports: [{name: http, port: 80}, {name: old, port: 1}]");
    bed.put(&format!("{}\n---\n{}", opted_in(&one), crate::bed::slice("web", "web", &[1]))).await;
    let (proxy, west) = bed.through_proxy().await;
    let east = other.client().await;
    let clients = || vec![Ok(west.clone()), Ok(east.clone())];
    let mirror = bed.start_with(bed.global(), clients()).await.ready().await;
    let name = bed.global_name("web");
    eventually!("the first remote's endpoint", bed.addresses(&name).await, |all| all == &["192.0.2.1"]);

    // The other Service is younger: its ports are added, and the older one wins conflicts. Its port http is another one, so its
    // endpoints get no traffic of http.
    let two = crate::bed::service("web", "ports: [{name: http, port: 8080}, {name: new, port: 2}]");
    put_there(&format!("{}\n---\n{}", opted_in(&two), crate::bed::slice("web", "web", &[2]))).await;
    let expected = json!([["http", 80], ["old", 1], ["new", 2]]);
    let merged = |service: &Service| ports(service) == expected;
    let made = eventually!("the ports of both", bed.services().get(&name).await.expect("it is there"), merged);
    assert_eq!(label(made.metadata.labels.as_ref(), marks::PREFIX), Some("gl"));
    bed.event("PortConflict", "http 8080/TCP of east").await;
    let condition = |service: &Service| {
        let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.clone().any(|it| it.type_ == marks::CONFLICT && it.status == "True" && it.reason == "PortConflict")
    };
    eventually!("the condition", bed.services().get(&name).await.expect("it is there"), condition);
    bed.until_global(&name, &["192.0.2.1"]).await;

    // They agree again, which the condition shows.
    put_there(&opted_in(&crate::bed::service("web", "ports: [{name: http, port: 80}, {name: new, port: 2}]"))).await;
    let calm = |service: &Service| {
        let mut conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|it| it.type_ == marks::CONFLICT && it.status == "False")
    };
    eventually!("no conflict", bed.services().get(&name).await.expect("it is there"), calm);
    bed.until_global(&name, &["192.0.2.1", "192.0.2.2"]).await;
    let sources: Vec<String> = bed
        .slices_of(&name)
        .await
        .iter()
        .filter_map(|slice| label(slice.metadata.labels.as_ref(), marks::SOURCE_CLUSTER).map(str::to_owned))
        .collect();
    assert_eq!(sources.len(), 2);

    // One remote is unavailable while the process restarts, and the other one's Service is deleted. The first one's state is
    // unknown, so its part stays.
    mirror.stop().await;
    proxy.cut();
    other
        .delete_yaml(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {}}}", bed.there))
        .await
        .expect("it is there");
    let mirror = bed.start_with(bed.global(), clients()).await.ready().await;
    put_there(&format!(
        "{}\n---\n{}",
        crate::bed::service("control", "ports: [{port: 80}]"),
        crate::bed::slice("c", "control", &[9])
    ))
    .await;
    let control = format!("east-control-6d6972726f720a-{}", bed.there);
    eventually!("the mirror works", bed.addresses(&control).await, |all| all.len() == 1);
    assert!(bed.addresses(&name).await.contains(&"192.0.2.1".to_owned()));
    // The remote is back: the other one's part is deleted, and all of it with the last Service.
    proxy.restore();
    eventually!("the first alone", within Duration::from_secs(30), bed.addresses(&name).await, |all| *all == ["192.0.2.1"]);
    bed.unservice("web").await;
    eventually!("the global Service to go", bed.services().get_opt(&name).await.expect("readable"), Option::is_none);
    mirror.stop().await;
}
