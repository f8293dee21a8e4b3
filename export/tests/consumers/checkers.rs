//! Exported files are valid for the checkers of nginx, HAProxy and Prometheus.

use controlplane::index::Protocol::{Tcp, Udp};
use export::render::FormatOptions;
use testkit::consumers::{Nginx, haproxy_accepts, nginx_accepts, promtool};

use crate::{
    fixture::{Service, service},
    shop::{Folder, UNUSED_ADDRESSES, rendered},
};

/// Services of every protocol and family, with and without endpoints, and with names that are keywords in some format.
pub(crate) fn services() -> Vec<Service> {
    let [v4, v6] = UNUSED_ADDRESSES;
    vec![
        service("shop/web").label("app", "we\"b\n}").annotation("prometheus.io/scrape", "{{ x }}").http(&[v4, v6]),
        service("blue/web").created(2000).http(&[v4]),
        service("shop/idle").http(&[]).port("down", 1, Tcp, "", &["192.0.2.9:80 down"]),
        service("shop/api")
            .port("grpc", 2, Tcp, "", &[v4, v6])
            .port("https", 3, Tcp, "", &[v4])
            .port("tcp", 4, Tcp, "", &[v6])
            .port("dns", 5, Udp, "", &[v4, v6]),
        service("shop/default").http(&[v4]),
        service("shop/backend; }").http(&[v4]),
        service("shop/a\n  b").http(&[v4]),
    ]
}

#[test]
fn nginx_takes_every_upstream() {
    let folder = Folder::new();
    for services in [services(), Vec::new()] {
        folder.write("http.conf", &rendered("nginx", &FormatOptions::default(), services.clone()));
        folder.write("stream.conf", &rendered("nginx-stream", &FormatOptions::default(), services));
        let include = |name: &str| format!("include {};\n", folder.file(name).display());
        let config = Nginx { http: include("http.conf"), stream: include("stream.conf") };
        nginx_accepts(&config).expect("nginx takes it");
    }
    folder.put("http.conf", "upstream empty {}\n");
    let include = format!("include {};\n", folder.file("http.conf").display());
    assert!(nginx_accepts(&Nginx { http: include, ..Nginx::default() }).is_err(), "it does look at the file");
}

#[test]
fn haproxy_takes_every_backend_and_map() {
    let folder = Folder::new();
    for services in [services(), Vec::new()] {
        for trust in ["system", "anyone"] {
            let trust = Some(trust.parse().expect("a trust"));
            let options = FormatOptions { trust, ..FormatOptions::default() };
            folder.write("backends.cfg", &rendered("haproxy", &options, services.clone()));
            haproxy_accepts(&folder.file("backends.cfg")).expect("HAProxy takes it");
        }
    }
    folder.put("backends.cfg", "backend x\n  sever a 192.0.2.1:80\n");
    assert!(haproxy_accepts(&folder.file("backends.cfg")).is_err(), "it does look at the file");
}

#[test]
fn promtool_takes_the_targets() {
    let folder = Folder::new();
    let config = "scrape_configs: [{job_name: k8s, file_sd_configs: [{files: [targets.json]}]}]";
    let config = folder.put("prometheus.yml", config).display().to_string();
    for services in [services(), Vec::new()] {
        folder.write("targets.json", &rendered("prometheus", &FormatOptions::default(), services));
        promtool(&["check", "config", &config]).expect("promtool takes it");
    }
    folder.put("targets.json", "[{\"targets\": 1}]");
    assert!(promtool(&["check", "config", &config]).is_err(), "it does look at the file");
}
