//! What `/-/endpoints` shows: the table as it is, with how the last legs to every endpoint ended; and `/-/clients`: who is connected.

use access::clients::Clients;
use serde_json::{Value, json};

use crate::{
    config::Channel,
    table::{RouteEntry, Table},
};

/// The endpoints of every route.
#[must_use]
pub fn endpoints(table: &Table) -> Value {
    json!({
        "snapshot": {
            "version": table.version.to_string(),
            "made": crate::access_log::timestamp(table.made),
        },
        "routes": table.routes().map(|entry| route(entry)).collect::<Vec<_>>(),
    })
}

/// The client addresses with most connections.
#[must_use]
pub fn clients(clients: &Clients) -> Value {
    /// As many as somebody reads.
    const MOST: usize = 100;
    json!({"addresses": clients.len(), "clients": clients.busiest(MOST)})
}

fn route(route: &RouteEntry) -> Value {
    let counts = |target: &std::sync::Arc<crate::target::Target>| {
        route.members.iter().any(|member| std::sync::Arc::ptr_eq(&member.target, target))
    };
    let endpoints = route.known.iter().map(|target| {
        let endpoint = &target.endpoint;
        let conditions = endpoint.conditions;
        json!({
            "endpoint": target.authority,
            "addresses": endpoint.address.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "problem": endpoint.address.problem().map(|why| format!("the name does not resolve: {why}")),
            "pod": endpoint.pod.as_ref().map(|pod| &*pod.name),
            "hostname": endpoint.hostname.as_deref(),
            "node": endpoint.node.as_deref(),
            "zone": endpoint.zone.as_deref(),
            "said": endpoint.spoken.as_str(),
            "tls": !matches!(target.channel, Channel::Clear),
            "protocol": target.protocol.as_str(),
            "ready": conditions.ready,
            "serving": conditions.serving,
            "terminating": conditions.terminating,
            "member": counts(target),
            "in_flight": target.inflight(),
            "idle_connections": target.idle(),
            "recent": target.counts.recent(),
        })
    });
    json!({
        "route": &*route.config.name,
        "cluster": route.config.cluster.as_str(),
        "require": route.config.policy.require,
        "members": route.members.len(),
        "empty": route.without_endpoint(),
        "itself": route.own.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}
