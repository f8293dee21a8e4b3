//! Traefik's dynamic configuration: `http`, `tcp` and `udp` services, and routers where Services ask for them.
//!
//! Rule: an empty section is left out, and a file without any is `{}`. Traefik refuses `http: {}` and an empty `services`, and
//! with it the whole folder that the file lies in. A service without servers it does take, and answers 503.
//!
//! Traefik's file provider runs files through a template engine first (`{{ env "SECRET" }}`): no text of a Service comes in here
//! in which a brace could stand.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    FormatOptions, InvalidFormat, LeftOut, leave_out, pretty,
    route::{Route, Routes, Tls, is_traefik_name, routes},
    yaml::to_yaml,
};
use crate::backend::{Application, Backend};

/// What to put into a Traefik file besides the services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traefik {
    routers: bool,
    servers_transport: Option<String>,
}

type Section<'a, T> = BTreeMap<&'a str, T>;

#[derive(Debug, Default, Serialize)]
struct Configuration<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Transport<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    udp: Option<Transport<'a>>,
}

#[derive(Debug, Serialize)]
struct Http<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    routers: BTreeMap<String, Router<'a>>,
    services: Section<'a, Service<HttpServers<'a>>>,
}

#[derive(Debug, Serialize)]
struct Transport<'a> {
    services: Section<'a, Service<Servers<Address>>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Service<T> {
    load_balancer: T,
}

#[derive(Debug, Serialize)]
struct Servers<T> {
    servers: Vec<T>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpServers<'a> {
    servers: Vec<Url>,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers_transport: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Url {
    url: String,
}

#[derive(Debug, Serialize)]
struct Address {
    address: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Router<'a> {
    rule: String,
    service: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entry_points: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    middlewares: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<RouterTls<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RouterTls<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cert_resolver: Option<&'a str>,
}

impl Traefik {
    pub(super) fn new(options: &FormatOptions) -> Result<Self, InvalidFormat> {
        let servers_transport = options.servers_transport.clone();
        if let Some(name) = servers_transport.as_ref().filter(|name| !is_traefik_name(name)) {
            let why = format!("{name:?} is no name of a serversTransport (letters, digits and any of ._@-)");
            return Err(InvalidFormat::Value { option: "servers transport", why });
        }
        Ok(Self { routers: options.routers, servers_transport })
    }

    /// The routes that Services ask for, if anybody wants them.
    fn routes<'a>(&self, backends: &'a [Backend], left_out: &mut Vec<LeftOut>) -> Routes<'a> {
        if self.routers { routes(backends, left_out) } else { Routes::new() }
    }

    fn configuration<'a>(
        &'a self,
        backends: &'a [Backend],
        routes: &'a Routes<'a>,
        left_out: &mut Vec<LeftOut>,
    ) -> Configuration<'a> {
        let mut services = BTreeMap::new();
        let (mut tcp, mut udp) = (BTreeMap::new(), BTreeMap::new());
        for backend in backends {
            let name = &*backend.name;
            match backend.application {
                Application::Sctp => leave_out(left_out, &backend.name, "Traefik has no services for SCTP"),
                Application::Tcp => drop(tcp.insert(name, transport(backend))),
                Application::Udp => drop(udp.insert(name, transport(backend))),
                application => {
                    let scheme = application.scheme().expect("whatever is none of these three is HTTP");
                    let servers = backend.endpoints.iter().map(|e| Url { url: format!("{scheme}://{}", e.address) });
                    let servers_transport = self.servers_transport.as_deref().filter(|_| application.is_tls());
                    let load_balancer = HttpServers { servers: servers.collect(), servers_transport };
                    services.insert(name, Service { load_balancer });
                }
            }
        }
        let routers = routes.iter().flat_map(|(name, route)| routers_of(name, route)).collect();
        let section = |services: Section<'a, _>| (!services.is_empty()).then_some(Transport { services });
        Configuration {
            http: (!services.is_empty()).then_some(Http { routers, services }),
            tcp: section(tcp),
            udp: section(udp),
        }
    }
}

pub(super) fn yaml(options: &Traefik, backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let routes = options.routes(backends, left_out);
    to_yaml(&options.configuration(backends, &routes, left_out))
}

pub(super) fn json(options: &Traefik, backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let routes = options.routes(backends, left_out);
    pretty(&options.configuration(backends, &routes, left_out))
}

fn transport(backend: &Backend) -> Service<Servers<Address>> {
    let servers = backend.endpoints.iter().map(|endpoint| Address { address: endpoint.address.to_string() });
    Service { load_balancer: Servers { servers: servers.collect() } }
}

/// A router for each host, of which the first has the backend's name. One for all would not do: of several rules that match,
/// Traefik takes the longest text, and a list of hosts would be before a path that somebody else has on one of them.
fn routers_of<'a>(service: &'a str, route: &'a Route) -> impl Iterator<Item = (String, Router<'a>)> {
    route.hosts.iter().enumerate().map(move |(place, host)| {
        // No backend has a colon in its name.
        let name = if place == 0 { service.to_owned() } else { format!("{service}:{host}") };
        let path = route.path.as_ref().map_or_else(String::new, |path| format!(" && PathPrefix(`{path}`)"));
        let tls = route.tls.as_ref().map(|tls| match tls {
            Tls::Default => RouterTls { cert_resolver: None },
            Tls::Resolver(name) => RouterTls { cert_resolver: Some(name) },
        });
        let router = Router {
            rule: format!("Host(`{host}`){path}"),
            service,
            entry_points: &route.entry_points,
            middlewares: &route.middlewares,
            priority: route.priority,
            tls,
        };
        (name, router)
    })
}
