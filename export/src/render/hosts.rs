//! Lines as in `/etc/hosts`: every Service by its name, and every endpoint by its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{LeftOut, leave_out, route::is_host};
use crate::backend::Backend;

/// `<service>.<namespace>` leads to all of a Service's endpoints, `<hostname or pod>.<service>.<namespace>` to one, and so does the
/// bare name of its pod if it is unambiguous.
pub(super) fn render(backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let mut lines: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    let bare = bare_names(backends);
    for backend in backends {
        let service = format!("{}.{}", backend.service(), backend.namespace());
        if !is_host(&service) {
            leave_out(left_out, &service.into(), "the Service's name is not a DNS name");
            continue;
        }
        for endpoint in &*backend.endpoints {
            let names = lines.entry(endpoint.address.ip()).or_default();
            // Names of an endpoint that are not valid in DNS are left out without a report: the Service's name still leads there.
            let pod = endpoint.pod.as_ref().map(|pod| &*pod.name);
            let own = endpoint.hostname.as_deref().or(pod);
            names.extend(own.map(|own| format!("{own}.{service}")).filter(|name| is_host(name)));
            names.extend(pod.filter(|pod| bare.contains(*pod)).map(str::to_owned));
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

/// The pod names that are unambiguous without their Service: those of exactly one pod which are neither a Service's name, nor a name
/// with dots, nor `localhost`.
fn bare_names(backends: &[Backend]) -> BTreeSet<&str> {
    let services: BTreeSet<&str> = backends.iter().map(Backend::service).collect();
    let mut pods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for pod in backends.iter().flat_map(|backend| &*backend.endpoints).filter_map(|endpoint| endpoint.pod.as_ref()) {
        pods.entry(&pod.name).or_default().insert(&pod.namespace);
    }
    let alone =
        |name: &str| is_host(name) && !name.contains('.') && !name.ends_with("localhost") && !services.contains(name);
    pods.into_iter().filter(|(name, namespaces)| namespaces.len() == 1 && alone(name)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{
        Model, Names,
        fixture::{catalog, service},
    };

    #[test]
    fn a_pod_has_its_bare_name_where_that_can_mean_nothing_else() {
        let all = [
            service("a/web").http(&["192.0.2.1:80 pod=web-0", "192.0.2.2:80 pod=db", "192.0.2.3:80 pod=localhost"]),
            service("a/db").http(&["192.0.2.4:80 pod=same", "192.0.2.5:80 pod=example.com", "192.0.2.1:80 pod=web-0"]),
            service("b/db").http(&["192.0.2.6:80 pod=same"]),
        ];
        let backends = Model::default().backends(&catalog(all), &mut Names::default());
        let text = render(&backends, &mut Vec::new());
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "192.0.2.1 db.a web-0 web-0.db.a web-0.web.a web.a",
                "192.0.2.2 db.web.a web.a",
                "192.0.2.3 localhost.web.a web.a",
                "192.0.2.4 db.a same.db.a",
                "192.0.2.5 db.a example.com.db.a",
                "192.0.2.6 db.b same.db.b",
            ]
        );
    }
}
