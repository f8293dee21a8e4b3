//! Catalogs written by hand, for tests: their endpoints go through EndpointSlices and the index, as those of a cluster do.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use controlplane::{
    catalog::{Catalog, Entry, Facts, ServicePort},
    index::{Index, Protocol, ServiceKey, View},
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

/// A Service under construction.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    key: ServiceKey,
    facts: Facts,
    slices: Vec<Value>,
}

/// A Service of that `namespace/name`, created at second 1000.
pub(crate) fn service(key: &str) -> Service {
    let (namespace, name) = key.split_once('/').expect("namespace/name");
    let key = ServiceKey { namespace: namespace.into(), name: name.into() };
    Service { key, facts: Facts { created: 1000, ..Facts::default() }, slices: Vec::new() }
}

/// A catalog of these Services.
pub(crate) fn catalog(services: impl IntoIterator<Item = Service>) -> Catalog {
    let entries = services.into_iter().map(|service| Arc::new(service.entry()));
    let mut catalog = Catalog::default();
    catalog.services = entries.map(|entry| (entry.key.clone(), entry)).collect();
    catalog.sequence = 1;
    catalog
}

impl Service {
    pub(crate) fn created(mut self, seconds: i64) -> Self {
        self.facts.created = seconds;
        self
    }

    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.facts.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.facts.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// A TCP port called `http`, number 80, with these endpoints (see [`Service::port`]).
    pub(crate) fn http(self, endpoints: &[&str]) -> Self {
        self.port("http", 80, Protocol::Tcp, "", endpoints)
    }

    /// A port with its endpoints. Each is `ip:port`, and behind that, in any order, `ending` (serves, terminates, is not
    /// ready), `down` (neither ready nor serving), `pod=`, `host=`, `node=` and `zone=`.
    pub(crate) fn port(
        mut self,
        name: &str,
        number: u16,
        protocol: Protocol,
        app_protocol: &str,
        endpoints: &[&str],
    ) -> Self {
        let mut slices: BTreeMap<(u16, bool), Vec<Value>> = BTreeMap::new();
        for text in endpoints {
            let (address, endpoint) = endpoint(text);
            slices.entry((address.port(), address.is_ipv6())).or_default().push(endpoint);
        }
        let transport = match protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        for ((target, v6), endpoints) in slices {
            self.slices.push(json!({
                "addressType": if v6 { "IPv6" } else { "IPv4" },
                "endpoints": endpoints,
                "ports": [{"name": name, "port": target, "protocol": transport, "appProtocol": app_protocol}],
            }));
        }
        let app_protocol = app_protocol.into();
        self.facts.ports.push(ServicePort { name: name.into(), number, target: None, protocol, app_protocol });
        self
    }

    /// The port that was added last has this `targetPort`; without one it is a name.
    pub(crate) fn target(mut self, number: u16) -> Self {
        self.facts.ports.last_mut().expect("a port comes first").target = Some(number);
        self
    }

    /// Scaled to zero: its controller leaves only a slice without ports.
    pub(crate) fn idle(mut self) -> Self {
        self.slices = vec![json!({"addressType": "IPv4", "endpoints": [], "ports": null})];
        self
    }

    /// Known by its slices alone, for want of the right to read Services.
    pub(crate) fn unread(mut self) -> Self {
        self.facts.ports.clear();
        self
    }

    fn entry(self) -> Entry {
        let mut index = Index::default();
        for (number, mut slice) in self.slices.into_iter().enumerate() {
            slice["metadata"] = json!({
                "name": format!("slice-{number}"),
                "namespace": &*self.key.namespace,
                "labels": {"kubernetes.io/service-name": &*self.key.name},
            });
            let slice: EndpointSlice = serde_json::from_value(slice).expect("a valid slice");
            index.apply(&slice);
        }
        let view: Arc<View> = index.views().into_iter().next().map(|(_key, view)| view).unwrap_or_default();
        Entry { key: self.key, facts: self.facts, view }
    }
}

fn endpoint(text: &str) -> (SocketAddr, Value) {
    let mut words = text.split(' ');
    let address: SocketAddr = words.next().and_then(|word| word.parse().ok()).expect("ip:port first");
    let mut endpoint = json!({"addresses": [address.ip().to_string()]});
    for word in words {
        match word.split_once('=') {
            Some(("pod", name)) => {
                endpoint["targetRef"] = json!({"kind": "Pod", "name": name, "uid": format!("{name}-{address}")});
            }
            Some(("host", name)) => endpoint["hostname"] = name.into(),
            Some(("node", name)) => endpoint["nodeName"] = name.into(),
            Some(("zone", name)) => endpoint["zone"] = name.into(),
            None if word == "ending" => {
                endpoint["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
            }
            None if word == "down" => endpoint["conditions"] = json!({"ready": false, "serving": false}),
            _ => panic!("{word:?} says nothing about an endpoint"),
        }
    }
    (address, endpoint)
}
