//! Lines as in `/etc/hosts`: every Service by its name, and every endpoint by its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{LeftOut, leave_out, route::is_host};
use crate::backend::Backend;

/// `<service>.<namespace>` leads to all of a Service's endpoints, `<hostname or pod>.<service>.<namespace>` to one.
pub(super) fn render(backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let mut lines: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    for backend in backends {
        let service = format!("{}.{}", backend.service(), backend.namespace());
        if !is_host(&service) {
            leave_out(left_out, &service.into(), "the Service's name is no DNS name");
            continue;
        }
        for endpoint in &backend.endpoints {
            let names = lines.entry(endpoint.address.ip()).or_default();
            // Of an endpoint's own names, what is none in DNS is left out without a word: the Service's still leads there.
            let own = endpoint.hostname.as_deref().or(endpoint.pod.as_ref().map(|pod| &*pod.name));
            names.extend(own.map(|own| format!("{own}.{service}")).filter(|name| is_host(name)));
            names.insert(service.clone());
        }
    }
    let mut text = String::from("# Made by fanfare: changes here are lost.\n");
    for (ip, names) in lines {
        let names: Vec<String> = names.into_iter().collect();
        text.push_str(&format!("{ip} {}\n", names.join(" ")));
    }
    text
}
