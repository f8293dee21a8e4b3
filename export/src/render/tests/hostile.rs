//! Rule: whatever the names, labels and annotations of a Service contain, a file is valid and lists the right endpoints.

use controlplane::index::Protocol::{self, Tcp, Udp};
use proptest::{collection::vec, prelude::*};
use serde_json::Value;

use super::{
    reading::{self, Contents, truth},
    *,
};
use crate::backend::{Application, fixture::service};

/// Texts with a meaning in some format.
const HOSTILE_TEXTS: [&str; 24] = [
    "{{ env \"HOME\" }}",
    "`) || PathPrefix(`/`",
    "x; } server 203.0.113.9:80; upstream y {",
    "a\n    server evil 203.0.113.9:80",
    "a\r\nbackend evil",
    "\"}], \"evil\": [{\"",
    "'\"\\",
    "../../etc/passwd",
    "..",
    "",
    "#",
    "# comment",
    "key: value",
    "- item",
    "!!python/object",
    "&anchor",
    "*alias",
    "%TAG",
    "no",
    "null",
    "1e3",
    "0x1f",
    "\u{2028}\u{85}\u{feff}",
    "\u{0}\u{1b}[2J",
];

fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(&HOSTILE_TEXTS[..]).prop_map(str::to_owned),
        1 => any::<String>(),
        2 => "[a-z]([a-z0-9-]{0,10}[a-z0-9])?",
    ]
}

#[derive(Clone, Debug)]
struct Hostile {
    namespace: String,
    name: String,
    port: String,
    app_protocol: String,
    transport: Protocol,
    label: (String, String),
    host: String,
    path: String,
    own: String,
    addresses: Vec<(bool, u8)>,
}

prop_compose! {
    fn hostile()(
        (namespace, name, port) in (nasty(), nasty(), nasty()),
        app_protocol in prop_oneof![nasty(), prop::sample::select(&["http", "https", "grpc", "tcp"][..]).prop_map(str::to_owned)],
        udp in any::<bool>(),
        label in (nasty(), nasty()),
        (host, path, own) in (nasty(), nasty(), nasty()),
        addresses in vec((any::<bool>(), 1..20_u8), 0..4),
    ) -> Hostile {
        let transport = if udp { Udp } else { Tcp };
        Hostile { namespace, name, port, app_protocol, transport, label, host, path, own, addresses }
    }
}

fn made(hostile: &Hostile) -> Service {
    let address = |(v6, n): &(bool, u8)| if *v6 { format!("[2001:db8::{n}]:80") } else { format!("192.0.2.{n}:80") };
    // Words of the fixture are told apart by spaces.
    let own = hostile.own.replace(' ', "_");
    let endpoints: Vec<String> = hostile
        .addresses
        .iter()
        .map(|one| format!("{} pod={own} host={own} node={own} zone={own}", address(one)))
        .collect();
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let key = format!("{}/{}", hostile.namespace.replace('/', ""), hostile.name);
    service(&key)
        .label(&hostile.label.0, &hostile.label.1)
        .annotation(&format!("prometheus.io/{}", hostile.label.0), &hostile.label.1)
        .annotation("fanfare/host", &hostile.host)
        .annotation("fanfare/path", &hostile.path)
        .port(&hostile.port, 80, hostile.transport, &hostile.app_protocol, &endpoints)
}

/// Clears the word of backends without endpoints, for formats that have it only with each endpoint.
fn where_there_are_endpoints(said: Contents) -> Contents {
    let one = |(name, (word, addresses)): (String, (String, Vec<_>))| {
        let word = if addresses.is_empty() { String::new() } else { word };
        (name, (word, addresses))
    };
    said.into_iter().map(one).collect()
}

fn check(services: Vec<Service>) {
    let backends = backends(services);
    let udp = |app| app == Application::Udp;
    // ASCII alone shows that texts are quoted.
    assert!(only("default", &backends).is_ascii() && only("traefik", &backends).is_ascii());
    for name in ["traefik", "traefik-json"] {
        let (said, rules) = reading::traefik(&only(name, &backends));
        let scheme = |app: Application| Some(app.scheme().unwrap_or(if udp(app) { "udp" } else { "tcp" }));
        let wanted = truth(&backends, scheme);
        let http = |said: Contents| where_there_are_endpoints(said);
        assert_eq!(http(said), http(wanted));
        for rule in rules.values() {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"`()|& ./_~%+=:@,-".contains(&b);
            assert!(rule.starts_with("Host(`") && rule.bytes().all(plain), "{rule:?}");
            assert!(rule.matches('`').count() <= 4, "one host and one path: {rule:?}");
        }
    }
    let plain = reading::default(&only("default", &backends));
    for backend in &backends {
        let (protocol, targets) = &plain[&*backend.name];
        assert_eq!(*targets, backend.endpoints.iter().map(|endpoint| endpoint.address).collect::<Vec<_>>());
        assert!(
            targets.is_empty() || *protocol == *backend.app_protocol || ["TCP", "UDP"].contains(&protocol.as_str())
        );
    }
    let said = reading::prometheus(&only("prometheus", &backends));
    let mut wanted = truth(&backends, |app| (!udp(app)).then_some(""));
    wanted.retain(|_name, (_word, addresses)| !addresses.is_empty());
    assert_eq!(said, wanted);
    for name in ["envoy", "envoy-cds"] {
        let files = format(name).render(&backends).expect("it can be rendered").files;
        assert_eq!(reading::envoy(&files), truth(&backends, |_app| Some("")), "{name}");
    }
    let mode = |app: Application| (!udp(app)).then_some(if app.is_http() { "http" } else { "tcp" });
    assert_eq!(reading::haproxy(&only("haproxy", &backends)), truth(&backends, mode));
    for line in only("haproxy-map", &backends).lines().skip(1) {
        let (key, name) = line.split_once(' ').expect("a key and a value");
        assert!(key.contains('/') && backends.iter().any(|backend| *backend.name == *name), "{line:?}");
    }
    let http = |app: Application| app.is_http().then_some("");
    assert_eq!(reading::nginx(&only("nginx", &backends)), truth(&backends, http));
    assert_eq!(reading::nginx(&only("nginx-stream", &backends)), truth(&backends, |_app| Some("")));
    let known: Vec<_> = backends.iter().flat_map(|backend| &*backend.endpoints).map(|e| e.address.ip()).collect();
    let hosts = reading::hosts(&only("hosts", &backends));
    assert!(hosts.values().flatten().all(|ip| known.contains(ip)));
    // The format json has the true values, and a template can write the same.
    let json: Value = serde_json::from_str(&only("json", &backends)).expect("JSON");
    let list = json["backends"].as_array().expect("a list");
    assert_eq!(list.len(), backends.len());
    for (said, backend) in list.iter().zip(&backends) {
        assert_eq!(said["name"], *backend.name);
        assert_eq!((&said["namespace"], &said["service"]), (&backend.namespace().into(), &backend.service().into()));
        assert_eq!(said["labels"], serde_json::to_value(&backend.entry.facts.labels).expect("text"));
        let addresses = said["endpoints"].as_array().expect("a list").iter().map(|one| one["address"].clone());
        let wanted = backend.endpoints.iter().map(|endpoint| Value::from(endpoint.address.to_string()));
        assert!(addresses.eq(wanted));
    }
    let template = Format::Template(Template::new("{{ backends | tojson }}").expect("it is right"));
    let by_template = template.render(&backends).expect("it can be rendered");
    assert_eq!(serde_json::from_str::<Value>(text(&by_template.files[0])).expect("JSON"), json["backends"]);
}

proptest! {
    #[test]
    fn hostile_names_do_not_change_the_structure_of_a_file(hostile in vec(hostile(), 0..5)) {
        check(hostile.iter().map(made).collect());
    }
}

#[test]
fn each_nasty_text_in_each_place() {
    let plain = Hostile {
        namespace: "shop".into(),
        name: "web".into(),
        port: "http".into(),
        app_protocol: String::new(),
        transport: Tcp,
        label: ("app".into(), "web".into()),
        host: "shop.example".into(),
        path: "/cart".into(),
        own: "web-0".into(),
        addresses: vec![(false, 1), (true, 2)],
    };
    check(vec![made(&plain)]);
    for text in HOSTILE_TEXTS.map(str::to_owned) {
        let places = [
            Hostile { namespace: text.clone(), ..plain.clone() },
            Hostile { name: text.clone(), ..plain.clone() },
            Hostile { port: text.clone(), ..plain.clone() },
            Hostile { app_protocol: text.clone(), ..plain.clone() },
            Hostile { label: (text.clone(), text.clone()), ..plain.clone() },
            Hostile { host: text.clone(), ..plain.clone() },
            Hostile { path: text.clone(), ..plain.clone() },
            Hostile { own: text, ..plain.clone() },
        ];
        for hostile in places {
            check(vec![made(&hostile), made(&plain)]);
        }
    }
}
