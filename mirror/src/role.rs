//! The mirror as a whole: its watches, its workers, its clock, its beginning and its end.

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
use remote::Remote;
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

/// How often what follows from the passing of time is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often it is asked which rights there are, and how often while one is missing.
const RIGHTS: Duration = Duration::from_secs(60);
const RIGHTS_MISSING: Duration = Duration::from_secs(5);

/// How long what was begun may take once the drain has begun.
const FINISH: Duration = Duration::from_secs(5);

/// Access to a remote: a client, or why there is none yet. A new client restarts the watches of that remote.
pub type Access = tokio::sync::watch::Receiver<Result<Client, String>>;

/// What a mirror works with.
pub struct Connections {
    /// The local API server.
    pub local: Client,
    /// The remotes, in the order of the configuration.
    pub remotes: Vec<Access>,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// Opens when there is a complete list of everything here, and of every remote one, or a reason why not. A missing right
    /// keeps it closed, and is named.
    pub gate: Gate,
}

/// Mirrors Services of other clusters.
pub struct Mirror {
    config: Arc<Config>,
    local: Client,
    remotes: Vec<Remote>,
    namespaces: Vec<Local>,
    reconciler: Arc<Reconciler>,
    leadership: Leadership,
    gate: Gate,
    health: Health,
    /// Rights to write that are missing here.
    missing_rights: Mutex<Vec<String>>,
}

/// The watches of one local namespace.
struct Local {
    namespace: Arc<str>,
    services: Status,
    slices: Status,
}

impl Mirror {
    /// A mirror that does nothing yet.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    ///
    /// # Panics
    /// Where there are not as many connections as remotes.
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
        let remotes: Vec<Remote> =
            remotes.map(|(number, access)| Remote::new(number, &config.remotes[number], access)).collect();
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

    /// How it is, for those who ask while it runs.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Mirrors until the drain begins; returns when what was begun is written, which takes some seconds at most.
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
            // In this order: when the drain begins the workers end too, and that is no fault.
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
        // What is cut is as safe as what a crash cuts.
        let _ = tokio::time::timeout(FINISH, ended).await;
    }

    /// What it would do, without doing it: waits until everything is listed or has failed, at most so long.
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
        self.tell_unmatched(&mut BTreeSet::new()).await;
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

    /// Looks at everything again whenever this process begins to lead.
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
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut compared = Instant::now();
        loop {
            ticks.tick().await;
            self.look_at_time();
            self.tell_nameless().await;
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

    /// What follows from the passing of time: who is away for too long, what need not be held back any more.
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

    /// Tells about Services that cannot have a name here.
    async fn tell_nameless(&self) {
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
            self.reconciler.apply.tell(&about, None, refusal.reason(), &note).await;
        }
    }

    /// Of what there is no complete list yet, nor a reason why.
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

    /// What is wrong here, whether anything was known before or not.
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

    /// Opens the gate, or says what is missing.
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

    /// Why what is to be written here cannot be.
    fn cannot_write(&self) -> Vec<String> {
        let mut why: BTreeSet<String> = self.missing_rights.lock().iter().cloned().collect();
        if self.reconciler.apply.leads() {
            why.extend(self.reconciler.bars());
        }
        why.into_iter().collect()
    }

    /// Asks for the rights to write, so that what is missing is told before it is needed.
    async fn ask_for_rights(&self) -> Infallible {
        loop {
            let mut missing = Vec::new();
            for local in &self.namespaces {
                missing.extend(self.reconciler.apply.missing_rights(&local.namespace).await);
            }
            let pause = if missing.is_empty() { RIGHTS } else { RIGHTS_MISSING };
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

    /// How everything is, for those who ask.
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
