//! Where the endpoints of `fanfare broadcast` come from.

use std::time::Duration;

use controlplane::{
    build::PortSelector,
    source::{dns, file::FilePattern, fixed, http::ListUrl},
};
use proxy::config::UpstreamProtocol;

use super::ROUTE;
use crate::settings::{
    List, ROOT, Setting, flag, group, process,
    values::{duration, is_label, namespace, parsed, text},
};

group!(GROUP, "Endpoints";
    SERVICE: List<String> = flag("service").short('s').at(ROUTE, "to.service").commas("[NS/]NAME", text),
        "Kubernetes Service whose endpoints get every request; `*` stands for any characters in namespace and name";
    PORT_NAME: Setting<PortSelector> = flag("port-name").short('p').at(ROUTE, "to.port").one("PORT", port),
        "Port of the Service by name or number; not needed if it has one port";
    ENDPOINTS: List<fixed::Target> = flag("endpoints").at(ROUTE, "to.endpoints").commas("[https://]HOST:PORT,...", parsed),
        "Fixed endpoints: addresses ([::1]:80 for IPv6) or host names; a name is one endpoint, which fails while it \
         does not resolve. With https:// before it, TLS is used";
    ENDPOINTS_FILE: Setting<FilePattern> = flag("endpoints-file").at(ROUTE, "to.file").one("PATH", parsed),
        "File of endpoints in Prometheus file_sd format (JSON or YAML), or a pattern like 'targets/*.json' for \
         several; read again when one changes; an invalid file changes nothing";
    ENDPOINTS_URL: Setting<ListUrl> = flag("endpoints-url").at(ROUTE, "to.url").one("URL", parsed),
        "HTTP server that answers with endpoints in Prometheus http_sd format (JSON); any other answer changes \
         nothing. A \
         user and password in the URL are sent and never shown";
    ENDPOINTS_REFRESH: Setting<Duration> = flag("endpoints-refresh").at(ROUTE, "to.refresh").default("30s")
        .one("DURATION", a_second_at_least),
        "Interval of requests to that server; at least 1s. SIGHUP causes one at once";
    ENDPOINTS_DNS: Setting<dns::Query> = flag("endpoints-dns").at(ROUTE, "to.dns").one("NAME:PORT", parsed),
        "DNS name: all its A and AAAA answers are endpoints; an SRV name like _http._tcp.example.org has its ports; \
         resolved again by TTL";
    UPSTREAM_PROTOCOL: Setting<UpstreamProtocol> = flag("upstream-protocol").at(ROUTE, "to.protocol").default("auto")
        .one("auto|http1|h2", upstream_protocol),
        "Protocol for endpoints: HTTP/1.1, HTTP/2, or with auto the one negotiated by TLS (ALPN), without TLS that of \
         appProtocol (kubernetes.io/h2c and grpc: HTTP/2), else HTTP/1.1";
    DNS_FAMILY: Setting<dns::DnsFamily> = flag("dns-family").at(ROOT, "dns_family").default("auto")
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
    + process::CONTEXT.entry;
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

/// Nobody is asked more often: neither the DNS for a name nor a server for a list.
fn a_second_at_least(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time < Duration::from_secs(1) { Err(format!("{text:?} is too short: at least 1s")) } else { Ok(time) }
}

fn upstream_protocol(text: &str) -> Result<UpstreamProtocol, String> {
    match text {
        "auto" => Ok(UpstreamProtocol::Auto),
        "http1" => Ok(UpstreamProtocol::Http1),
        "h2" => Ok(UpstreamProtocol::H2),
        _ => Err(format!("{text:?} is not a protocol: use auto, http1 or h2")),
    }
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
