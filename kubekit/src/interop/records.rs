//! Every version of an election's lock, in the order in which the API server stored them.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

use super::Election;
use testkit::boot_time;

use crate::cluster::Cluster;

/// The annotation in which ConfigMaps and Endpoints carry their record.
const ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// The record in a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The holder; empty if the lock was released.
    pub holder: String,
    /// The lease duration, in seconds: how long others wait after a renewal.
    pub duration: u64,
    /// When the holder got the lock, as it is written.
    pub acquired: String,
    /// When it was renewed last, as it is written.
    pub renewed: String,
    /// How often the holder has changed.
    pub transitions: u64,
}

/// A version of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// `metadata.resourceVersion`: the versions of one lock are stored in the order of these numbers.
    pub number: u64,
    /// Its record.
    pub record: Record,
    /// When the watch delivered it, by the clock of [`boot_time`], which is after it was stored.
    pub seen: Duration,
}

/// A watch on one lock.
#[derive(Debug)]
pub struct Records {
    versions: Arc<Mutex<Vec<Version>>>,
    latest: watch::Receiver<Record>,
    watching: JoinHandle<()>,
}

impl Records {
    /// Watches a lock that does not exist yet.
    ///
    /// # Panics
    /// If the lock exists already.
    pub async fn watch(cluster: &Cluster, election: &Election<'_>) -> Self {
        let kind = resource(election.lock_type);
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client().await, election.namespace, &kind);
        let selector = format!("metadata.name={}", election.name);
        let list = api.list(&ListParams::default().fields(&selector)).await.expect("an administrator may list");
        assert!(list.items.is_empty(), "the lock is there already");
        let from = list.metadata.resource_version.expect("a list has a version");
        let versions = Arc::new(Mutex::new(Vec::new()));
        let (sender, latest) = watch::channel(Record::default());
        let watching =
            tokio::spawn(follow(api, WatchParams::default().fields(&selector), from, versions.clone(), sender));
        Self { versions, latest, watching }
    }

    /// Every version so far, in order.
    #[must_use]
    pub fn versions(&self) -> Vec<Version> {
        self.versions.lock().clone()
    }

    /// Waits, without a time limit, until the condition holds for the last record.
    ///
    /// # Panics
    /// Where the watch has failed.
    pub async fn until(&self, holds: impl FnMut(&Record) -> bool) -> Record {
        let mut latest = self.latest.clone();
        latest.wait_for(holds).await.expect("the watch goes on").clone()
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Record {
    /// The record of a Lease, ConfigMap or Endpoints object; none where it has none.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(record) = object["metadata"]["annotations"][ANNOTATION].as_str() {
            let record: Value = serde_json::from_str(record).ok()?;
            return Some(Self {
                holder: text(&record["holderIdentity"]),
                duration: record["leaseDurationSeconds"].as_u64()?,
                acquired: text(&record["acquireTime"]),
                renewed: text(&record["renewTime"]),
                transitions: record["leaderTransitions"].as_u64()?,
            });
        }
        let spec = object.get("spec")?;
        Some(Self {
            holder: text(&spec["holderIdentity"]),
            duration: spec["leaseDurationSeconds"].as_u64()?,
            acquired: text(&spec["acquireTime"]),
            renewed: text(&spec["renewTime"]),
            transitions: spec["leaseTransitions"].as_u64().unwrap_or(0),
        })
    }
}

async fn follow(
    api: Api<DynamicObject>,
    params: WatchParams,
    mut from: String,
    versions: Arc<Mutex<Vec<Version>>>,
    latest: watch::Sender<Record>,
) {
    loop {
        // The API server ends every watch after some minutes. No event is lost: the next watch starts where this one ended.
        let events = api.watch(&params, &from).await.expect("an administrator may watch");
        let mut events = events.boxed();
        while let Some(event) = events.next().await {
            let seen = boot_time::now();
            let object = match event.expect("nothing stands between this watch and the API server") {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => object,
                WatchEvent::Bookmark(bookmark) => {
                    from = bookmark.metadata.resource_version;
                    continue;
                }
                other => panic!("nobody deletes the lock: {other:?}"),
            };
            from = object.metadata.resource_version.clone().expect("a stored object has a version");
            let number = from.parse().expect("versions are numbers");
            let object = serde_json::to_value(&object).expect("an object can be written");
            let record = Record::of(&object).unwrap_or_else(|| panic!("a lock without a record: {object}"));
            versions.lock().push(Version { number, record: record.clone(), seen });
            latest.send_replace(record);
        }
    }
}

/// The resource of a lock type.
fn resource(lock_type: &str) -> ApiResource {
    let (group, kind) = match lock_type {
        "leases" => ("coordination.k8s.io", "Lease"),
        "configmaps" => ("", "ConfigMap"),
        "endpoints" => ("", "Endpoints"),
        other => panic!("a lock of type {other} is not one object"),
    };
    let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    ApiResource { group: group.into(), version: "v1".into(), api_version, kind: kind.into(), plural: lock_type.into() }
}
