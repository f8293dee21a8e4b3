//! Routes that Services define by annotations: which host and path leads to them.
//!
//! `fanfare/host` (host names, with commas between them) makes the route; the others refine it: `fanfare/path` (a prefix),
//! `fanfare/port` (which port, by name or number, where several speak HTTP), and for Traefik alone `fanfare/entrypoints`,
//! `fanfare/middlewares`, `fanfare/priority` and `fanfare/tls` (`true`, or the name of a certificate resolver).
//!
//! Rule: a Service with an invalid annotation gets no route, and the annotation is reported.

use std::collections::{BTreeMap, BTreeSet};

use super::{LeftOut, leave_out};
use crate::backend::{Backend, PortChoice};

/// The most host names of one Service.
const MAX_HOSTS: usize = 100;

/// Routes by the names of the backends that they lead to.
pub(super) type Routes<'a> = BTreeMap<&'a str, Route>;

/// A route to a backend.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Lower-case DNS names, at least one, in the order in which they are written.
    pub(super) hosts: Vec<String>,
    /// The path prefix, with a slash in front, if there is one.
    pub(super) path: Option<String>,
    pub(super) entry_points: Vec<String>,
    pub(super) middlewares: Vec<String>,
    pub(super) priority: Option<u32>,
    pub(super) tls: Option<Tls>,
}

/// Whether and how the route's connections are decrypted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tls {
    Default,
    Resolver(String),
}

/// The routes that the Services of these backends define.
pub(super) fn routes<'a>(backends: &'a [Backend], left_out: &mut Vec<LeftOut>) -> Routes<'a> {
    let mut services: BTreeMap<_, Vec<&Backend>> = BTreeMap::new();
    for backend in backends {
        services.entry(&backend.entry.key).or_default().push(backend);
    }
    let mut routes = Routes::new();
    for (key, backends) in services {
        match route(&backends) {
            Ok(Some((backend, route))) => drop(routes.insert(&*backend.name, route)),
            Ok(None) => {}
            Err(why) => leave_out(left_out, &key.to_string().into(), why),
        }
    }
    routes
}

/// The route of one Service, if it defines one.
fn route<'a>(backends: &[&'a Backend]) -> Result<Option<(&'a Backend, Route)>, String> {
    let Some(first) = backends.first() else { return Ok(None) };
    let said = |name: &str| first.entry.facts.annotations.get(&format!("fanfare/{name}")).map(String::as_str);
    let Some(hosts) = said("host") else { return Ok(None) };
    let mut known = BTreeSet::new();
    let mut hosts = list("host", Some(hosts), is_host)?;
    hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
    hosts.retain(|host| known.insert(host.clone()));
    if hosts.is_empty() || hosts.len() > MAX_HOSTS {
        return Err(format!("annotation fanfare/host has {} host names instead of 1 to {MAX_HOSTS}", hosts.len()));
    }
    let path = said("path").map(|path| checked("path", path, is_path)).transpose()?;
    let priority = said("priority").map(|text| {
        text.parse()
            .map_err(|_| format!("annotation fanfare/priority: {text:?} is not a whole number from 0 to {}", u32::MAX))
    });
    let tls = match said("tls") {
        None | Some("false") => None,
        Some("true") => Some(Tls::Default),
        Some(resolver) => Some(Tls::Resolver(checked("tls", resolver, is_reference)?)),
    };
    let route = Route {
        hosts,
        path,
        entry_points: list("entrypoints", said("entrypoints"), is_reference)?,
        middlewares: list("middlewares", said("middlewares"), is_reference)?,
        priority: priority.transpose()?,
        tls,
    };
    Ok(Some((chosen(backends, said("port"))?, route)))
}

/// The backend that a route leads to.
fn chosen<'a>(backends: &[&'a Backend], port: Option<&str>) -> Result<&'a Backend, String> {
    let choice = port.map(str::parse::<PortChoice>).transpose().map_err(|e| format!("annotation fanfare/port: {e}"))?;
    let fits = |backend: &&&Backend| match &choice {
        None => true,
        Some(PortChoice::Named(name)) => backend.port.name == *name,
        Some(PortChoice::Number(number)) => backend.number == *number || backend.service_port == *number,
    };
    let mut http = backends.iter().filter(|backend| backend.application.is_http()).filter(fits);
    match (http.next(), http.next(), port) {
        (Some(only), None, _) => Ok(only),
        (None, _, None) => Err("annotation fanfare/host: none of the Service's ports speaks HTTP".to_owned()),
        (None, _, Some(port)) => {
            Err(format!("annotation fanfare/port: no port of the Service that speaks HTTP is {port:?}"))
        }
        (Some(_), Some(_), None) => {
            Err("annotation fanfare/host: several of the Service's ports speak HTTP: choose one with \
             the annotation fanfare/port"
                .to_owned())
        }
        (Some(_), Some(_), Some(port)) => {
            Err(format!("annotation fanfare/port: several ports of the Service are {port:?}: choose one by its number"))
        }
    }
}

fn list(name: &str, text: Option<&str>, fits: fn(&str) -> bool) -> Result<Vec<String>, String> {
    let parts = text.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| checked(name, part, fits)).collect()
}

fn checked(name: &str, text: &str, fits: fn(&str) -> bool) -> Result<String, String> {
    if fits(text) {
        return Ok(text.to_owned());
    }
    let short: String = text.chars().take(80).collect();
    Err(format!(
        "annotation fanfare/{name}: {short:?} is not a {}",
        match name {
            "host" => "host name (letters, digits and `-`, with dots between the parts)",
            "path" => "path prefix (a slash, then letters, digits and any of /._~%+=:@,-)",
            _ => "name (letters, digits and any of ._@-)",
        }
    ))
}

/// A DNS name (RFC 1123, section 2.1).
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

pub(super) fn is_path(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/._~%+=:@,-".contains(&b);
    text.len() <= 1024 && text.starts_with('/') && text.bytes().all(fits)
}

pub(super) fn is_reference(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._@-".contains(&b);
    (1..=253).contains(&text.len()) && text.bytes().all(fits)
}

/// Whether it is the name of something in Traefik's configuration, perhaps with `@` and its provider.
pub(super) fn is_traefik_name(text: &str) -> bool {
    is_reference(text)
}

#[cfg(test)]
mod tests {
    use controlplane::index::Protocol::Tcp;

    use super::*;
    use crate::backend::{
        Model, Names,
        fixture::{Service, catalog, service},
    };

    fn asked(service: Service) -> Result<Option<(String, Route)>, String> {
        let backends = Model::default().backends(&catalog([service]), &mut Names::default());
        let all: Vec<&Backend> = backends.iter().collect();
        route(&all).map(|found| found.map(|(backend, route)| (backend.name.to_string(), route)))
    }

    fn web() -> Service {
        service("shop/web").http(&["192.0.2.1:8080"]).port("tcp-x", 1, Tcp, "", &["192.0.2.1:1"])
    }

    #[test]
    fn annotations_make_a_route() {
        assert_eq!(asked(web().annotation("fanfare/path", "/x")), Ok(None), "a path alone asks for nothing");
        let all = web()
            .annotation("fanfare/host", "Shop.Example, www.shop.example")
            .annotation("fanfare/path", "/cart")
            .annotation("fanfare/entrypoints", "websecure")
            .annotation("fanfare/middlewares", "auth@file,gzip@file")
            .annotation("fanfare/priority", "7")
            .annotation("fanfare/tls", "letsencrypt");
        let (name, route) = asked(all).unwrap().unwrap();
        let texts = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        assert_eq!(name, "web-8080", "the only port that speaks HTTP");
        assert_eq!(
            route,
            Route {
                hosts: texts(&["shop.example", "www.shop.example"]),
                path: Some("/cart".into()),
                entry_points: texts(&["websecure"]),
                middlewares: texts(&["auth@file", "gzip@file"]),
                priority: Some(7),
                tls: Some(Tls::Resolver("letsencrypt".into())),
            }
        );
    }

    #[test]
    fn a_port_must_be_chosen_where_several_speak_http() {
        let two = || web().port("admin", 81, Tcp, "", &["192.0.2.1:8081"]).annotation("fanfare/host", "a.example");
        assert!(asked(two()).unwrap_err().contains("choose one"));
        for choice in ["admin", "8081", "81"] {
            assert_eq!(asked(two().annotation("fanfare/port", choice)).unwrap().unwrap().0, "web-8081");
        }
        for wrong in ["tcp-x", "9", "No"] {
            let why = asked(two().annotation("fanfare/port", wrong)).unwrap_err();
            assert!(why.contains("fanfare/port") && why.contains(&format!("{wrong:?}")), "{why}");
        }
        let tcp = service("shop/db").port("tcp", 1, Tcp, "", &["192.0.2.1:1"]).annotation("fanfare/host", "a.example");
        assert!(asked(tcp).unwrap_err().contains("none of the Service's ports speaks HTTP"));
    }

    #[test]
    fn an_invalid_annotation_makes_no_route() {
        let wrong = [
            ("host", "a.example`) || PathPrefix(`/"),
            ("host", "{{ env \"SECRET\" }}"),
            ("host", "a.example\nb"),
            ("host", "a..b"),
            ("host", "-a"),
            ("host", ""),
            ("host", ", ,"),
            ("path", "cart"),
            ("path", "/`)"),
            ("path", "/{{ . }}"),
            ("path", "/a b"),
            ("path", "/a\n/b"),
            ("middlewares", "a b"),
            ("entrypoints", "we\"b"),
            ("tls", "{}"),
            ("priority", "-1"),
            ("priority", "high"),
        ];
        for (name, value) in wrong {
            let service = web().annotation("fanfare/host", "a.example").annotation(&format!("fanfare/{name}"), value);
            let why = asked(service).unwrap_err();
            assert!(why.contains(&format!("fanfare/{name}")), "{name} {value:?}: {why}");
        }
    }
}
