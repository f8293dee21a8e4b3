//! Traefik's dynamic configuration: `http`, `tcp` and `udp` services, and routers where Services ask for them.
//!
//! The fields of each type below are in alphabetical order, and so they are in the files.
//!
//! Rule: an empty section is left out, and a file without any is `{}`. Traefik refuses `http: {}` and an empty `services`, and with
//! it all files of that folder. It accepts a service without servers, and answers 503.
//!
//! Traefik's file provider runs files through a template engine first (`{{ env "SECRET" }}`): so no text of a Service
//! that may contain a brace is written here.

use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr};

use controlplane::index::ServiceKey;
use serde::{Serialize, Serializer};

use super::{
    FormatOptions, InvalidFormat, LeftOut,
    balancing::{self, Balancing, balancing},
    leave_out, pretty,
    route::{Route, Routes, Tls, is_traefik_name, routes},
    yaml::to_yaml,
};
use crate::backend::{Application, Backend};

/// The options of Traefik files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traefik {
    routers: bool,
    servers_transport: Option<String>,
}

type Section<'a, T> = BTreeMap<&'a str, T>;
type BalancingByService<'a> = BTreeMap<&'a ServiceKey, Balancing>;

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
    services: BTreeMap<Cow<'a, str>, HttpService<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum HttpService<'a> {
    LoadBalancer(HttpServers<'a>),
    Weighted(Weighted<'a>),
}

/// Several services as one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Weighted<'a> {
    services: Vec<Share<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<StickySession<'a>>,
}

#[derive(Debug, Serialize)]
struct Share<'a> {
    name: &'a str,
    weight: u32,
}

#[derive(Debug, Serialize)]
struct Transport<'a> {
    services: Section<'a, TraefikService<Servers<Address>>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TraefikService<T> {
    load_balancer: T,
}

#[derive(Debug, Serialize)]
struct Servers<T> {
    servers: Vec<T>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HttpServers<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    health_check: Option<HealthCheck<'a>>,
    servers: Vec<Server>,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers_transport: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<StickySession<'a>>,
}

#[derive(Debug, Serialize)]
struct HealthCheck<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<&'a str>,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct StickySession<'a> {
    cookie: Cookie<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cookie<'a> {
    /// Keeps scripts of a page from reading it.
    http_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Server {
    url: Url,
}

#[derive(Debug)]
struct Url {
    scheme: &'static str,
    address: SocketAddr,
}

#[derive(Debug, Serialize)]
struct Address {
    address: SocketAddr,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Router<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entry_points: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    middlewares: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    rule: String,
    service: Cow<'a, str>,
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
            let why = format!("{name:?} is not the name of a serversTransport (letters, digits and any of ._@-)");
            return Err(InvalidFormat::Value { option: "servers transport", why });
        }
        Ok(Self { routers: options.routers, servers_transport })
    }

    /// The routes that Services define, if routers are wanted.
    fn routes<'a>(&self, backends: &'a [Backend], left_out: &mut Vec<LeftOut>) -> Routes<'a> {
        if self.routers { routes(backends, left_out) } else { Routes::new() }
    }

    fn configuration<'a>(
        &'a self,
        backends: &'a [Backend],
        routes: &'a Routes<'a>,
        asked: &'a BalancingByService<'a>,
        left_out: &mut Vec<LeftOut>,
    ) -> Configuration<'a> {
        let mut services = BTreeMap::new();
        let (mut tcp, mut udp) = (BTreeMap::new(), BTreeMap::new());
        for backend in backends {
            let name = &*backend.name;
            match backend.application {
                Application::Sctp => leave_out(left_out, &backend.name, "Traefik does not support SCTP"),
                Application::Tcp => drop(tcp.insert(name, transport(backend))),
                Application::Udp => drop(udp.insert(name, transport(backend))),
                _ => {
                    let balancer = self.balancer(backend, asked.get(&backend.entry.key));
                    services.insert(Cow::Borrowed(name), HttpService::LoadBalancer(balancer));
                }
            }
        }
        let weights = weights(backends, asked);
        let routers = routers(routes, &weights, &mut services);
        let section = |services: Section<'a, _>| (!services.is_empty()).then_some(Transport { services });
        Configuration {
            http: (!services.is_empty()).then_some(Http { routers, services }),
            tcp: section(tcp),
            udp: section(udp),
        }
    }

    fn balancer<'a>(&'a self, backend: &'a Backend, asked: Option<&'a Balancing>) -> HttpServers<'a> {
        let application = backend.application;
        let scheme = application.scheme().expect("every protocol but TCP, UDP and SCTP is HTTP");
        let servers = backend.endpoints.iter().map(|e| Server { url: Url { scheme, address: e.address } });
        let health = asked.and_then(|asked| asked.health.as_ref());
        HttpServers {
            health_check: health.map(|health| HealthCheck {
                path: &health.path,
                interval: health.interval.as_deref(),
                timeout: health.timeout.as_deref(),
            }),
            servers: servers.collect(),
            servers_transport: self.servers_transport.as_deref().filter(|_| application.is_tls()),
            sticky: asked.and_then(|asked| asked.sticky.as_ref()).map(sticky),
        }
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}://{}", self.scheme, self.address))
    }
}

pub(super) fn yaml(options: &Traefik, backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let (routes, asked) = (options.routes(backends, left_out), balancing(backends, left_out));
    to_yaml(&options.configuration(backends, &routes, &asked, left_out))
}

pub(super) fn json(options: &Traefik, backends: &[Backend], left_out: &mut Vec<LeftOut>) -> String {
    let (routes, asked) = (options.routes(backends, left_out), balancing(backends, left_out));
    pretty(&options.configuration(backends, &routes, &asked, left_out))
}

fn sticky(asked: &balancing::Sticky) -> StickySession<'_> {
    let name = match asked {
        balancing::Sticky::Default => None,
        balancing::Sticky::Cookie(name) => Some(name.as_str()),
    };
    StickySession { cookie: Cookie { name, http_only: true } }
}

/// The settings of the Services that have a weight.
fn weights<'a>(backends: &'a [Backend], asked: &'a BalancingByService<'a>) -> BTreeMap<&'a str, (u32, &'a Balancing)> {
    let weight = |backend: &'a Backend| {
        let asked = asked.get(&backend.entry.key)?;
        Some((&*backend.name, (asked.weight?, asked)))
    };
    backends.iter().filter_map(weight).collect()
}

/// The routers. Where several Services with a weight define the same host and path, the first one's router leads to all of them.
fn routers<'a>(
    routes: &'a Routes<'a>,
    weights: &BTreeMap<&'a str, (u32, &'a Balancing)>,
    services: &mut BTreeMap<Cow<'a, str>, HttpService<'a>>,
) -> BTreeMap<String, Router<'a>> {
    let mut sharing: BTreeMap<(&str, Option<&str>), Vec<&'a str>> = BTreeMap::new();
    for (name, route) in routes.iter().filter(|(name, _)| weights.contains_key(*name)) {
        for host in &route.hosts {
            sharing.entry((host, route.path.as_deref())).or_default().push(name);
        }
    }
    let mut routers = BTreeMap::new();
    for (service, route) in routes {
        for (place, host) in route.hosts.iter().enumerate() {
            let sharers = sharing.get(&(host.as_str(), route.path.as_deref())).filter(|all| all.len() > 1);
            let sharers = sharers.filter(|all| all.contains(service));
            if sharers.is_some_and(|all| all[0] != *service) {
                continue;
            }
            // No backend has a colon in its name.
            let name = if place == 0 { (*service).to_owned() } else { format!("{service}:{host}") };
            let leads_to = match sharers {
                None => Cow::Borrowed(*service),
                Some(all) => {
                    let weighted = format!("{service}:weighted:{host}");
                    let shares = all.iter().map(|name| Share { name, weight: weights[name].0 }).collect();
                    let sticky = weights[service].1.sticky.as_ref().map(sticky);
                    let all = HttpService::Weighted(Weighted { services: shares, sticky });
                    services.insert(Cow::Owned(weighted.clone()), all);
                    Cow::Owned(weighted)
                }
            };
            routers.insert(name, router(leads_to, route, host));
        }
    }
    routers
}

fn transport(backend: &Backend) -> TraefikService<Servers<Address>> {
    let servers = backend.endpoints.iter().map(|endpoint| Address { address: endpoint.address });
    TraefikService { load_balancer: Servers { servers: servers.collect() } }
}

/// The router for one host. A Service has one router per host, because Traefik prefers the longest of several matching rules: a
/// long list of hosts would outrank another Service's path on one of them.
fn router<'a>(service: Cow<'a, str>, route: &'a Route, host: &str) -> Router<'a> {
    let path = route.path.as_ref().map_or_else(String::new, |path| format!(" && PathPrefix(`{path}`)"));
    let tls = route.tls.as_ref().map(|tls| match tls {
        Tls::Default => RouterTls { cert_resolver: None },
        Tls::Resolver(name) => RouterTls { cert_resolver: Some(name) },
    });
    Router {
        rule: format!("Host(`{host}`){path}"),
        service,
        entry_points: &route.entry_points,
        middlewares: &route.middlewares,
        priority: route.priority,
        tls,
    }
}
