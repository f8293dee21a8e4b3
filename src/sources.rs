//! The sources of endpoints: one for each target that some route leads to, started before the route and stopped after.

use std::{collections::BTreeMap, time::Duration};

use controlplane::source::{
    dns::{DnsSource, Resolver, Settings},
    file::FileSource,
    fixed::FixedSource,
    http::HttpSource,
    kube::KubeSource,
};
use runtime::{
    file_watch::{self, Poller},
    readiness::Readiness,
};
use snapshot::{Change, ClusterName, Publisher, Reader};
use tokio::task::JoinHandle;

use crate::{config::Target, kubernetes::Kubernetes};

/// The running sources.
pub(crate) struct Sources {
    publisher: Publisher,
    reader: Reader,
    readiness: Readiness,
    kubernetes: Kubernetes,
    running: BTreeMap<ClusterName, Source>,
    resolver: Resolver,
    /// Checks the files of all sources.
    poller: Poller,
}

/// A running source, and what it was made from.
struct Source {
    target: Target,
    _task: SourceTask,
}

/// A task that runs until it is dropped.
struct SourceTask(JoinHandle<()>);

// === impl Sources ===

impl Sources {
    /// No source yet.
    pub(crate) fn new(
        publisher: Publisher,
        reader: Reader,
        readiness: Readiness,
        kubernetes: Kubernetes,
        dns: Settings,
    ) -> Self {
        let (resolver, poller) = (Resolver::system(dns), Poller::every(file_watch::DEFAULT_INTERVAL));
        Self { publisher, reader, readiness, kubernetes, running: BTreeMap::new(), resolver, poller }
    }

    /// Resolves every name again at once, whatever the TTL of the last answer.
    pub(crate) fn ask_again(&self) {
        self.resolver.ask_again();
    }

    /// Changes how names are resolved from now on.
    pub(crate) fn set_dns(&self, dns: Settings) {
        self.resolver.set(dns);
    }

    /// Starts the sources of those targets that have none yet, and starts those anew whose target is another one now. Of
    /// the latter the endpoints stay until there are others.
    ///
    /// # Errors
    /// There is no configuration for what a source needs: Kubernetes.
    pub(crate) async fn start(&mut self, targets: &BTreeMap<ClusterName, Target>) -> anyhow::Result<()> {
        for (cluster, target) in targets {
            if self.running.get(cluster).is_none_or(|running| running.target != *target) {
                let task = self.spawn(cluster, target).await?;
                self.running.insert(cluster.clone(), Source { target: target.clone(), _task: task });
            }
        }
        Ok(())
    }

    /// Waits until every target has had its first list.
    ///
    /// # Errors
    /// A target has none in time; the text says which, and why as far as it is known.
    pub(crate) async fn first_lists(
        &self,
        targets: &BTreeMap<ClusterName, Target>,
        patience: Duration,
    ) -> Result<(), String> {
        let mut reader = self.reader.clone();
        let missing = |snapshot: &snapshot::Snapshot| {
            targets.keys().find(|name| snapshot.cluster(name.as_str()).is_none()).cloned()
        };
        let all = async {
            let mut snapshot = std::sync::Arc::clone(&reader.load());
            while missing(&snapshot).is_some() {
                let Ok(newer) = reader.newer_than(snapshot.version().sequence).await else { return };
                snapshot = newer;
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
        match missing(&self.reader.load()) {
            None => Ok(()),
            Some(name) => {
                let why = self.readiness.check().err().unwrap_or_default();
                Err(format!("{name} has no list of endpoints yet ({why})"))
            }
        }
    }

    /// Stops the sources of all other targets, and removes their endpoints.
    pub(crate) fn stop_unused(&mut self, used: &BTreeMap<ClusterName, Target>) {
        let unused: Vec<_> = self.running.keys().filter(|name| !used.contains_key(*name)).cloned().collect();
        for name in &unused {
            self.running.remove(name);
        }
        self.publisher.apply(unused.into_iter().map(Change::Remove));
    }

    async fn spawn(&mut self, cluster: &ClusterName, target: &Target) -> anyhow::Result<SourceTask> {
        let gate = self.readiness.register(cluster.as_str());
        let (cluster, publisher) = (cluster.clone(), self.publisher.clone());
        let task = match target {
            Target::Endpoints(targets) => {
                let (targets, resolver) = (targets.clone(), self.resolver.clone());
                tokio::spawn(FixedSource { cluster, targets, resolver, publisher, gate }.run())
            }
            Target::File(files) => {
                let (files, poller, resolver) = (files.clone(), self.poller.clone(), self.resolver.clone());
                tokio::spawn(FileSource { cluster, files, poller, resolver, publisher, gate }.run())
            }
            Target::Url { url, refresh } => {
                let (url, refresh, resolver) = (url.clone(), *refresh, self.resolver.clone());
                tokio::spawn(HttpSource { cluster, url, refresh, resolver, publisher, gate }.run())
            }
            Target::Dns(query) => {
                let (query, resolver) = (query.clone(), self.resolver.clone());
                tokio::spawn(DnsSource { cluster, query, resolver, publisher, gate }.run())
            }
            Target::Service(selection) => {
                let (selection, kube) = (selection.clone(), self.kubernetes.watches().await?);
                tokio::spawn(KubeSource { cluster, selection, kube, publisher, gate }.run())
            }
        };
        Ok(SourceTask(task))
    }
}

// === impl SourceTask ===

impl Drop for SourceTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
