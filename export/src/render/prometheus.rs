//! Prometheus targets: one group for each endpoint, with its labels.
//!
//! The same JSON is what `http_sd_configs` and `file_sd_configs` read. `namespace`, `service`, `backend`, `pod`, `node` and `zone`
//! become labels of every series; everything else begins with `__meta_fanfare_`, for relabelling.

use std::collections::BTreeMap;

use serde::Serialize;
use snapshot::Endpoint;

use super::{LeftOut, leave_out, pretty};
use crate::backend::{Application, Backend};

#[derive(Debug, Serialize)]
struct Group<'a> {
    targets: [String; 1],
    labels: BTreeMap<String, &'a str>,
}

pub(super) fn render(backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let mut groups = Vec::new();
    for backend in backends {
        if matches!(backend.application, Application::Udp | Application::Sctp) {
            leave_out(left_out, &backend.name, "Prometheus scrapes only over TCP");
            continue;
        }
        let shared = shared(backend);
        groups.extend(backend.endpoints.iter().map(|endpoint| {
            let own = own(endpoint).into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            let labels = shared.clone().into_iter().chain(own).collect();
            Group { targets: [endpoint.address.to_string()], labels }
        }));
    }
    pretty(&groups)
}

/// The labels that all endpoints of a backend share.
fn shared(backend: &Backend) -> BTreeMap<String, &str> {
    let facts = &backend.entry.facts;
    let meta = |kind: &str, name: &str| format!("__meta_fanfare_{kind}_{}", label_name(name));
    // Annotations may be confidential or long; those with this prefix are meant for Prometheus.
    let annotations = facts.annotations.iter().filter(|(name, _value)| name.starts_with("prometheus.io/"));
    let mut labels: BTreeMap<String, &str> =
        annotations.map(|(name, value)| (meta("service_annotation", name), value.as_str())).collect();
    labels.extend(facts.labels.iter().map(|(name, value)| (meta("service_label", name), value.as_str())));
    let mut put = |name: &str, value| {
        labels.insert(name.to_owned(), value);
    };
    put("backend", &*backend.name);
    put("namespace", backend.namespace());
    put("service", backend.service());
    put("__meta_fanfare_port_name", &*backend.port.name);
    if backend.application.is_tls() {
        put("__scheme__", "https");
    }
    // An empty value is the same as none.
    labels.retain(|_name, value| !value.is_empty());
    labels
}

fn own(endpoint: &Endpoint) -> [(&'static str, Option<&str>); 6] {
    let conditions = endpoint.conditions;
    let flag = |is: bool| Some(if is { "true" } else { "false" });
    [
        ("pod", endpoint.pod.as_ref().map(|pod| &*pod.name)),
        ("node", endpoint.node.as_deref()),
        ("zone", endpoint.zone.as_deref()),
        ("__meta_fanfare_hostname", endpoint.hostname.as_deref()),
        ("__meta_fanfare_ready", flag(conditions.ready)),
        ("__meta_fanfare_terminating", flag(conditions.terminating)),
    ]
}

/// The text as a label's name, which has only `[a-zA-Z0-9_]`.
fn label_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
