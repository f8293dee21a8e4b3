//! Tests of the rule that a name never changes because another object appears, and of which ports become backends.

use std::{collections::BTreeMap, slice};

use controlplane::index::Protocol::{Sctp, Tcp, Udp};
use proptest::{collection::vec, prelude::*};

use super::{
    fixture::{Service, catalog, service},
    *,
};

fn model(template: &str) -> Model {
    Model { names: template.parse().unwrap(), ..Model::default() }
}

/// Name and addresses of each backend.
fn listed(backends: &[Backend]) -> Vec<String> {
    let addresses = |backend: &Backend| {
        let all: Vec<String> = backend.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        all.join(" ")
    };
    backends.iter().map(|backend| format!("{}: {}", backend.name, addresses(backend))).collect()
}

fn once(model: &Model, services: impl IntoIterator<Item = Service>) -> Vec<String> {
    listed(&model.backends(&catalog(services), &mut Names::default()))
}

/// The Service that holds each name.
fn holders(names: &mut Names, services: &[Service]) -> BTreeMap<String, String> {
    let backends = Model::default().backends(&catalog(services.to_vec()), names);
    backends.iter().map(|backend| (backend.name.to_string(), backend.entry.key.to_string())).collect()
}

#[test]
fn a_backend_is_called_after_its_service_and_the_number_its_endpoints_listen_on() {
    let all = once(
        &Model::default(),
        [
            service("shop/web").http(&["192.0.2.2:8080", "192.0.2.1:8080", "192.0.2.3:8080 down"]),
            service("shop/api").port("grpc", 50, Tcp, "", &["[2001:db8::1]:9000"]).port(
                "metrics",
                90,
                Tcp,
                "",
                &["192.0.2.9:9100"],
            ),
        ],
    );
    assert_eq!(
        all,
        ["api-9000: [2001:db8::1]:9000", "api-9100: 192.0.2.9:9100", "web-8080: 192.0.2.1:8080 192.0.2.2:8080"]
    );
}

#[test]
fn a_port_whose_endpoints_listen_on_different_numbers_is_a_backend_each_unless_the_template_leaves_the_number_out() {
    let rollout = || service("shop/web").http(&["192.0.2.1:8080", "192.0.2.2:9090"]);
    assert_eq!(once(&Model::default(), [rollout()]), ["web-8080: 192.0.2.1:8080", "web-9090: 192.0.2.2:9090"]);
    let by_name = model("{namespace}.{service}.{port_name}");
    assert_eq!(once(&by_name, [rollout()]), ["shop.web.http: 192.0.2.1:8080 192.0.2.2:9090"]);
}

#[test]
fn two_names_for_one_port_of_the_pods_are_one_backend_with_the_protocol_of_the_first() {
    let web = service("shop/web").port("web", 80, Tcp, "http", &["192.0.2.1:8080"]).port(
        "admin",
        81,
        Tcp,
        "https",
        &["192.0.2.1:8080", "192.0.2.2:8080"],
    );
    let backends = Model::default().backends(&catalog([web]), &mut Names::default());
    assert_eq!(listed(&backends), ["web-8080: 192.0.2.1:8080 192.0.2.2:8080"]);
    assert_eq!(
        (backends[0].application, &*backends[0].port.name, backends[0].service_port),
        (Application::Http, "web", 80)
    );
}

#[test]
fn of_one_number_tcp_has_the_short_name_and_other_protocols_are_named_after_themselves() {
    let dns = service("kube/dns")
        .port("dns", 53, Udp, "", &["192.0.2.1:53"])
        .port("dns-tcp", 53, Tcp, "", &["192.0.2.1:53"])
        .port("dns-sctp", 53, Sctp, "", &["192.0.2.1:53"]);
    let only_udp = service("kube/ntp").port("ntp", 123, Udp, "", &["192.0.2.1:123"]);
    let backends = Model::default().backends(&catalog([dns, only_udp]), &mut Names::default());
    let said: Vec<String> = backends.iter().map(|b| format!("{} {}", b.name, b.application)).collect();
    // The prefix of `dns-tcp` says nothing about the protocol, so it counts as HTTP.
    assert_eq!(said, ["dns-53 http", "dns-53-sctp sctp", "dns-53-udp udp", "ntp-123 udp"]);
}

#[test]
fn ports_that_a_template_cannot_tell_apart_are_told_apart_by_their_names() {
    let two = service("shop/web").port("http", 80, Tcp, "", &["192.0.2.1:8080"]).port(
        "metrics",
        90,
        Tcp,
        "",
        &["192.0.2.1:9100"],
    );
    assert_eq!(once(&model("{service}"), [two]), ["web: 192.0.2.1:8080", "web-metrics: 192.0.2.1:9100"]);
}

#[test]
fn only_the_chosen_ports_count() {
    let web = || {
        service("shop/web").port("http", 80, Tcp, "", &["192.0.2.1:8080"]).port(
            "metrics",
            90,
            Tcp,
            "",
            &["192.0.2.1:9100"],
        )
    };
    let with = |ports: &[&str], template: &str| {
        let ports = ports.iter().map(|port| port.parse().unwrap()).collect();
        once(&Model { ports, ..model(template) }, [web()])
    };
    assert_eq!(with(&["metrics"], "{service}-{port}"), ["web-9100: 192.0.2.1:9100"]);
    assert_eq!(with(&["8080"], "{service}-{port}"), ["web-8080: 192.0.2.1:8080"]);
    assert_eq!(with(&["8080"], "{service}"), ["web: 192.0.2.1:8080"]);
    assert!(with(&["80"], "{service}-{port}").is_empty(), "the Service's own number is not what pods listen on");
    assert_eq!(with(&["9100", "http"], "{service}-{port}").len(), 2);
}

#[test]
fn a_backend_stays_while_nobody_is_ready() {
    let down = || service("shop/web").http(&["192.0.2.1:8080 down"]);
    assert_eq!(once(&Model::default(), [down()]), ["web-8080: "]);
    let nobody = || service("shop/web").http(&[]).idle();
    assert_eq!(once(&model("{service}-{port_name}"), [nobody()]), ["web-http: "]);
}

#[test]
fn a_service_scaled_to_nothing_keeps_its_backends() {
    let model = Model::default();
    let web = || service("shop/web").http(&["192.0.2.1:8080", "192.0.2.2:9090"]);
    let both = ["web-8080: ", "web-9090: "];
    let mut names = Names::default();
    let mut after = |service: Service| listed(&model.backends(&catalog([service]), &mut names));
    after(web());
    assert_eq!(after(web().idle()), both, "as its endpoints had it last");
    assert_eq!(after(web().idle().unread()), both, "though nothing says which ports it has");
    assert_eq!(after(web()).len(), 2);
    let renamed = service("shop/web").port("https", 443, Tcp, "", &[]).target(8443).idle();
    assert_eq!(after(renamed), ["web-8443: "], "a port that it no longer has is over");
    assert_eq!(after(web().idle()), ["web-80: "], "and what it had is forgotten");
    // After a restart the ports come from the Service.
    let idle = || service("shop/web").http(&[]).target(8080).idle();
    assert_eq!(once(&model, [idle()]), ["web-8080: "]);
    let by_name = service("shop/web").http(&[]).idle();
    assert_eq!(once(&model, [by_name]), ["web-80: "], "only pods know which number a name stands for");
    let chosen = |port: &str| Model { ports: vec![port.parse().unwrap()], ..Model::default() };
    assert_eq!(once(&chosen("8080"), [idle()]), ["web-8080: "]);
    assert_eq!(once(&chosen("http"), [idle()]), ["web-8080: "]);
    assert!(once(&chosen("9090"), [idle()]).is_empty());
    let spoken = service("shop/api").port("api", 80, Tcp, "kubernetes.io/h2c", &["192.0.2.1:80"]);
    assert_eq!(model.backends(&catalog([spoken.clone()]), &mut names).len(), 1);
    let idle = model.backends(&catalog([spoken.idle().unread()]), &mut names);
    assert_eq!(idle[0].application, Application::H2c, "what was spoken on it");
}

#[test]
fn a_port_without_endpoints_takes_no_name_from_one_that_has_some() {
    let web = service("shop/web")
        .port("udp", 8080, Udp, "", &[])
        .port("old", 8080, Tcp, "https", &[])
        .http(&["192.0.2.1:8080"]);
    let backends = Model::default().backends(&catalog([web]), &mut Names::default());
    assert_eq!(listed(&backends), ["web-8080: 192.0.2.1:8080", "web-8080-udp: "]);
    assert_eq!((&*backends[0].port.name, backends[0].application), ("http", Application::Http));
}

#[test]
fn the_oldest_keeps_the_short_name_and_a_later_namesake_gets_its_namespace() {
    let late = || service("a/web").created(2000).http(&["192.0.2.1:80"]);
    let early = || service("b/web").created(1000).http(&["192.0.2.2:80"]);
    assert_eq!(once(&Model::default(), [early(), late()]), ["a-web-80: 192.0.2.1:80", "web-80: 192.0.2.2:80"]);
    // A name that already contains the namespace stays the same.
    assert_eq!(
        once(&model("{namespace}-{service}"), [early(), late()]),
        ["a-web: 192.0.2.1:80", "b-web: 192.0.2.2:80"]
    );
}

#[test]
fn a_name_stays_where_a_namesake_of_the_same_second_or_an_older_one_appears() {
    let there = service("b/web").http(&["192.0.2.1:80"]);
    let mut names = Names::default();
    assert_eq!(holders(&mut names, slice::from_ref(&there))["web-80"], "b/web");
    let same_second = service("a/web").http(&["192.0.2.2:80"]);
    let labelled_later = service("c/web").created(1).http(&["192.0.2.3:80"]);
    let all = [there, same_second, labelled_later];
    let after = holders(&mut names, &all);
    assert_eq!(after["web-80"], "b/web");
    assert_eq!((after["a-web-80"].as_str(), after["c-web-80"].as_str()), ("a/web", "c/web"));
    assert_eq!(holders(&mut Names::default(), &all)["web-80"], "c/web", "without memory the oldest has it");
}

#[test]
fn a_name_is_not_handed_on_while_its_holder_is_there_and_not_to_somebody_who_has_one() {
    let mut names = Names::default();
    let first = service("a/web").created(1).http(&["192.0.2.1:80"]);
    let second = service("b/web").created(2).http(&["192.0.2.2:80"]);
    holders(&mut names, &[first.clone(), second.clone()]);
    // Scaled to nothing, and back.
    let idle = service("a/web").created(1).http(&[]);
    let third = service("c/web").created(3).http(&["192.0.2.3:80"]);
    let meanwhile = holders(&mut names, &[idle, second.clone(), third.clone()]);
    assert_eq!(meanwhile.keys().collect::<Vec<_>>(), ["b-web-80", "c-web-80", "web-80"]);
    assert_eq!(holders(&mut names, &[first, second.clone(), third.clone()])["web-80"], "a/web");
    // After the holder is deleted, Services with a name keep theirs, and a new Service may take the free one.
    assert_eq!(
        holders(&mut names, &[second.clone(), third.clone()]).keys().collect::<Vec<_>>(),
        ["b-web-80", "c-web-80"]
    );
    let fourth = service("d/web").created(4).http(&["192.0.2.4:80"]);
    assert_eq!(holders(&mut names, &[second, third, fourth])["web-80"], "d/web");
}

#[test]
fn a_long_name_that_somebody_has_already_is_told_apart_by_a_hash() {
    let all = once(
        &Model::default(),
        [
            service("x/shop-web").created(1).http(&["192.0.2.1:80"]),
            service("y/web").created(2).http(&["192.0.2.2:80"]),
            service("shop/web").created(3).http(&["192.0.2.3:80"]),
        ],
    );
    assert_eq!(all[0], "shop-web-80: 192.0.2.1:80");
    assert_eq!(all[1], "web-80: 192.0.2.2:80");
    let (hashed, rest) = all[2].split_once(':').unwrap();
    assert!(hashed.starts_with("web-80-") && hashed.len() == "web-80-".len() + 10, "{all:?}");
    assert_eq!(rest, " 192.0.2.3:80");
}

/// A few Services with few names, so that they collide.
fn services() -> impl Strategy<Value = Vec<(u8, u8, i64, u8)>> {
    vec((0..3_u8, 0..3_u8, 0..3_i64, 0..3_u8), 0..8)
}

fn made(facts: &[(u8, u8, i64, u8)]) -> Vec<Service> {
    let mut made: BTreeMap<String, Service> = BTreeMap::new();
    for (namespace, name, created, endpoints) in facts {
        let names = ["web", "a-web", "b"];
        let key = format!("{}/{}", ["a", "b", "a-a"][usize::from(*namespace)], names[usize::from(*name)]);
        let addresses: Vec<String> = (0..*endpoints).map(|n| format!("192.0.2.{}:80", n + 1)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        made.insert(key.clone(), service(&key).created(*created).http(&addresses));
    }
    made.into_values().collect()
}

proptest! {
    #[test]
    fn names_are_unique_and_stay_whatever_comes_and_goes(steps in vec(services(), 1..6)) {
        let mut names = Names::default();
        let mut before: BTreeMap<String, String> = BTreeMap::new();
        for step in steps {
            let now = made(&step);
            let backends = Model::default().backends(&catalog(now), &mut names);
            let after: BTreeMap<String, String> =
                backends.iter().map(|b| (format!("{} {}", b.entry.key, b.number), b.name.to_string())).collect();
            let unique: std::collections::BTreeSet<&String> = after.values().collect();
            prop_assert_eq!(unique.len(), backends.len());
            prop_assert!(backends.is_sorted_by(|a, b| a.name < b.name));
            for (who, name) in &after {
                if let Some(old) = before.get(who) {
                    prop_assert_eq!(old, name, "{} has been there all the time", who);
                }
            }
            before = after;
        }
    }

    #[test]
    fn services_that_have_not_changed_need_not_be_read_again(steps in vec(services(), 1..8)) {
        let (mut names, mut fresh) = (Names::default(), Names::default());
        let mut before = Catalog::default();
        for step in steps {
            let read_again = catalog(made(&step));
            let mut now = read_again.clone();
            for (key, entry) in &before.services {
                // As in a real catalog, an entry is another one only where it differs.
                if now.services.get(key).is_some_and(|same| same == entry) {
                    now.services.insert(key.clone(), entry.clone());
                }
            }
            let model = Model::default();
            prop_assert_eq!(model.backends(&now, &mut names), model.backends(&read_again, &mut fresh));
            before = now;
        }
    }

    #[test]
    fn every_name_is_safe_and_short(namespace in "\\PC{0,300}", name in "\\PC{0,300}", port in "\\PC{0,20}") {
        let odd = |created: i64| {
            let namespace = namespace.replace('/', "") + if created > 1 { "2" } else { "" };
            service(&format!("{namespace}/{name}")).created(created).port(&port, 80, Tcp, "", &["192.0.2.1:80"])
        };
        for template in ["{service}-{port}", "{port_name}{service}", "{service}.{namespace}.{port_name}"] {
            let backends = model(template).backends(&catalog([odd(1), odd(2)]), &mut Names::default());
            prop_assert_eq!(backends.len(), 2);
            for backend in backends {
                let name = &*backend.name;
                prop_assert!(name.len() <= 200 && name.starts_with(|c: char| c.is_ascii_alphanumeric()), "{}", name);
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)), "{}", name);
            }
        }
    }
}
