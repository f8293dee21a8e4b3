//! Builds tables, one after the other: what a new snapshot has not changed is taken over from the previous table.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::SystemTime};

use access::sources::Sources;
use snapshot::{Chunks, Cluster, ClusterName, Endpoint, Place, Snapshot};

use super::{
    ListenerEntry, RouteEntry, Table,
    stays::{Stretch, stretches},
    targets::TargetIndex,
    why_empty,
};
use crate::{
    callers::Callers,
    config::{Config, Members, Policy, Route},
    metrics::RouteMetrics,
    owed::Stores,
    own::OwnAddresses,
    secured::Secured,
    target::Target,
};

/// What a table is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The configuration.
    pub config: &'a Arc<Config>,
    /// TLS of that configuration.
    pub secured: &'a Arc<Secured>,
    /// The endpoints.
    pub snapshot: &'a Snapshot,
    /// The bound addresses of the listeners.
    pub bound: &'a [SocketAddr],
    /// The sources for authenticating callers.
    pub access: &'a Arc<Sources>,
    /// Redelivery.
    pub owed: &'a Stores,
}

/// A new table.
#[derive(Debug)]
pub struct Built {
    /// The table.
    pub table: Table,
    /// The targets that it no longer has. They are to be retired once the table is in force.
    pub gone: Vec<Arc<Target>>,
}

/// Builds the tables of one server. Each is built from the one before.
#[derive(Debug, Default)]
pub struct TableBuilder {
    targets: TargetIndex,
    /// What the last table was made from.
    last: Option<LastInputs>,
}

/// What the last table was made from.
#[derive(Debug)]
struct LastInputs {
    snapshot: Snapshot,
    /// The routes to each cluster: the numbers of their listeners, and theirs.
    routes: HashMap<ClusterName, Vec<(usize, usize)>>,
}

/// The building of one table.
struct Building<'a> {
    targets: &'a mut TargetIndex,
    inputs: Inputs<'a>,
    own: OwnAddresses<'a>,
    /// Targets that a route no longer has. Another route may have them.
    dropped: Vec<Arc<Target>>,
}

// === impl TableBuilder ===

impl TableBuilder {
    /// A builder of tables that follow this one.
    #[cfg(any(test, feature = "bench"))]
    #[must_use]
    pub fn after(table: &Table) -> Self {
        let mut targets = TargetIndex::default();
        table.routes().flat_map(|route| &route.known).for_each(|target| targets.share(target));
        let (publisher, reader) = snapshot::channel();
        publisher.apply(table.routes().filter_map(|route| route.cluster.clone()).map(snapshot::Change::Set));
        let last = LastInputs { snapshot: Snapshot::clone(&reader.load()), routes: routes_to_clusters(&table.config) };
        Self { targets, last: Some(last) }
    }

    /// Builds the next table. Unchanged parts of the previous one are taken over: routes whose cluster is the same, targets with their
    /// idle connections, metrics of routes, counts of callers.
    #[must_use]
    pub fn next(&mut self, previous: Option<&Table>, inputs: Inputs<'_>) -> Built {
        let own = OwnAddresses::new(inputs.bound, previous.and_then(|previous| previous.host.clone()));
        let mut building = Building { targets: &mut self.targets, inputs, own, dropped: Vec::new() };
        let (listeners, routes) = match (previous, self.last.take()) {
            (Some(previous), Some(last)) if building.differs_in_endpoints_only(previous) => {
                let changed = last.changed_routes(previous.listeners.len(), inputs.snapshot);
                let listeners = previous.listeners.iter().zip(&changed);
                (listeners.map(|(listener, changed)| building.updated(listener, changed)).collect(), last.routes)
            }
            _ => (building.listeners(previous), routes_to_clusters(inputs.config)),
        };
        self.last = Some(LastInputs { snapshot: inputs.snapshot.clone(), routes });
        let host = building.own.asked().cloned();
        let dropped = building.dropped;
        let table = Table {
            config: inputs.config.clone(),
            secured: inputs.secured.clone(),
            version: inputs.snapshot.version(),
            made: SystemTime::now(),
            listeners,
            host,
        };
        let gone = dropped.into_iter().filter(|target| self.targets.release(target)).collect();
        Built { table, gone }
    }
}

// === impl LastInputs ===

impl LastInputs {
    /// The routes of each listener whose clusters are others in this snapshot.
    fn changed_routes(&self, listeners: usize, snapshot: &Snapshot) -> Vec<Vec<usize>> {
        let mut changed = vec![Vec::new(); listeners];
        let names = snapshot.changed_since(&self.snapshot);
        for (listener, route) in names.filter_map(|name| self.routes.get(name)).flatten() {
            changed[*listener].push(*route);
        }
        changed
    }
}

fn routes_to_clusters(config: &Config) -> HashMap<ClusterName, Vec<(usize, usize)>> {
    let mut routes: HashMap<_, Vec<_>> =
        HashMap::with_capacity(config.listeners.iter().map(|it| it.routes.len()).sum());
    for (listener, configured) in config.listeners.iter().enumerate() {
        for (route, configured) in configured.routes.iter().enumerate() {
            routes.entry(configured.cluster.clone()).or_default().push((listener, route));
        }
    }
    routes
}

// === impl Building ===

impl Building<'_> {
    /// Whether a route can differ from that of the previous table only if its cluster does.
    fn differs_in_endpoints_only(&self, previous: &Table) -> bool {
        Arc::ptr_eq(&previous.config, self.inputs.config)
            && Arc::ptr_eq(&previous.secured, self.inputs.secured)
            && previous.host.as_ref().is_none_or(|host| self.own.is_still(host))
    }

    /// A listener of the previous table with the clusters of this snapshot, which are others for these of its routes.
    fn updated(&mut self, listener: &ListenerEntry, changed: &[usize]) -> Arc<ListenerEntry> {
        let mut routes = None;
        for index in changed {
            let route = &listener.routes[*index];
            let cluster = self.inputs.snapshot.cluster(route.config.cluster.as_str());
            let routes = routes.get_or_insert_with(|| listener.routes.to_vec());
            routes[*index] = self.updated_route(route, cluster);
        }
        Arc::new(ListenerEntry {
            config: listener.config.clone(),
            version: self.inputs.snapshot.version(),
            routes: routes.map_or_else(|| listener.routes.clone(), Into::into),
            callers: listener.callers.clone(),
        })
    }

    /// A route of the previous table with another cluster.
    fn updated_route(&mut self, former: &RouteEntry, cluster: Option<&Arc<Cluster>>) -> Arc<RouteEntry> {
        let endpoints = self.endpoints_of(cluster, &former.config.policy, Some(former));
        Arc::new(former.with_endpoints(cluster, endpoints))
    }

    /// All listeners of the configuration.
    fn listeners(&mut self, previous: Option<&Table>) -> Vec<Arc<ListenerEntry>> {
        let former: Vec<&Arc<RouteEntry>> = previous.into_iter().flat_map(Table::routes).collect();
        let metrics: HashMap<&str, &Arc<RouteMetrics>> =
            former.iter().map(|route| (&*route.config.name, &route.metrics)).collect();
        let (inputs, mut listeners) = (self.inputs, Vec::new());
        for (index, listener) in inputs.config.listeners.iter().enumerate() {
            let via = listener.via_name.at(inputs.bound.get(index).copied().unwrap_or(listener.address));
            let via: Arc<str> = via.into();
            let before = previous.and_then(|previous| previous.listeners.get(index));
            let routes = listener.routes.iter().map(|route| {
                let metrics = metrics.get(&*route.name).copied().cloned().unwrap_or_default();
                self.route(route, via.clone(), metrics)
            });
            listeners.push(Arc::new(ListenerEntry {
                routes: routes.collect(),
                version: inputs.snapshot.version(),
                callers: Arc::new(Callers::of(listener, before.map(|before| &*before.callers), inputs.access)),
                config: Arc::new(listener.clone()),
            }));
        }
        self.dropped.extend(former.iter().flat_map(|route| &route.known).cloned());
        listeners
    }

    fn route(&mut self, route: &Arc<Route>, via: Arc<str>, metrics: Arc<RouteMetrics>) -> Arc<RouteEntry> {
        let cluster = self.inputs.snapshot.cluster(route.cluster.as_str());
        let endpoints = self.endpoints_of(cluster, &route.policy, None);
        let bare = RouteEntry {
            config: route.clone(),
            cluster: None,
            members: Chunks::default(),
            known: Chunks::default(),
            own: Vec::new(),
            why_empty: Box::default(),
            via,
            metrics,
            owed: self.inputs.owed.of(route),
        };
        Arc::new(bare.with_endpoints(cluster, endpoints))
    }

    /// The endpoints of a cluster for a route, which may have had others before. Both are in canonical order, and what was made from a chunk of
    /// the list of endpoints that is still the same is used again.
    fn endpoints_of(
        &mut self,
        cluster: Option<&Arc<Cluster>>,
        policy: &Policy,
        former: Option<&RouteEntry>,
    ) -> RouteEndpoints {
        let chunks = cluster.map_or(&[][..], |cluster| cluster.endpoints().chunks());
        let former_cluster = former.and_then(|former| former.cluster.as_ref());
        let former_chunks = former_cluster.map_or(&[][..], |cluster| cluster.endpoints().chunks());
        let (known, members) =
            former.map_or((&[][..], &[][..]), |former| (former.known.chunks(), former.members.chunks()));
        // A chunk with an endpoint that is this process itself, which is left out, is looked at anew.
        let is_whole = |at: usize| known[at].len() == former_chunks[at].len();
        let (known_there, members_there) = (Vec::with_capacity(chunks.len()), Vec::with_capacity(chunks.len()));
        let mut made = RouteEndpoints { known: known_there, members: members_there, own: Vec::new() };
        for stretch in stretches(former_chunks, chunks, is_whole) {
            match stretch {
                Stretch::Same(chunks) => {
                    made.known.extend_from_slice(&known[chunks.clone()]);
                    made.members.extend_from_slice(&members[chunks]);
                }
                Stretch::Other { former: replaced, next } => {
                    let targets: Vec<Arc<Target>> =
                        known[replaced].iter().flat_map(|chunk| chunk.iter().cloned()).collect();
                    let mut before = Former { targets: &targets, dropped: Vec::new() };
                    for chunk in &chunks[next] {
                        let targets = self.targets_of(chunk, policy, &mut before, &mut made.own);
                        let targets: Arc<[Arc<Target>]> = targets.into();
                        made.members.push(members_of(&targets, policy));
                        made.known.push(targets);
                    }
                    self.dropped.append(&mut before.dropped);
                    self.dropped.extend_from_slice(before.targets);
                }
            }
        }
        made
    }

    /// The targets of some endpoints, without those that are this process itself.
    fn targets_of(
        &mut self,
        endpoints: &[Arc<Endpoint<Place>>],
        policy: &Policy,
        before: &mut Former<'_>,
        own: &mut Vec<Place>,
    ) -> Vec<Arc<Target>> {
        let mut known = Vec::with_capacity(endpoints.len());
        // One shard more than there are workers, for redelivery.
        let shards = self.inputs.config.threads + 1;
        for endpoint in endpoints {
            if let Some(same) = before.same(endpoint) {
                known.push(same.clone());
            } else if endpoint.address.addresses().iter().any(|address| self.own.contains(*address)) {
                own.push(endpoint.address.clone());
            } else if let Some(equal) = before.equal(endpoint) {
                known.push(equal.clone());
            } else {
                let make = || Target::reached_by(policy, endpoint.clone(), shards, self.inputs.secured);
                known.push(self.targets.acquire(endpoint, policy, make));
            }
        }
        known
    }
}

/// The endpoints of a route: a chunk for each chunk of the cluster's list.
struct RouteEndpoints {
    known: Vec<Arc<[Arc<Target>]>>,
    members: Vec<Arc<[Arc<Target>]>>,
    /// The places of those that are this process itself.
    own: Vec<Place>,
}

/// The targets that a route had before, in canonical order.
struct Former<'a> {
    targets: &'a [Arc<Target>],
    /// Those that it no longer has.
    dropped: Vec<Arc<Target>>,
}

// === impl Former ===

impl<'a> Former<'a> {
    /// The target of the next endpoint, if the snapshot shares that endpoint with the one before, as it does with most. Then it is not this
    /// process either, because it was not.
    fn same(&mut self, endpoint: &Arc<Endpoint<Place>>) -> Option<&'a Arc<Target>> {
        self.next_if(|before| Arc::ptr_eq(&before.endpoint, endpoint))
    }

    /// The target of an equal endpoint. Those before it are dropped, and another one at its address is as well.
    fn equal(&mut self, endpoint: &Endpoint<Place>) -> Option<&'a Arc<Target>> {
        while let Some(gone) = self.next_if(|before| before.endpoint.address < endpoint.address) {
            self.dropped.push(gone.clone());
        }
        let at_its_address = self.next_if(|before| before.endpoint.address == endpoint.address)?;
        if *at_its_address.endpoint == *endpoint {
            return Some(at_its_address);
        }
        self.dropped.push(at_its_address.clone());
        None
    }

    fn next_if(&mut self, holds: impl Fn(&Target) -> bool) -> Option<&'a Arc<Target>> {
        let (next, rest) = self.targets.split_first().filter(|(next, _)| holds(next))?;
        self.targets = rest;
        Some(next)
    }
}

// === impl RouteEntry ===

impl RouteEntry {
    /// The same route with these endpoints.
    fn with_endpoints(&self, cluster: Option<&Arc<Cluster>>, endpoints: RouteEndpoints) -> Self {
        let RouteEndpoints { known, members, own } = endpoints;
        let members = Chunks::of(members);
        let why_empty = if members.is_empty() { why_empty(cluster, &own) } else { String::new() };
        Self {
            config: self.config.clone(),
            cluster: cluster.cloned(),
            members,
            known: Chunks::of(known),
            own,
            why_empty: why_empty.into(),
            via: self.via.clone(),
            metrics: self.metrics.clone(),
            owed: self.owed.clone(),
        }
    }
}

/// The members of a route with this policy among some endpoints, in the same list if all are.
fn members_of(targets: &Arc<[Arc<Target>]>, policy: &Policy) -> Arc<[Arc<Target>]> {
    let is_member = |target: &&Arc<Target>| {
        let conditions = target.endpoint.conditions;
        match policy.members {
            // It is configured by name, so `all` does not succeed without it.
            _ if target.endpoint.address.problem().is_some() => true,
            Members::Ready => conditions.ready,
            Members::Known => conditions.ready || !conditions.terminating,
        }
    };
    if targets.iter().all(|target| is_member(&target)) {
        targets.clone()
    } else {
        targets.iter().filter(is_member).cloned().collect()
    }
}
