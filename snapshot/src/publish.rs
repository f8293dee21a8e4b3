//! The one way from writers to readers: a publisher applies changes, readers load the result with one atomic operation.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Cluster, ClusterName, ContentHash, Snapshot, Version};

/// One change of one cluster.
#[derive(Clone, Debug)]
pub enum Change {
    /// The cluster is now this.
    Set(Arc<Cluster>),
    /// The cluster is gone.
    Remove(ClusterName),
}

/// The writing end. It can be cloned: several sources may use one publisher, each for clusters of its own.
#[derive(Clone, Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    // Every publisher holds the sender, so readers notice when the last one is gone.
    sequence: Arc<watch::Sender<u64>>,
}

/// The reading end. Cheap to clone; loading never blocks and never waits for a writer.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    sequence: watch::Receiver<u64>,
}

/// Every publisher is gone: no newer snapshot will come. The last one stays readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the source of snapshots has ended; the last snapshot stays in use")]
pub struct Closed;

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Snapshot>,
    /// Held by a writer while it derives a new snapshot from the current one; readers never take it.
    writing: Mutex<()>,
}

/// A publisher with an empty snapshot, and its reader.
#[must_use]
pub fn channel() -> (Publisher, Reader) {
    let shared = Arc::new(Shared { current: ArcSwap::from_pointee(Snapshot::default()), writing: Mutex::new(()) });
    let (sender, receiver) = watch::channel(0);
    let publisher = Publisher { shared: shared.clone(), sequence: Arc::new(sender) };
    (publisher, Reader { shared, sequence: receiver })
}

impl Publisher {
    /// Applies all changes as one new snapshot and publishes it with one swap.
    ///
    /// The cost depends on the size of the changes, not of the snapshot. Returns the resulting version, which is the old one if
    /// nothing has changed.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Version {
        let _writing = self.shared.writing.lock();
        let current = self.shared.current.load();
        let mut next = Snapshot::clone(&current);
        for change in changes {
            next.change(change);
        }
        if next.version == current.version {
            return current.version;
        }
        next.version.sequence += 1;
        let version = next.version;
        self.shared.current.store(Arc::new(next));
        self.sequence.send_replace(version.sequence);
        version
    }
}

impl Reader {
    /// The current snapshot. A request calls this once and keeps the result.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.shared.current.load()
    }

    /// Waits until the snapshot is newer than the one with this sequence number, and returns it.
    ///
    /// Versions in between may be skipped: the newest is what counts.
    ///
    /// # Errors
    /// [`Closed`] when every publisher is gone and there is nothing newer.
    pub async fn newer_than(&mut self, sequence: u64) -> Result<Arc<Snapshot>, Closed> {
        let waited = self.sequence.wait_for(|now| *now > sequence).await.is_ok();
        let snapshot = self.shared.current.load_full();
        if waited || snapshot.version.sequence > sequence { Ok(snapshot) } else { Err(Closed) }
    }
}

impl Snapshot {
    /// Applies one change and updates the content hash.
    fn change(&mut self, change: Change) {
        let gone = match change {
            Change::Set(cluster) => {
                let former = self.clusters.get(cluster.name());
                if former.is_some_and(|former| **former == *cluster) {
                    return;
                }
                let cluster = match former {
                    Some(former) => {
                        let mut cluster = Arc::unwrap_or_clone(cluster);
                        cluster.share_with(former);
                        Arc::new(cluster)
                    }
                    None => cluster,
                };
                self.version.content = self.version.content.with(cluster.hash());
                self.clusters.insert(cluster.name().clone(), cluster)
            }
            Change::Remove(name) => self.clusters.remove(&name),
        };
        let gone = gone.map_or(ContentHash::default(), |cluster| cluster.hash());
        self.version.content = self.version.content.without(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    fn cluster(name: &str, ports: &[u16]) -> Arc<Cluster> {
        let endpoints = ports.iter().map(|p| Endpoint::ready(([192, 0, 2, 1], *p).into())).collect();
        Arc::new(Cluster::new(ClusterName::new(name).unwrap(), endpoints))
    }

    #[test]
    fn equal_content_is_not_published_again() {
        let (publisher, reader) = channel();
        let first = publisher.apply([Change::Set(cluster("a", &[1, 2]))]);
        assert_eq!(first.sequence, 1);
        assert_eq!(publisher.apply([Change::Set(cluster("a", &[2, 1]))]), first);
        assert_eq!(publisher.apply([Change::Remove(ClusterName::new("b").unwrap())]), first);
        assert_eq!(reader.load().version(), first);
    }

    #[test]
    fn the_content_hash_depends_on_content_only() {
        let (one, _r1) = channel();
        one.apply([Change::Set(cluster("a", &[1])), Change::Set(cluster("b", &[2]))]);
        one.apply([Change::Set(cluster("a", &[3]))]);
        let (two, _r2) = channel();
        two.apply([Change::Set(cluster("b", &[2])), Change::Set(cluster("c", &[9]))]);
        two.apply([Change::Remove(ClusterName::new("c").unwrap())]);
        let end = two.apply([Change::Set(cluster("a", &[3]))]);
        assert_eq!(one.apply([]).content, end.content);
    }

    #[test]
    fn a_snapshot_once_loaded_never_changes_and_unchanged_clusters_are_shared() {
        let (publisher, reader) = channel();
        publisher.apply([Change::Set(cluster("a", &[1])), Change::Set(cluster("b", &[2]))]);
        let before = reader.load();
        publisher.apply([Change::Set(cluster("a", &[7]))]);
        let after = reader.load();
        assert_eq!(before.cluster("a").unwrap().endpoints()[0].address.addresses()[0].port(), 1);
        assert_eq!(after.cluster("a").unwrap().endpoints()[0].address.addresses()[0].port(), 7);
        assert!(Arc::ptr_eq(before.cluster("b").unwrap(), after.cluster("b").unwrap()));
        publisher.apply([Change::Set(cluster("c", &[1])), Change::Remove(ClusterName::new("b").unwrap())]);
        let changed =
            |former: &Snapshot| reader.load().changed_since(former).map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (changed(&before), changed(&after)),
            (vec!["a".into(), "b".into(), "c".into()], vec!["b".into(), "c".into()])
        );
    }

    #[test]
    fn endpoints_that_stay_are_shared_with_the_next_version_of_their_cluster() {
        let (publisher, reader) = channel();
        publisher.apply([Change::Set(cluster("a", &[1, 3, 5, 7]))]);
        let before = reader.load().cluster("a").unwrap().clone();
        publisher.apply([Change::Set(cluster("a", &[2, 3, 7, 8]))]);
        let after = reader.load().cluster("a").unwrap().clone();
        let is_shared = |endpoint| before.endpoints().iter().any(|former| Arc::ptr_eq(former, endpoint));
        let shared: Vec<_> = after.endpoints().iter().map(is_shared).collect();
        assert_eq!(shared, [false, true, true, false]);
    }

    #[tokio::test]
    async fn readers_wait_for_newer_and_learn_that_no_more_will_come() {
        let (publisher, mut reader) = channel();
        let version = publisher.apply([Change::Set(cluster("a", &[1]))]);
        assert_eq!(reader.newer_than(0).await.unwrap().version(), version);
        let mut waiting = reader.clone();
        let waiter = tokio::spawn(async move { waiting.newer_than(version.sequence).await.map(|s| s.version()) });
        let newer = publisher.apply([Change::Remove(ClusterName::new("a").unwrap())]);
        assert_eq!(waiter.await.unwrap(), Ok(newer));
        drop(publisher);
        assert_eq!(reader.newer_than(newer.sequence).await.map(|s| s.version()), Err(Closed));
        assert_eq!(reader.load().version(), newer, "the last snapshot stays");
    }
}
