//! Every format's files, compared with those in `tests/golden`. `UPDATE_GOLDEN=1` writes them anew.

use std::{env, fs, path::Path};

use controlplane::index::Protocol::{Sctp, Tcp, Udp};

use super::*;
use crate::backend::fixture::service;

/// One Service for every rule.
fn shop() -> Vec<Service> {
    vec![
        service("shop/web")
            .label("app", "web")
            .label("team", "edge \"one\"")
            .annotation("fanfare/host", "shop.example,www.shop.example")
            .annotation("fanfare/path", "/cart")
            .annotation("fanfare/entrypoints", "websecure")
            .annotation("fanfare/middlewares", "auth@file")
            .annotation("fanfare/priority", "10")
            .annotation("fanfare/tls", "letsencrypt")
            .annotation("prometheus.io/scrape", "true")
            .http(&[
                "192.0.2.1:8080 pod=web-0 node=n1 zone=a",
                "192.0.2.2:8080 pod=web-1 node=n2 zone=b",
                "192.0.2.3:8080 pod=web-2 node=n3 zone=b ending",
                "192.0.2.4:8080 pod=web-3 down",
            ]),
        // A namesake, which is younger, and IPv6.
        service("blue/web")
            .created(2000)
            .annotation("fanfare/host", "blue.example")
            .annotation("fanfare/tls", "true")
            .http(&["[2001:db8::1]:8080", "[2001:db8::2]:8080 host=b"]),
        service("shop/api")
            .port("grpc", 50, Tcp, "", &["192.0.2.10:9000"])
            .port("admin", 443, Tcp, "https", &["192.0.2.10:8443"])
            .port("events", 90, Tcp, "kubernetes.io/h2c", &["192.0.2.10:9001"])
            .port("chat", 91, Tcp, "kubernetes.io/ws", &["192.0.2.10:9002"]),
        service("shop/db").port("postgres", 5432, Tcp, "", &["192.0.2.20:5432", "[2001:db8::20]:5432"]),
        service("kube-system/dns").port("dns", 53, Udp, "", &["192.0.2.53:53"]).port(
            "dns-tcp",
            53,
            Tcp,
            "tcp",
            &["192.0.2.53:53"],
        ),
        service("phone/ss7").port("m3ua", 2905, Sctp, "", &["192.0.2.60:2905"]),
        // No endpoint is ready.
        service("shop/idle").annotation("fanfare/host", "idle.example").http(&["192.0.2.70:8080 down"]),
        // An invalid annotation.
        service("shop/odd").annotation("fanfare/host", "{{ env \"HOME\" }}").http(&["192.0.2.80:8080"]),
    ]
}

fn compare(case: &str, services: Vec<Service>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
    let backends = backends(services);
    let (mut wrong, mut left_out) = (Vec::new(), String::new());
    let mut check = |name: String, text: &str| {
        let path = folder.join(&name);
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder can be made");
            fs::write(&path, text).expect("it can be written");
        } else if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            wrong.push(format!("{name} should be:\n{text}"));
        }
    };
    for name in ALL {
        let format = format(name);
        let rendered = format.render(&backends).expect("it can be rendered");
        for file in &rendered.files {
            assert!(!file.bytes.is_empty(), "{name}: an empty file cannot be told from one that was cut");
            let name = match file.name.as_str() {
                "" => format.extension().to_owned(),
                part => format!("{}/{part}", format.extension()),
            };
            check(name, text(file));
        }
        let told = rendered.left_out.iter().map(|one| format!("{name}: {}: {}\n", one.what, one.why));
        left_out.extend(told);
    }
    check("left-out".to_owned(), &left_out);
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew", wrong.join("\n"));
}

#[test]
fn every_format_is_what_the_golden_files_say() {
    compare("shop", shop());
}

#[test]
fn every_format_can_be_empty() {
    compare("nothing", Vec::new());
    assert_eq!(only("traefik", &[]), "{}\n");
    assert_eq!(only("traefik-json", &[]), "{}\n");
    assert_eq!(only("prometheus", &[]), "[]\n");
    assert_eq!(only("default", &[]), "backends: []\n");
}

#[test]
fn the_order_in_which_services_come_changes_nothing() {
    let mut services = shop();
    let forward = backends(services.clone());
    services.reverse();
    let backward = backends(services);
    for name in ALL {
        assert_eq!(format(name).render(&forward), format(name).render(&backward), "{name}");
    }
}

#[test]
fn options_show_in_the_files() {
    let backends = backends(shop());
    let made = |name: &str, options: FormatOptions| {
        let rendered = Format::parse(name, &options).expect("it fits").render(&backends).expect("it can be rendered");
        text(rendered.files.last().expect("there is a file")).to_owned()
    };
    let trust =
        |trust: &str| FormatOptions { trust: Some(trust.parse().expect("a trust")), ..FormatOptions::default() };
    assert!(made("haproxy", trust("anyone")).contains("192.0.2.10:8443 ssl verify none\n"));
    assert!(made("haproxy", trust("/etc/ca.pem")).contains("ssl verify required ca-file /etc/ca.pem\n"));
    assert!(made("envoy-cds", trust("/etc/ca.pem")).contains("\"filename\": \"/etc/ca.pem\""));
    assert!(!made("envoy-cds", trust("anyone")).contains("validation_context"));
    let directory = Some("/srv/envoy/".to_owned());
    let envoy = made("envoy", FormatOptions { directory, ..FormatOptions::default() });
    assert!(envoy.contains("\"/srv/envoy/eds/web-8080.json\""), "{envoy}");
    let servers_transport = Some("internal@file".to_owned());
    let traefik = made("traefik", FormatOptions { servers_transport, ..FormatOptions::default() });
    assert_eq!(traefik.matches("serversTransport: internal@file").count(), 1, "where TLS is spoken: {traefik}");
    assert!(!traefik.contains("routers"), "nobody has asked for them");
}

#[test]
fn members_that_are_not_ready_are_told_to_envoy() {
    let model = Model { members: "known".parse().expect("it is one"), ..Model::default() };
    let backends = model.backends(&catalog(shop()), &mut Names::default());
    let envoy = only("envoy-cds", &backends);
    assert_eq!((envoy.matches("DRAINING").count(), envoy.matches("UNHEALTHY").count()), (1, 2), "{envoy}");
}
