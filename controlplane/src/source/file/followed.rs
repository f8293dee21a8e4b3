//! The files of one source, each with its last good list: new files are added, removed ones dropped, an invalid one keeps its list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use runtime::file_watch::FileWatch;
use snapshot::ClusterName;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{FilePattern, count, read};
use crate::source::list::ListEntry;

/// The files that are followed.
pub(super) struct Followed {
    cluster: ClusterName,
    pattern: FilePattern,
    interval: Duration,
    ticks: Interval,
    /// By path, which determines the order of their lists.
    files: BTreeMap<PathBuf, Member>,
    /// Whether something has changed since the list was last returned.
    changed: bool,
    /// Why the pattern matches nothing, if so.
    problem: Option<String>,
}

/// One file.
struct Member {
    watch: FileWatch,
    /// The list of the last good read; none once it was handed over, if it is the only one.
    list: Option<Vec<ListEntry>>,
    /// Whether it was read, be it in vain.
    was_read: bool,
    /// Why its current contents cannot be used.
    failure: Option<String>,
    /// Whether it was missing at the last listing of the files.
    missing: bool,
}

// === impl Followed ===

impl Followed {
    pub(super) fn new(cluster: ClusterName, pattern: FilePattern, every: Duration) -> Self {
        let mut ticks = interval(every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { cluster, pattern, interval: every, ticks, files: BTreeMap::new(), changed: false, problem: None }
    }

    /// Waits for a change. Returns the lists of all files together, or the reason why none has ever been good. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<Vec<ListEntry>, String> {
        loop {
            self.ticks.tick().await;
            match self.pattern.matching().await {
                Ok(paths) if paths.is_empty() => self.fail(format!("no file matches {}", self.pattern)),
                Ok(paths) => {
                    self.problem = None;
                    self.drop_missing(&paths);
                    self.look(paths).await;
                }
                Err(why) => self.fail(why),
            }
            // A list that is returned before every existing file was read would lack endpoints.
            if self.files.values().all(|file| file.was_read) && std::mem::take(&mut self.changed) {
                return self.list();
            }
        }
    }

    /// Notes that the files cannot be listed: their lists stay.
    fn fail(&mut self, why: String) {
        if self.problem.as_ref() != Some(&why) {
            count(&self.cluster, "unreadable");
            tracing::warn!(cluster = %self.cluster, %why, "endpoint files not found, keeping the last good list");
            self.problem = Some(why);
            self.changed = true;
        }
    }

    /// Drops files that were missing twice in a row: some programs remove a file before they write it again.
    fn drop_missing(&mut self, there: &BTreeSet<PathBuf>) {
        let before = self.files.len();
        let cluster = &self.cluster;
        self.files.retain(|path, file| {
            let gone = !there.contains(path) && file.missing;
            file.missing = !there.contains(path);
            if gone {
                tracing::info!(%cluster, file = %path.display(), "endpoint file removed");
            }
            !gone
        });
        self.changed |= self.files.len() < before;
    }

    async fn look(&mut self, paths: BTreeSet<PathBuf>) {
        for path in paths {
            let every = self.interval;
            let file = self.files.entry(path.clone()).or_insert_with(|| Member {
                watch: FileWatch::with_interval(path.clone(), every),
                list: None,
                was_read: false,
                failure: None,
                missing: false,
            });
            if let Some(event) = file.watch.look().await {
                match read(&self.cluster, &path, event) {
                    Ok(entries) => (file.list, file.failure) = (Some(entries), None),
                    Err(why) => file.failure = Some(why),
                }
                file.was_read = true;
                self.changed = true;
            }
        }
    }

    fn list(&mut self) -> Result<Vec<ListEntry>, String> {
        // A single file has no other to be listed with later, so its list need not be kept.
        let only = if self.pattern.is_pattern() { None } else { self.files.values_mut().next() };
        if let Some(list) = only.and_then(|file| file.list.take()) {
            return Ok(list);
        }
        let good: Vec<&Vec<ListEntry>> = self.files.values().filter_map(|file| file.list.as_ref()).collect();
        if good.is_empty() {
            let failure = self.files.values().find_map(|file| file.failure.as_ref());
            return Err(self.problem.as_ref().or(failure).cloned().unwrap_or_default());
        }
        Ok(good.into_iter().flatten().cloned().collect())
    }
}
