//! The sources of endpoints: one for each target that some route leads to, started before the route and stopped after.

use std::{collections::BTreeMap, time::Duration};

use controlplane::source::{
    dns::{DnsSource, Resolver},
    file::FileSource,
    fixed::{self, FixedSource},
    kube::KubeSource,
};
use runtime::readiness::Readiness;
use snapshot::{Change, ClusterName, Publisher, Reader};
use tokio::task::JoinHandle;

use crate::{config::Target, kubernetes::Kubernetes};

/// The running sources.
pub(crate) struct Sources {
    publisher: Publisher,
    reader: Reader,
    readiness: Readiness,
    kubernetes: Kubernetes,
    running: BTreeMap<ClusterName, Task>,
    /// Made when the first source needs it.
    resolver: Option<Resolver>,
}

/// A source that runs until it is dropped.
struct Task(JoinHandle<()>);

// === impl Sources ===

impl Sources {
    /// No source yet.
    pub(crate) fn new(publisher: Publisher, reader: Reader, readiness: Readiness, kubernetes: Kubernetes) -> Self {
        Self { publisher, reader, readiness, kubernetes, running: BTreeMap::new(), resolver: None }
    }

    /// Starts those that do not run yet.
    ///
    /// # Errors
    /// There is no configuration for what a source needs: DNS or Kubernetes.
    pub(crate) async fn start(&mut self, targets: &BTreeMap<ClusterName, Target>) -> anyhow::Result<()> {
        for (cluster, target) in targets {
            if !self.running.contains_key(cluster) {
                let task = self.spawn(cluster, target).await?;
                self.running.insert(cluster.clone(), task);
            }
        }
        Ok(())
    }

    /// Waits until every target has had its first list.
    ///
    /// # Errors
    /// One has none within the patience; the text says which, and why as far as it is known.
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

    /// Stops those that are none of these, and removes their endpoints.
    pub(crate) fn stop_unused(&mut self, used: &BTreeMap<ClusterName, Target>) {
        let unused: Vec<_> = self.running.keys().filter(|name| !used.contains_key(*name)).cloned().collect();
        for name in &unused {
            self.running.remove(name);
        }
        self.publisher.apply(unused.into_iter().map(Change::Remove));
    }

    async fn spawn(&mut self, cluster: &ClusterName, target: &Target) -> anyhow::Result<Task> {
        let gate = self.readiness.register(cluster.as_str());
        let (cluster, publisher) = (cluster.clone(), self.publisher.clone());
        let task = match target {
            Target::Endpoints(targets) => {
                let resolver = if fixed::needs_dns(targets) { Some(self.resolver()?) } else { None };
                tokio::spawn(FixedSource { cluster, targets: targets.clone(), resolver, publisher, gate }.run())
            }
            Target::File(path) => {
                // A file of addresses needs no DNS.
                let resolver = self.resolver().ok();
                tokio::spawn(FileSource::new(cluster, path.clone(), resolver, publisher, gate).run())
            }
            Target::Dns(query) => {
                let resolver = self.resolver()?;
                tokio::spawn(DnsSource { cluster, query: query.clone(), resolver, publisher, gate }.run())
            }
            Target::Service(selection) => {
                let (selection, kube) = (selection.clone(), self.kubernetes.watches().await?);
                tokio::spawn(KubeSource { cluster, selection, kube, publisher, gate }.run())
            }
        };
        Ok(Task(task))
    }

    fn resolver(&mut self) -> anyhow::Result<Resolver> {
        match &self.resolver {
            Some(resolver) => Ok(resolver.clone()),
            None => Ok(self.resolver.insert(Resolver::system()?).clone()),
        }
    }
}

// === impl Task ===

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
