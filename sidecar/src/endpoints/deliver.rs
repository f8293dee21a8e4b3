//! Delivers changes: first to the hosts file, then to the command.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ::metrics::counter;
use controlplane::index::ServiceKey;
use futures::future::select_all;
use runtime::backoff::Backoff;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use super::{
    exec::Exec,
    hosts::{HostsError, HostsFile, Parts, WriteResult},
    metrics as names,
    service::{Published, Service},
};

/// The interval at which the age of the data is reported, and a failed write of the hosts file is retried.
const TICK: Duration = Duration::from_secs(1);

/// The interval at which the block in the hosts file is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The longest delay before a command that failed runs again.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// Where changes are delivered to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliver {
    /// A hosts file.
    pub hosts: Option<HostsFile>,
    /// A command.
    pub exec: Option<Exec>,
}

/// The hosts file and how far it is up to date.
struct Hosts {
    file: HostsFile,
    services: Vec<ServiceKey>,
    /// Whether something has changed since the last write.
    due: bool,
    /// When the file was last checked: others write to it too, and may remove our block.
    looked: Option<Instant>,
    /// The last error, so that each is logged once.
    problem: Option<String>,
    /// Whether it has been logged that the file is written in place.
    in_place: bool,
}

/// The changes for which the command has not run yet.
struct Pending {
    changed: BTreeSet<ServiceKey>,
    /// When it is to run.
    at: Option<Instant>,
    backoff: Backoff,
}

type States = Vec<watch::Receiver<Option<Arc<Published>>>>;

/// Follows the services for ever. The command runs after the hosts file was written. Dropping the future kills it.
pub async fn deliver(services: &[Arc<Service>], config: Deliver) {
    let mut states: States = services.iter().map(|service| service.subscribe()).collect();
    // The state at the start counts as a change.
    states.iter_mut().for_each(watch::Receiver::mark_changed);
    let keys = || services.iter().map(|service| service.key().clone()).collect::<Vec<_>>();
    names::from_zero(config.hosts.is_some(), config.exec.is_some());
    let mut hosts = config.hosts.map(|file| Hosts::new(file, keys()));
    let mut pending = Pending::new();
    let mut seen = vec![0; services.len()];
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let fires = pending.at.filter(|_| config.exec.is_some());
        tokio::select! {
            () = any_change(&mut states) => {
                let changed = take_changed(services, &mut states, &mut seen);
                if let Some(hosts) = hosts.as_mut().filter(|_| !changed.is_empty()) {
                    hosts.due = true;
                    hosts.write(&states).await;
                }
                if let Some(exec) = &config.exec {
                    pending.add(changed, exec.debounce);
                }
            }
            _ = ticks.tick() => {
                services.iter().for_each(|service| service.report_age());
                if let Some(hosts) = hosts.as_mut().filter(|hosts| hosts.is_due()) {
                    hosts.write(&states).await;
                }
            }
            () = at(fires) => {
                let Some(exec) = &config.exec else { continue };
                let changed = std::mem::take(&mut pending.changed);
                pending.at = None;
                // Changes in the meantime are found afterwards, and run it again.
                let names: Vec<String> = changed.iter().map(ToString::to_string).collect();
                let done = meanwhile(exec.run(&names.join(" ")), services).await;
                pending.settle(done, changed);
            }
        }
    }
}

/// Waits for the work, and reports the age of the data.
async fn meanwhile<T>(work: impl Future<Output = T>, services: &[Arc<Service>]) -> T {
    let mut work = std::pin::pin!(work);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => services.iter().for_each(|service| service.report_age()),
        }
    }
}

async fn any_change(states: &mut States) {
    let (ended, ..) = select_all(states.iter_mut().map(|state| Box::pin(state.changed()))).await;
    if ended.is_err() {
        // A service exists as long as the process.
        std::future::pending::<()>().await;
    }
}

/// The services with a state that was not delivered yet.
fn take_changed(services: &[Arc<Service>], states: &mut States, seen: &mut [u64]) -> BTreeSet<ServiceKey> {
    let mut changed = BTreeSet::new();
    for ((service, state), seen) in services.iter().zip(states).zip(seen) {
        let now = state.borrow_and_update();
        if let Some(published) = now.as_ref().filter(|published| published.index != *seen) {
            *seen = published.index;
            changed.insert(service.key().clone());
        }
    }
    changed
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

// === impl Hosts ===

impl Hosts {
    fn new(file: HostsFile, services: Vec<ServiceKey>) -> Self {
        Self { file, services, due: false, looked: None, problem: None, in_place: false }
    }

    fn is_due(&self) -> bool {
        self.due || self.looked.is_some_and(|looked| looked.elapsed() >= CHECK_INTERVAL)
    }

    async fn write(&mut self, states: &States) {
        let mut parts = Parts::new();
        for (key, state) in self.services.iter().zip(states) {
            if let Some(published) = &*state.borrow() {
                parts.insert(key.clone(), self.file.lines(key, published));
            }
        }
        let (file, services) = (self.file.clone(), self.services.clone());
        // Writing may block, so it does not run on a worker.
        let result = match tokio::task::spawn_blocking(move || file.write(&parts, &services)).await {
            Ok(result) => result.map_err(|error: HostsError| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.due = result.is_err();
        self.looked = Some(Instant::now());
        match result {
            Ok(WriteResult::Unchanged) => self.problem = None,
            Ok(written) => {
                let path = self.file.path.display();
                if written == WriteResult::InPlace && !self.in_place {
                    self.in_place = true;
                    warn!(%path, "the hosts file cannot be replaced, because it is a mount or its folder cannot be written: \
                        it is written in place, so that a reader may for a moment see a part of it");
                }
                info!(%path, "the hosts file is up to date");
                let result = if written == WriteResult::InPlace { "in_place" } else { "replaced" };
                counter!(names::HOSTS_WRITES, "result" => result).increment(1);
                self.problem = None;
            }
            Err(why) => {
                counter!(names::HOSTS_WRITES, "result" => "failed").increment(1);
                if self.problem.as_ref() != Some(&why) {
                    warn!("{why}; trying again every second");
                    self.problem = Some(why);
                }
            }
        }
    }
}

// === impl Pending ===

impl Pending {
    fn new() -> Self {
        let backoff = Backoff::new(TICK, 2.0, MAX_RETRY_DELAY);
        Self { changed: BTreeSet::new(), at: None, backoff }
    }

    /// Notes a change. The command is due a fixed time after the first change for which it has not run.
    fn add(&mut self, changed: BTreeSet<ServiceKey>, debounce: Duration) {
        if changed.is_empty() {
            return;
        }
        self.changed.extend(changed);
        let at = Instant::now() + debounce;
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// Notes that the command has ended. If it failed, it runs again.
    fn settle(&mut self, done: bool, changed: BTreeSet<ServiceKey>) {
        if done {
            self.backoff.reset();
        } else {
            self.changed.extend(changed);
            self.at = Some(Instant::now() + self.backoff.next_delay());
        }
    }
}

#[cfg(test)]
mod tests;
