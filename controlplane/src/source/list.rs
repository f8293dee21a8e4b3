//! Builds one cluster from a list of targets: host names are resolved and kept up to date, and a name that does not resolve is an
//! endpoint that fails.

use std::sync::Arc;

use runtime::readiness::Gate;
use snapshot::{Change, Cluster, ClusterName, Endpoint, Place, PodRef, Publisher, Recheck, Spoken};

use super::dns::{Names, Query, Resolution, Resolver};
use super::fixed::{Host, Target};

/// One target with its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListEntry {
    pub(super) target: Target,
    pub(super) zone: Option<Arc<str>>,
    pub(super) node: Option<Arc<str>>,
    pub(super) pod: Option<PodRef>,
}

/// A list, and the cluster that it feeds.
pub(super) struct List {
    cluster: ClusterName,
    publisher: Publisher,
    gate: Gate,
    names: Names,
    /// The last good list; `None` before the first.
    good: Option<GoodList>,
    published: bool,
}

/// A list that is in use, or will be when its names have been looked up.
struct GoodList {
    entries: Vec<ListEntry>,
    /// The reason that is shown if it has no entry.
    if_empty: String,
    /// Whether it was published and has no names, so that its entries are not needed again.
    is_done: bool,
}

// === impl List ===

impl List {
    /// The gate opens when the first list has been published, and stays open.
    pub(super) fn new(cluster: ClusterName, publisher: Publisher, gate: Gate, resolver: Resolver) -> Self {
        Self::under(cluster, publisher, gate, resolver, Recheck::default())
    }

    /// A list from a lookup of another name: a request for another lookup of one of its names repeats the other lookup, too.
    pub(super) fn under(
        cluster: ClusterName,
        publisher: Publisher,
        gate: Gate,
        resolver: Resolver,
        origin: Recheck,
    ) -> Self {
        let names = Names::new(resolver, origin);
        Self { cluster, publisher, gate, names, good: None, published: false }
    }

    /// Replaces the list. `if_empty` is the reason that is shown if it has no entry.
    pub(super) fn set(&mut self, entries: Vec<ListEntry>, if_empty: impl Into<String>) {
        self.names.set(entries.iter().filter_map(|entry| entry.target.query()));
        self.good = Some(GoodList { entries, if_empty: if_empty.into(), is_done: false });
        self.publish();
    }

    /// Reports why there is no good list. The last good one stays in use.
    pub(super) fn fail(&self, why: impl Into<String>) {
        // A good list whose names are still being looked up has a reason of its own.
        if self.good.is_none() {
            self.gate.set_not_ready(why);
        }
    }

    /// Keeps the names current: waits until something may have changed, and publishes it. Pends for ever without names. Safe to
    /// cancel.
    pub(super) async fn refresh(&mut self) {
        self.names.refresh().await;
        self.publish();
    }

    /// A new list takes effect when each of its names has been looked up once, or has taken too long.
    fn publish(&mut self) {
        let Some(GoodList { entries, if_empty, is_done: false }) = &mut self.good else { return };
        if let Some(query) = self.names.awaited() {
            if !self.published {
                self.gate.set_not_ready(format!("{query} is being resolved"));
            }
            return;
        }
        let cluster = if entries.is_empty() {
            Cluster::empty(self.cluster.clone(), if_empty)
        } else {
            let endpoints = entries.iter().map(|entry| entry.endpoint(&self.names)).collect();
            Cluster::new(self.cluster.clone(), endpoints)
        };
        if entries.iter().all(|entry| entry.target.query().is_none()) {
            let if_empty = std::mem::take(if_empty);
            self.good = Some(GoodList { entries: Vec::new(), if_empty, is_done: true });
        }
        self.publisher.apply([Change::Set(Arc::new(cluster))]);
        self.gate.set_ready();
        self.published = true;
    }
}

// === impl ListEntry ===

impl ListEntry {
    fn endpoint(&self, names: &Names) -> Endpoint<Place> {
        let (place, hostname) = match &self.target.host {
            Host::Address(address) => (Place::from(*address), None),
            Host::Name { name, port } => {
                let query = Query::Host { name: name.clone(), port: *port };
                (place(name, *port, names.get(&query), names.recheck(&query)), Some(name.clone()))
            }
        };
        let (zone, node, pod) = (self.zone.clone(), self.node.clone(), self.pod.clone());
        let spoken = self.target.scheme.map_or(Spoken::Unspecified, Spoken::Scheme);
        Endpoint { hostname, zone, node, pod, spoken, ..Endpoint::at(place) }
    }
}

impl From<Target> for ListEntry {
    fn from(target: Target) -> Self {
        Self { target, zone: None, node: None, pod: None }
    }
}

impl From<Host> for ListEntry {
    fn from(host: Host) -> Self {
        Target { scheme: None, host }.into()
    }
}

fn place(name: &Arc<str>, port: u16, found: Result<&Resolution, Option<&str>>, recheck: Recheck) -> Place {
    let why: Arc<str> = match found {
        Ok(Resolution::Addresses(addresses)) => return Place::resolved(name.clone(), port, addresses.clone(), recheck),
        Ok(Resolution::Nothing(why)) => why.clone(),
        Ok(Resolution::Targets(_)) => "it is an SRV name".into(),
        Err(Some(why)) => why.into(),
        Err(None) => "no answer from the DNS yet".into(),
    };
    Place::unresolved(name.clone(), port, why, recheck)
}
