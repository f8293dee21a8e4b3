//! What endpoints missed: where it is kept, and the task that sends it again.

mod copies;
mod running;

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redeliver::{
    Arrival, JobId, Last, Redelivery, Whom,
    core::{Member, Members, RouteId, Verdict},
    view::{JobView, JobsView, Query},
    wall_clock,
};
use tokio::sync::watch;

use crate::{
    access_log::loggable_target,
    clock,
    config::{Config, Identity, Redeliver, Route},
    exchange::Leg,
    outcome::Outcome,
    shared::Shared,
    table::{RouteEntry, Table},
    target::Target,
};

pub(crate) use running::RunningLegs;

/// What is owed, a store for each journal. Which there are is fixed when the process starts.
#[derive(Debug, Default)]
pub struct Stores(BTreeMap<Option<PathBuf>, Store>);

#[derive(Debug)]
struct Store {
    redelivery: Redelivery,
    /// The endpoints of the table in force; none before every list of them is there.
    members: watch::Sender<Option<Arc<Members>>>,
}

/// What a route has to do with it.
#[derive(Clone, Debug)]
pub struct RouteOwed {
    redelivery: Redelivery,
    route: RouteId,
    /// What is sent again.
    pub(crate) config: Arc<Redeliver>,
}

// === impl Stores ===

impl Stores {
    /// Opens what the routes of a configuration need.
    pub(crate) fn start(config: &Config) -> io::Result<Self> {
        let mut stores = BTreeMap::new();
        for redeliver in redelivering(config) {
            if !stores.contains_key(&redeliver.journal) {
                let redelivery =
                    Redelivery::start(redeliver.limits.clone(), redeliver.journal.as_deref(), fastrand::u64(..))?;
                let members = watch::Sender::new(None);
                stores.insert(redeliver.journal.clone(), Store { redelivery, members });
            }
        }
        Ok(Self(stores))
    }

    /// Whether all stores of another configuration exist. Further ones are kept, because they may have pending deliveries.
    pub(crate) fn serve(&self, config: &Config) -> bool {
        redelivering(config).all(|redeliver| self.0.contains_key(&redeliver.journal))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until every journal was read, or cannot be for now.
    pub(crate) async fn until_read(&self) {
        for store in self.0.values() {
            store.redelivery.until_read().await;
        }
    }

    /// What a route has to do with it.
    pub(crate) fn of(&self, route: &Route) -> Option<RouteOwed> {
        let config = route.policy.redeliver.as_ref()?;
        let store = self.0.get(&config.journal)?;
        store.redelivery.set_limits(config.limits.clone());
        let id = store.redelivery.route(&route.name, config.rules.clone());
        Some(RouteOwed { redelivery: store.redelivery.clone(), route: id, config: config.clone() })
    }

    /// Tells which endpoints there are, unless some list is not there yet: who is missing from that has not gone. Nothing is told if no
    /// route with redelivery has changed since the previous table.
    pub(crate) fn publish(&self, previous: Option<&Table>, table: &Table) {
        let redeliver = |route: &&Arc<RouteEntry>| route.owed.is_some();
        let same = |previous: &Table| {
            let former = previous.routes().filter(redeliver).map(Arc::as_ptr);
            former.eq(table.routes().filter(redeliver).map(Arc::as_ptr))
        };
        if self.is_empty() || previous.is_some_and(same) {
            return;
        }
        for (journal, store) in &self.0 {
            let routes = table.routes().filter(|route| {
                route.config.policy.redeliver.as_ref().is_some_and(|redeliver| redeliver.journal == *journal)
            });
            let mut members = Members::new();
            let mut in_use = HashSet::new();
            let mut complete = true;
            for route in routes {
                complete &= route.cluster.is_some();
                let Some(owed) = &route.owed else { continue };
                in_use.insert(owed.route);
                for target in &route.known {
                    let known = members
                        .entry(owed.key(target).clone())
                        .or_insert_with(|| Member { address: target.authority().clone(), ready: false });
                    known.ready |= target.is_ready;
                }
            }
            store.redelivery.use_routes(&in_use);
            if complete {
                store.members.send_replace(Some(Arc::new(members)));
            }
        }
    }

    /// Sends what is owed until the workers are stopped.
    pub(crate) async fn run(shared: Arc<Shared>, stop: watch::Receiver<bool>) {
        let copies = copies::Copies::new(shared.clone(), stop.clone());
        let loops = shared.owed.0.values().map(|store| {
            let mut stop = stop.clone();
            let drain = async move {
                // The sender is dropped only after it has said so.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            store.redelivery.run(&copies, store.members.subscribe(), drain)
        });
        futures::future::join_all(loops).await;
    }

    /// The jobs that are asked for, of each journal, with their targets as they are logged.
    pub(crate) fn jobs(&self, query: &Query) -> Vec<JobsView> {
        let mut views: Vec<_> = self.0.values().map(|store| store.redelivery.jobs(query)).collect();
        views.iter_mut().flat_map(|view| &mut view.jobs).for_each(redact);
        views
    }

    /// One job, with its target as it is logged.
    pub(crate) fn job(&self, id: JobId) -> Option<JobView> {
        let mut job = self.0.values().find_map(|store| store.redelivery.job(id))?;
        redact(&mut job);
        Some(job)
    }

    /// Each of them.
    pub(crate) fn redeliveries(&self) -> Vec<Redelivery> {
        self.0.values().map(|store| store.redelivery.clone()).collect()
    }
}

/// Whoever may read jobs need not be allowed to use the credentials of their targets; the id is enough to find a job.
fn redact(job: &mut JobView) {
    job.show_target(|target| loggable_target(target.as_bytes()));
}

fn redelivering(config: &Config) -> impl Iterator<Item = &Arc<Redeliver>> {
    config.listeners.iter().flat_map(|listener| &listener.routes).filter_map(|route| route.policy.redeliver.as_ref())
}

// === impl RouteOwed ===

impl RouteOwed {
    /// The journal, while it has not been read yet: what is owed is unknown, and a live request must not go first.
    pub(crate) fn unread_journal(&self) -> Option<&Path> {
        self.redelivery.directory().filter(|_| !self.redelivery.is_read())
    }

    /// A request has arrived that is sent again where it is missed.
    pub(crate) fn arrival(&self) -> Arrival<'_> {
        self.redelivery.arrival(self.route, clock::now().into_std())
    }

    /// What makes an endpoint the same one when it returns.
    pub(crate) fn key<'a>(&self, target: &'a Target) -> &'a Arc<str> {
        match self.config.identity {
            Identity::Name => target.pod_key().unwrap_or(target.authority()),
            Identity::Address => target.authority(),
        }
    }

    /// The state of a delivery after its leg has ended, or failed by the head of its answer.
    pub(crate) fn verdict(&self, leg: &Leg) -> Verdict {
        let Some((outcome, status)) = end_of(leg) else { return Verdict::Cancelled };
        let last = Last { outcome: outcome.as_str(), status, at: wall_clock(), error: leg.error().map(Into::into) };
        match outcome {
            Outcome::Ok => Verdict::Delivered(last),
            Outcome::Cancelled => Verdict::Cancelled,
            _ if self.counts_as_missed(leg) => Verdict::Missed(last),
            _ => Verdict::Refused(last),
        }
    }

    /// Whether a leg that has failed is sent again, or was not sent because it comes later.
    pub(crate) fn counts_as_missed(&self, leg: &Leg) -> bool {
        let Some((outcome, status)) = end_of(leg) else { return false };
        // With gRPC the status of HTTP says nothing.
        let class = if outcome == Outcome::ServerError { status.map(|status| status.max(500)) } else { status };
        outcome == Outcome::Deferred || self.config.on.counts(outcome.as_str(), class)
    }

    /// Whom a copy to this endpoint is owed to.
    pub(crate) fn whom(&self, target: &Target) -> Whom {
        Whom {
            key: self.key(target).clone(),
            endpoint: target.authority().clone(),
            pod: target.endpoint.pod.as_ref().map(|pod| pod.name.clone()),
        }
    }
}

/// How a leg has ended: one without a result yet by the head of its answer, which will not do.
fn end_of(leg: &Leg) -> Option<(Outcome, Option<u16>)> {
    match (leg.result(), leg.response()) {
        (Some(result), _) => Some((result.outcome, result.status)),
        (None, Some(head)) => Some((Outcome::of_status(head.status, false), Some(head.status))),
        (None, None) => None,
    }
}
