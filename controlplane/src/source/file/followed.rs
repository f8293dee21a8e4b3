//! The files of one source, each with its last good list: new files are added, removed ones dropped, an invalid one keeps its list.

use std::collections::BTreeSet;
use std::mem;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use runtime::file_watch::{Poller, WatchedFile};
use snapshot::ClusterName;
use tokio::sync::Notify;

use super::{FilePattern, count, read};
use crate::source::list::ListEntry;

/// The lists of all files together, or the reason why none has ever been good.
type Read = Result<Vec<ListEntry>, String>;

/// Where the newest list is left for whoever waits for it.
#[derive(Default)]
pub(super) struct LatestList {
    list: Mutex<Option<Read>>,
    changed: Notify,
}

/// The files that are followed.
struct Followed {
    cluster: ClusterName,
    pattern: FilePattern,
    /// In the order of their paths, which is that of their lists.
    files: Vec<Member>,
    /// Whether something has changed since the list was last returned.
    changed: bool,
    /// Why the pattern matches nothing, if so.
    problem: Option<String>,
}

/// One file.
struct Member {
    file: WatchedFile,
    /// The list of the last good read; none once it was handed over, if it is the only one.
    list: Option<Vec<ListEntry>>,
    /// Whether it was read, be it in vain.
    was_read: bool,
    /// Why its current contents cannot be used.
    failure: Option<String>,
    /// Whether it was missing at the last listing of the files.
    missing: bool,
}

// === impl LatestList ===

impl LatestList {
    /// Follows files until it is dropped.
    pub(super) fn follow(cluster: ClusterName, pattern: FilePattern, poller: &Poller) -> Arc<Self> {
        let latest = Arc::new(Self::default());
        let (mut followed, receiver) = (Followed::new(cluster, pattern), Arc::downgrade(&latest));
        poller.add(move || {
            let Some(latest) = receiver.upgrade() else { return ControlFlow::Break(()) };
            // What was not taken yet is not replaced: the next look can wait.
            let is_taken = latest.list.lock().is_none();
            if is_taken && let Some(list) = followed.look() {
                *latest.list.lock() = Some(list);
                latest.changed.notify_one();
            }
            ControlFlow::Continue(())
        });
        latest
    }

    /// Waits for the next list. Safe to cancel.
    pub(super) async fn next(&self) -> Read {
        loop {
            if let Some(list) = self.list.lock().take() {
                return list;
            }
            self.changed.notified().await;
        }
    }
}

// === impl Followed ===

impl Followed {
    fn new(cluster: ClusterName, pattern: FilePattern) -> Self {
        let files = pattern.path().map(Member::new).into_iter().collect();
        Self { cluster, pattern, files, changed: false, problem: None }
    }

    /// Looks at all files once. Returns their lists if one has changed, or that none has ever been good if the reason has changed.
    fn look(&mut self) -> Option<Read> {
        if !self.pattern.is_pattern() || self.match_files() {
            for member in self.files.iter_mut().filter(|member| !member.missing) {
                self.changed |= member.look(&self.cluster);
            }
        }
        // A list that is returned before every existing file was read would lack endpoints.
        let is_complete = self.files.iter().all(|file| file.was_read);
        (is_complete && mem::take(&mut self.changed)).then(|| self.list())
    }

    /// Finds out which files there are. Returns whether it did.
    fn match_files(&mut self) -> bool {
        let matching = self.pattern.matching().and_then(|paths| match paths.is_empty() {
            true => Err(format!("no file matches {}", self.pattern)),
            false => Ok(paths),
        });
        match matching {
            Ok(paths) => {
                self.problem = None;
                self.drop_missing(&paths);
                for path in paths {
                    if let Err(place) = self.files.binary_search_by(|member| member.file.path().cmp(&path)) {
                        self.files.insert(place, Member::new(&path));
                    }
                }
                true
            }
            Err(why) => {
                self.fail(why);
                false
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
        self.files.retain_mut(|member| {
            let path = member.file.path();
            let gone = !there.contains(path) && member.missing;
            if gone {
                tracing::info!(%cluster, file = %path.display(), "endpoint file removed");
            }
            member.missing = !there.contains(path);
            !gone
        });
        self.changed |= self.files.len() < before;
    }

    fn list(&mut self) -> Read {
        // A single file has no other to be listed with later, so its list need not be kept.
        let only = if self.pattern.is_pattern() { None } else { self.files.first_mut() };
        if let Some(list) = only.and_then(|member| member.list.take()) {
            return Ok(list);
        }
        let good: Vec<&Vec<ListEntry>> = self.files.iter().filter_map(|member| member.list.as_ref()).collect();
        if good.is_empty() {
            let failure = self.files.iter().find_map(|member| member.failure.as_ref());
            return Err(self.problem.as_ref().or(failure).cloned().unwrap_or_default());
        }
        Ok(good.into_iter().flatten().cloned().collect())
    }
}

// === impl Member ===

impl Member {
    fn new(path: &Path) -> Self {
        Self { file: WatchedFile::new(path), list: None, was_read: false, failure: None, missing: false }
    }

    /// Looks at it once. Returns whether something has changed.
    fn look(&mut self, cluster: &ClusterName) -> bool {
        let Some(event) = self.file.look() else { return false };
        match read(cluster, self.file.path(), event) {
            Ok(entries) => (self.list, self.failure) = (Some(entries), None),
            Err(why) => self.failure = Some(why),
        }
        self.was_read = true;
        true
    }
}
