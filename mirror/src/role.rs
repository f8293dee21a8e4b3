//! The mirror as a whole: runs its watches, workers and periodic checks, from start to drain.

mod hints;
mod remote;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane::{
    index::ServiceKey,
    lease::Leadership,
    watch::{self, Event, Scope as WatchScope, Status, WatchKey},
};
use futures::future::{BoxFuture, join_all};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::Client;
use parking_lot::Mutex;
use remote::RemoteWatches;
use runtime::{drain::DrainWatch, readiness::Gate};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    apply::Apply,
    config::{Config, ConfigError},
    health::Health,
    marks,
    queue::Queue,
    reconcile::Reconciler,
    refusal::Refusal,
    report::Report,
    world::World,
};

/// The interval of the periodic checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The interval at which the rights are checked, and the one while a right is missing.
const RIGHTS_INTERVAL: Duration = Duration::from_secs(60);
const MISSING_RIGHTS_INTERVAL: Duration = Duration::from_secs(5);

/// The time limit of work in progress after the drain has begun.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Access to a remote: a client, or why there is none yet. A new client restarts the watches of that remote.
pub type Access = tokio::sync::watch::Receiver<Result<Client, String>>;

/// The dependencies of a mirror.
pub struct Connections {
    /// The local API server.
    pub local: Client,
    /// The remotes, in the order of the configuration.
    pub remotes: Vec<Access>,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// Ready when there is a complete list of everything local and of each remote, or a reason why there is none. A missing right keeps it
    /// pending, and is named.
    pub gate: Gate,
}

/// Mirrors Services of other clusters.
pub struct Mirror {
    config: Arc<Config>,
    local: Client,
    remotes: Vec<RemoteWatches>,
    namespaces: Vec<Local>,
    reconciler: Arc<Reconciler>,
    leadership: Leadership,
    gate: Gate,
    health: Health,
    /// Missing rights to write in the local cluster.
    missing_rights: Mutex<Vec<String>>,
}

/// The watches of one local namespace.
struct Local {
    namespace: Arc<str>,
    services: Status,
    slices: Status,
}

impl Mirror {
    /// A mirror that is not running yet.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of the configuration.
    ///
    /// # Panics
    /// If the numbers of connections and remotes differ.
    pub fn new(config: Config, connections: Connections) -> Result<Self, ConfigError> {
        config.check()?;
        assert_eq!(config.remotes.len(), connections.remotes.len(), "one connection for each remote");
        let config = Arc::new(config);
        let world = World::new(config.clone());
        let local = |namespace: &Arc<str>| Local {
            namespace: namespace.clone(),
            services: Status::default(),
            slices: Status::default(),
        };
        let namespaces = world.namespaces().map(local).collect();
        let remotes = connections.remotes.into_iter().enumerate();
        let remotes: Vec<RemoteWatches> =
            remotes.map(|(number, access)| RemoteWatches::new(number, &config.remotes[number], access)).collect();
        let apply = Apply::new(connections.local.clone(), connections.leadership.clone());
        let reconciler =
            Reconciler { world: Mutex::new(world), queue: Queue::default(), apply, barred: Mutex::default() };
        Ok(Self {
            config,
            local: connections.local,
            remotes,
            namespaces,
            reconciler: Arc::new(reconciler),
            leadership: connections.leadership,
            gate: connections.gate,
            health: Health::new(),
            missing_rights: Mutex::default(),
        })
    }

    /// The health of the mirror.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Mirrors until the drain begins, and finishes the work in progress, which takes some seconds at most.
    pub async fn run(self, drain: DrainWatch) {
        let mut workers = JoinSet::new();
        for _ in 0..self.config.workers {
            let (reconciler, drain) = (self.reconciler.clone(), drain.clone());
            workers.spawn(async move { reconciler.work(drain).await });
        }
        {
            let watching = self.watch_all();
            let ticking = self.tick(&drain);
            let leading = self.lead(self.leadership.clone());
            let asking = self.ask_for_rights();
            let hinting = self.hint();
            // Biased, because the workers end as well when the drain begins, which is no error.
            tokio::select! {
                biased;
                () = drain.wait() => {}
                Some(ended) = workers.join_next() => {
                    self.health.fail(format!("a worker ended: {ended:?}"));
                    drain.wait().await;
                }
                never = watching => match never {},
                never = ticking => match never {},
                never = leading => match never {},
                never = asking => match never {},
                never = hinting => match never {},
            }
        }
        let ended = async { while workers.join_next().await.is_some() {} };
        // Work that is cut off here leaves a state from which the next process recovers, as after a crash.
        let _ = tokio::time::timeout(FINISH_TIMEOUT, ended).await;
    }

    /// The actions that it would take, without taking them. Waits until everything is listed or has failed, for at most this time.
    pub async fn plan(self, patience: Duration) -> Report {
        let deadline = tokio::time::Instant::now() + patience;
        let known = async {
            let mut ticks = interval(Duration::from_millis(20));
            loop {
                ticks.tick().await;
                self.look_at_time();
                if self.unknown().is_empty() {
                    return;
                }
            }
        };
        tokio::select! {
            never = self.watch_all() => match never {},
            () = known => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
        self.warn_of_unmatched(&mut BTreeSet::new()).await;
        let mut problems = self.problems();
        problems.extend(self.unknown());
        let mut world = self.reconciler.world.lock();
        world.judge(Instant::now());
        Report::of(&mut world, problems)
    }

    async fn watch_all(&self) -> Infallible {
        let mut watches: Vec<BoxFuture<'_, Infallible>> = Vec::new();
        for local in &self.namespaces {
            watches.push(Box::pin(self.watch_local(local)));
        }
        for remote in &self.remotes {
            watches.push(Box::pin(remote.follow(&self.reconciler)));
        }
        join_all(watches).await;
        std::future::pending().await
    }

    async fn watch_local(&self, local: &Local) -> Infallible {
        let Reconciler { world, queue, .. } = &*self.reconciler;
        let scope = || WatchScope::Namespace(local.namespace.clone());
        let services = WatchKey::new("services", "", scope(), "");
        let slices = WatchKey::new("endpointslices", "discovery.k8s.io", scope(), marks::SERVICE_NAME);
        let service = |event: Event<Service>| {
            let dirty = world.lock().local_service(&local.namespace, event);
            queue.add(dirty, Instant::now());
        };
        let slice = |event: Event<EndpointSlice>| {
            let dirty = world.lock().local_slice(&local.namespace, event);
            queue.add(dirty, Instant::now());
        };
        tokio::select! {
            never = watch::watch(services.api(self.local.clone()), services, local.services.clone(), service) => never,
            never = watch::watch(slices.api(self.local.clone()), slices, local.slices.clone(), slice) => never,
        }
    }

    /// Reconciles all names whenever this process begins to lead.
    async fn lead(&self, mut leadership: Leadership) -> Infallible {
        loop {
            leadership.changed().await;
            if leadership.claim().is_ok() {
                self.look_again();
            }
        }
    }

    fn look_again(&self) {
        let names = self.reconciler.world.lock().names();
        self.reconciler.queue.add(names, Instant::now());
    }

    async fn tick(&self, drain: &DrainWatch) -> Infallible {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut compared = Instant::now();
        loop {
            ticks.tick().await;
            self.look_at_time();
            self.report_nameless().await;
            if !self.config.resync.is_zero() && compared.elapsed() >= self.config.resync {
                compared = Instant::now();
                self.look_again();
            }
            if !drain.is_draining() {
                self.report_readiness();
            }
            self.health.beat(self.state());
            self.measure();
        }
    }

    /// The periodic checks: which remotes have been unavailable for too long, and which deletions are no longer held back.
    fn look_at_time(&self) {
        let now = Instant::now();
        let mut world = self.reconciler.world.lock();
        let mut dirty = world.judge(now);
        for remote in &self.remotes {
            for (scope, away) in remote.away().into_iter().enumerate() {
                dirty.append(&mut world.away(remote.number(), scope, away));
            }
        }
        drop(world);
        self.reconciler.queue.add(dirty, now);
    }

    /// Reports Services that cannot have a local name.
    async fn report_nameless(&self) {
        if !self.reconciler.apply.leads() {
            return;
        }
        let nameless: Vec<(ServiceKey, Refusal, String)> = {
            let world = self.reconciler.world.lock();
            let told = world.nameless().map(|(remote, service, problem)| {
                let namespace = remote.namespace.as_str().into();
                let refusal = Refusal::Name(problem.clone());
                let note = format!("Service {service} of {}: {refusal}", remote.name);
                (ServiceKey { namespace, name: service.name.clone() }, refusal, note)
            });
            told.collect()
        };
        for (about, refusal, note) in nameless {
            self.reconciler.apply.report(&about, None, refusal.reason(), &note).await;
        }
    }

    /// The lists that are neither complete yet nor have failed.
    fn unknown(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        for local in &self.namespaces {
            for (kind, status) in [("services", &local.services), ("endpointslices", &local.slices)] {
                let state = status.subscribe().borrow().clone();
                if !state.connected && state.problem.is_none() {
                    unknown.push(format!(
                        "waiting for the first complete list of {kind} in namespace {}",
                        local.namespace
                    ));
                }
            }
        }
        let world = self.reconciler.world.lock();
        for remote in &self.remotes {
            unknown.extend(remote.unknown(&world.remotes[remote.number()]));
        }
        unknown
    }

    /// The problems in the local cluster.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for local in &self.namespaces {
            for status in [&local.services, &local.slices] {
                problems.extend(status.subscribe().borrow().problem.clone());
            }
        }
        let world = self.reconciler.world.lock();
        for remote in &self.remotes {
            problems.extend(remote.problems(&world.remotes[remote.number()]));
        }
        problems
    }

    /// Sets the gate to ready, or to what is missing.
    fn report_readiness(&self) {
        let mut missing = self.unknown();
        for local in &self.namespaces {
            for status in [&local.services, &local.slices] {
                let state = status.subscribe().borrow().clone();
                if !state.listed {
                    missing.extend(state.problem);
                }
            }
        }
        for remote in &self.remotes {
            missing.extend(remote.missing_rights());
        }
        missing.extend(self.cannot_write());
        if missing.is_empty() { self.gate.set_ready() } else { self.gate.set_not_ready(missing.join("; ")) }
    }

    /// Why mirrors cannot be written to the local cluster.
    fn cannot_write(&self) -> Vec<String> {
        let mut why: BTreeSet<String> = self.missing_rights.lock().iter().cloned().collect();
        if self.reconciler.apply.leads() {
            why.extend(self.reconciler.bars());
        }
        why.into_iter().collect()
    }

    /// Checks the rights to write, so that missing ones are reported before they are needed.
    async fn ask_for_rights(&self) -> Infallible {
        loop {
            let mut missing = Vec::new();
            for local in &self.namespaces {
                missing.extend(self.reconciler.apply.missing_rights(&local.namespace).await);
            }
            let pause = if missing.is_empty() { RIGHTS_INTERVAL } else { MISSING_RIGHTS_INTERVAL };
            let news = {
                let mut known = self.missing_rights.lock();
                let news: Vec<String> = missing.iter().filter(|one| !known.contains(one)).cloned().collect();
                *known = missing;
                news
            };
            for one in news {
                tracing::warn!("{one}");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The report of the mirror's state.
    fn state(&self) -> serde_json::Value {
        let world = self.reconciler.world.lock();
        let remotes: serde_json::Map<String, serde_json::Value> = self
            .remotes
            .iter()
            .map(|remote| (remote.name().to_owned(), remote.state(&world.remotes[remote.number()])))
            .collect();
        let (waiting, failing) = self.reconciler.queue.depth();
        serde_json::json!({
            "leads": self.reconciler.apply.leads(),
            "waiting": waiting,
            "failing": failing,
            "cannot_write": self.cannot_write(),
            "held_deletions": world.held(),
            "remotes": remotes,
        })
    }

    fn measure(&self) {
        use ::metrics::gauge;

        use crate::metrics as names;
        let world = self.reconciler.world.lock();
        let mut unusable = 0;
        for remote in &self.remotes {
            let state = &world.remotes[remote.number()];
            remote.measure(state);
            unusable += state.index.unusable();
        }
        gauge!(names::UNUSABLE).set(unusable as f64);
        gauge!(names::HELD).set(world.held() as f64);
        let (waiting, failing) = self.reconciler.queue.depth();
        gauge!(names::QUEUE).set(waiting as f64);
        gauge!(names::FAILING).set(failing as f64);
        let global = self.config.global.iter().map(|global| &global.prefix);
        let prefixes: BTreeSet<&String> =
            self.config.remotes.iter().map(|remote| &remote.prefix).chain(global).collect();
        for prefix in prefixes {
            let (mut services, mut slices, mut endpoints) = (0_usize, 0_usize, 0_usize);
            for (_key, live) in world.live() {
                services += usize::from(live.has_prefix(prefix));
                let ours = live.slices.values().filter(|slice| slice.is_ours(prefix));
                for slice in ours {
                    slices += 1;
                    endpoints += slice.endpoints;
                }
            }
            for (kind, count) in [("services", services), ("endpointslices", slices), ("endpoints", endpoints)] {
                gauge!(names::OBJECTS, "prefix" => prefix.clone(), "kind" => kind).set(count as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests;
