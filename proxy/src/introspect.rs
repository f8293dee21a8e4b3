//! The data of `/-/endpoints` and `/-/overview` (the table with the last outcomes of every endpoint), and of `/-/clients`.

use std::sync::Arc;

use access::clients::Clients;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use crate::{
    config::Channel,
    metrics::RequestResult,
    outcome::Outcome,
    table::{RouteEntry, Table},
    target::Target,
};

/// Which endpoints an overview shows.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Those with this text in their route, address, pod, node or zone.
    pub find: String,
    /// Only those that are not ready, or whose last leg was not ok.
    pub with_problems: bool,
    /// The maximum number, over all routes.
    pub most: usize,
}

/// The maximum number of routes in an overview.
const MOST_ROUTES: usize = 200;

/// The endpoints of every route. They are described one by one while they are written.
#[derive(Debug)]
pub struct Endpoints<'a>(pub &'a Table);

/// The numbers of the routes and the first matching endpoints, in bounded size.
#[must_use]
pub fn overview(table: &Table, look: &Look) -> Value {
    let mut room = look.most;
    let routes: Vec<Value> =
        table.routes().take(MOST_ROUTES).map(|entry| route_overview(entry, look, &mut room)).collect();
    json!({
        "snapshot": snapshot(table),
        "more_routes": table.routes().count() - routes.len(),
        "routes": routes,
    })
}

fn snapshot(table: &Table) -> Value {
    json!({"version": table.version.to_string(), "made": crate::access_log::timestamp(table.made)})
}

fn route_overview(route: &RouteEntry, look: &Look, room: &mut usize) -> Value {
    let (name, mut found, mut shown) = (&*route.config.name, 0_usize, Vec::new());
    for target in route.known.iter().filter(|target| look.finds(name, target)) {
        found += 1;
        if *room > 0 {
            *room -= 1;
            shown.push(endpoint_overview(target));
        }
    }
    let completed = |result: RequestResult| (result.as_str().to_owned(), route.metrics.completions(result).into());
    json!({
        "route": name,
        "cluster": route.config.cluster.as_str(),
        "require": route.config.policy.require,
        "known": route.known.len(),
        "members": route.members.len(),
        "ready": route.known.iter().filter(|target| target.endpoint.conditions.ready).count(),
        "empty": route.without_endpoint(),
        "completed": RequestResult::ALL.map(completed).into_iter().collect::<serde_json::Map<_, _>>(),
        "found": found,
        "endpoints": shown,
    })
}

fn endpoint_overview(target: &Target) -> Value {
    let (endpoint, conditions) = (&target.endpoint, target.endpoint.conditions);
    json!({
        "endpoint": endpoint.address.to_string(),
        "pod": endpoint.pod.as_ref().map(|pod| &*pod.name),
        "node": endpoint.node.as_deref(),
        "zone": endpoint.zone.as_deref(),
        "ready": conditions.ready,
        "serving": conditions.serving,
        "terminating": conditions.terminating,
        "problem": endpoint.address.problem(),
        "in_flight": target.inflight(),
        "recent": target.counts.recent(),
    })
}

impl Look {
    fn finds(&self, route: &str, target: &Target) -> bool {
        let endpoint = &target.endpoint;
        let pod = endpoint.pod.as_ref().map(|pod| &*pod.name);
        let address = endpoint.address.to_string();
        let texts = [Some(route), Some(&*address), pod, endpoint.node.as_deref(), endpoint.zone.as_deref()];
        let has_problem = || {
            let last = target.counts.recent().first().map(|recent| recent.outcome);
            !endpoint.conditions.ready || last.is_some_and(|outcome| outcome != Outcome::Ok)
        };
        texts.into_iter().flatten().any(|text| text.contains(&self.find)) && (!self.with_problems || has_problem())
    }
}

/// The client addresses with the most connections.
#[must_use]
pub fn clients(clients: &Clients) -> Value {
    /// The maximum number of addresses.
    const MOST: usize = 100;
    json!({"addresses": clients.len(), "clients": clients.busiest(MOST)})
}

// === impl Endpoints ===

impl Serialize for Endpoints<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("snapshot", &snapshot(self.0))?;
        map.serialize_entry("routes", &EachRoute(self.0))?;
        map.end()
    }
}

struct EachRoute<'a>(&'a Table);

impl Serialize for EachRoute<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.routes().map(|route| RouteShown(route)))
    }
}

struct RouteShown<'a>(&'a RouteEntry);

impl Serialize for RouteShown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let route = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("route", &*route.config.name)?;
        map.serialize_entry("cluster", route.config.cluster.as_str())?;
        map.serialize_entry("require", &route.config.policy.require)?;
        map.serialize_entry("members", &route.members.len())?;
        map.serialize_entry("empty", &route.without_endpoint())?;
        map.serialize_entry("itself", &route.own.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        map.serialize_entry("endpoints", &EachEndpoint(route))?;
        map.end()
    }
}

struct EachEndpoint<'a>(&'a RouteEntry);

impl Serialize for EachEndpoint<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Both are in the order of the snapshot.
        let mut members = self.0.members.iter().peekable();
        serializer.collect_seq(
            self.0
                .known
                .iter()
                .map(|target| endpoint(target, members.next_if(|member| Arc::ptr_eq(member, target)).is_some())),
        )
    }
}

fn endpoint(target: &Target, is_member: bool) -> Value {
    let endpoint = &target.endpoint;
    let conditions = endpoint.conditions;
    json!({
        "endpoint": endpoint.address.to_string(),
        "addresses": endpoint.address.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "problem": endpoint.address.problem().map(|why| format!("the name does not resolve: {why}")),
        "pod": endpoint.pod.as_ref().map(|pod| &*pod.name),
        "hostname": endpoint.hostname.as_deref(),
        "node": endpoint.node.as_deref(),
        "zone": endpoint.zone.as_deref(),
        "said": endpoint.spoken.as_str(),
        "tls": !matches!(target.channel(), Channel::Clear),
        "protocol": target.protocol.as_str(),
        "ready": conditions.ready,
        "serving": conditions.serving,
        "terminating": conditions.terminating,
        "member": is_member,
        "in_flight": target.inflight(),
        "idle_connections": target.idle(),
        "recent": target.counts.recent(),
    })
}
