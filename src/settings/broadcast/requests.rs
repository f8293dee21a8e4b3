//! The listener of `fanfare broadcast`, and which requests it takes.

use std::net::SocketAddr;

use ipnet::IpNet;
use proxy::config::{ProxyProtocol, ViaName};

use super::{LISTENER, ROUTE};
use crate::settings::{
    List, Setting, flag, group,
    values::{address, boolean, bytes, network, parsed, positive, size},
};

group!(GROUP, "Requests";
    INTERFACE: Setting<SocketAddr> = flag("interface").short('i').always().at(LISTENER, "listen")
        .default("0.0.0.0:8080").one("ADDRESS:PORT", address),
        "Address and port for requests; port 0 selects a free one. Required in the file";
    KEEPALIVE: Setting<bool> = flag("keepalive").at(LISTENER, "keepalive").default("true").switch(boolean),
        "Client connections carry more than one request";
    HTTP2: Setting<bool> = flag("http2").at(LISTENER, "http2").default("true").switch(boolean),
        "Clients may speak HTTP/2: by prior knowledge, with TLS by ALPN";
    LENIENT_TARGET: Setting<bool> = flag("lenient-target").at(LISTENER, "lenient_target").default("false")
        .switch(boolean),
        "Accepts targets with |^{}\\\" in them, as ban expressions have them, and passes them on unchanged";
    VIA_NAME: Setting<ViaName> = flag("via-name").at(LISTENER, "via_name")
        .default("namespace and service of the pod, else host and listener").one("TEXT", parsed),
        "Name of this deployment in Via, by which it detects loops: the same for all its replicas, and another one \
         for every other tier";
    TRUST_FORWARDED: List<IpNet> = flag("trust-forwarded").at(LISTENER, "trust_forwarded").default("nobody")
        .commas("CIDR", network),
        "Clients whose Forwarded and X-Forwarded-* fields are kept; those of other clients are replaced";
    PROXY_PROTOCOL: Setting<ProxyProtocol> = flag("proxy-protocol").at(LISTENER, "proxy_protocol").default("off")
        .one("off|accept|require", proxy_protocol),
        "Whether connections may, or must, begin with a PROXY header (version 1 or 2), which names the client. Only \
         addresses of --trust-forwarded may send one; with require, any other connection is closed";
    MAX_BODY: Setting<u64> = flag("max-body").at(ROUTE, "max_body").default("unlimited").one("SIZE", size),
        "Longest request body; a longer one gets 413";
    START_AFTER: Setting<u64> = flag("start-after").at(ROUTE, "start_after").default("64KiB").one("SIZE", size),
        "A request goes to the endpoints once its whole body, or this much of it, has arrived, so that slow clients \
         are no load for them. 0: once its head has arrived";
    STREAM: Setting<bool> = flag("stream").at(ROUTE, "stream").default("false").switch(boolean),
        "A request goes to the endpoints with the first piece of its body, whatever --start-after says; for clients \
         that produce a body over time";
    MIN_BODY_RATE: Setting<u64> = flag("min-body-rate").at(ROUTE, "min_body_rate").default("1KiB").one("SIZE", rate),
        "Bytes per second that a client must send of its body on average after the first 10s, else it gets 408; and \
         that it must read of an answer once it no longer reads all of it, else it is disconnected. Only time spent \
         waiting for the client counts. 0: any rate";
    MAX_TARGET: Setting<usize> = flag("max-target").at(LISTENER, "max_target").default("16KiB").one("SIZE", bytes),
        "Longest request target; a longer one gets 414";
    MAX_HEAD: Setting<usize> = flag("max-head").at(LISTENER, "max_head").default("64KiB").one("SIZE", bytes),
        "Longest request head; a longer one gets 431";
    MAX_FIELDS: Setting<usize> = flag("max-fields").at(LISTENER, "max_fields").default("128").one("N", positive),
        "Most header fields of a request; one with more gets 431";
);

fn proxy_protocol(text: &str) -> Result<ProxyProtocol, String> {
    match text {
        "off" | "false" => Ok(ProxyProtocol::Off),
        "accept" => Ok(ProxyProtocol::Accept),
        "require" => Ok(ProxyProtocol::Require),
        _ => Err(format!("{text:?} does not say whether PROXY headers are taken: use off, accept or require")),
    }
}

/// Bytes in a second, which may be said.
fn rate(text: &str) -> Result<u64, String> {
    size(text.strip_suffix("/s").unwrap_or(text))
}
