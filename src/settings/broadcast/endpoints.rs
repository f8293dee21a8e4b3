//! Where the endpoints of `fanfare broadcast` come from.

use std::{path::PathBuf, time::Duration};

use controlplane::{
    build::PortSelector,
    source::{dns, fixed},
};

use super::ROUTE;
use crate::settings::{
    List, ROOT, Setting, flag, group, process,
    values::{duration, is_label, namespace, parsed, path, text},
};

group!(GROUP, "Endpoints";
    SERVICE: List<String> = flag("service").short('s').at(ROUTE, "to.service").commas("[NS/]NAME", text),
        "Kubernetes Service whose endpoints get every request; `*` stands for any characters in namespace and name";
    PORT_NAME: Setting<PortSelector> = flag("port-name").short('p').at(ROUTE, "to.port").one("PORT", port),
        "Port of the Service by name or number; not needed if it has one port";
    ENDPOINTS: List<fixed::Target> = flag("endpoints").at(ROUTE, "to.endpoints").commas("HOST:PORT,...", parsed),
        "Fixed endpoints: addresses ([::1]:80 for IPv6) or host names; a name is one endpoint, which fails while it \
         does not resolve";
    ENDPOINTS_FILE: Setting<PathBuf> = flag("endpoints-file").at(ROUTE, "to.file").one("PATH", path),
        "File of endpoints in Prometheus file_sd form (JSON or YAML); read again when it changes, while a broken file \
         changes nothing";
    ENDPOINTS_DNS: Setting<dns::Query> = flag("endpoints-dns").at(ROUTE, "to.dns").one("NAME:PORT", parsed),
        "DNS name: all its A and AAAA answers are endpoints; an SRV name like _http._tcp.example.org brings its \
         ports; resolved again by TTL";
    DNS_FAMILY: Setting<dns::Family> = flag("dns-family").at(ROOT, "dns_family").default("auto")
        .one("auto|ipv4|ipv6|all", parsed),
        "Addresses of names: one family, or both; with auto, a name of --endpoints-dns that has both stands for its \
         IPv4 addresses, with all for all";
    DNS_MAX_TTL: Setting<Duration> = flag("dns-max-ttl").at(ROOT, "dns_max_ttl").default("30s")
        .one("DURATION", a_second_at_least),
        "Longest time for which a DNS answer is kept, whatever its TTL; at least 1s";
    DNS_NEGATIVE_TTL: Setting<Duration> = flag("dns-negative-ttl").at(ROOT, "dns_negative_ttl").default("5s")
        .one("DURATION", a_second_at_least),
        "The same for the answer that a name does not exist or has no address";
);

group!(KUBERNETES, "Kubernetes";
    + process::KUBECONFIG.entry;
    NAMESPACE: Setting<Option<String>> = flag("namespace").short('n').at("kubernetes", "namespace")
        .default("every namespace").one("NS", namespace),
        "Namespace of Services that are given without one";
);

/// A port of a Service: its name, or its number as endpoints listen on it.
fn port(text: &str) -> Result<PortSelector, String> {
    let invalid = || format!("{text:?} is not a port: use a name like http or a number from 1 to 65535");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|port| *port != 0).map(PortSelector::Number).ok_or_else(invalid);
    }
    if is_label(text) { Ok(PortSelector::Named(text.into())) } else { Err(invalid()) }
}

/// No name is looked up more often.
fn a_second_at_least(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < Duration::from_secs(1) { Err(format!("{text:?} is too short: at least 1s")) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_by_name_and_number() {
        assert_eq!(port("http"), Ok(PortSelector::Named("http".into())));
        assert_eq!(port("8080"), Ok(PortSelector::Number(8080)));
        for text in ["", "0", "65536", "a b", "ht*p"] {
            assert!(port(text).is_err(), "{text:?}");
        }
    }
}
