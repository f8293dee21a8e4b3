//! Watches files for new content by polling, so that it works on every file system and through symlink swaps.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::files::{self, MAX_BYTES};

mod poller;
mod set;

pub use poller::Poller;
pub use set::{FileSet, SetEvent};

/// Default interval between two reads of a file's metadata.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(500);

/// Content that changed this shortly before it was read may change again within the file system's time stamp, so it is read once more at the next look.
const TIMESTAMP_SLACK: Duration = Duration::from_secs(2);

/// A file that is being written during this many looks in a row is taken as it is.
const MAX_UNSTABLE: u32 = 5;

/// The watcher of one file.
#[derive(Debug)]
pub struct FileWatch {
    file: WatchedFile,
    ticks: Interval,
}

/// A file that is watched by whoever looks at it from time to time.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    seen: Option<Seen>,
    unstable: u32,
}

/// What happened to the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEvent {
    /// It has new content. The first event of a readable file is its content.
    Changed(Vec<u8>),
    /// It does not exist or cannot be read; the text has the path and the reason. Reported once, until the reason changes or the file
    /// can be read again.
    Unreadable(String),
}

/// The state last reported. Of contents only a digest is kept, because whoever watches a file keeps what is needed of it.
#[derive(Debug)]
enum Seen {
    Content { stamp: Stamp, digest: [u8; 32], settled: bool },
    Unreadable { why: String },
}

/// What tells one state of a file from another without reading it; symlinks are followed, so a swapped link is another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

// === impl FileWatch ===

impl FileWatch {
    /// Watches `path`, looking every [`DEFAULT_INTERVAL`]. The file need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_interval(path, DEFAULT_INTERVAL)
    }

    /// Watches `path`, looking once every `every` (at least a millisecond).
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn with_interval(path: impl Into<PathBuf>, every: Duration) -> Self {
        let mut ticks = interval(every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { file: WatchedFile::new(path), ticks }
    }

    /// Waits for the next event. The first comes at once. Safe to cancel: an event is remembered as seen only when it is returned.
    pub async fn next(&mut self) -> FileEvent {
        loop {
            self.ticks.tick().await;
            if let Some(event) = self.look().await {
                return event;
            }
        }
    }

    /// Looks at once: what has happened since the last look, if anything. Safe to cancel, like [`next`](Self::next).
    async fn look(&mut self) -> Option<FileEvent> {
        let (path, known) = (self.file.path.clone(), self.file.known());
        // All of it in the blocking pool, where a network file system that hangs holds up no worker.
        let found = tokio::task::spawn_blocking(move || read(&path, known)).await;
        self.file.found(found.map_err(io::Error::other).flatten())
    }
}

// === impl WatchedFile ===

impl WatchedFile {
    /// Watches `path`. The file need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seen: None, unstable: 0 }
    }

    /// The path that is watched.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks: what has happened since the last look, if anything. Blocks as long as reading the file does.
    pub fn look(&mut self) -> Option<FileEvent> {
        self.found(read(&self.path, self.known()))
    }

    /// The stamp with which the file need not be read again.
    fn known(&self) -> Option<Stamp> {
        match &self.seen {
            Some(Seen::Content { stamp, settled: true, .. }) => Some(*stamp),
            _ => None,
        }
    }

    fn found(&mut self, look: io::Result<Look>) -> Option<FileEvent> {
        match look {
            Ok(Look::Same) => None,
            Ok(Look::Unstable { .. }) if self.unstable < MAX_UNSTABLE => {
                self.unstable += 1;
                None
            }
            Ok(Look::Read { stamp, content, settled } | Look::Unstable { stamp, content, settled }) => {
                self.unstable = 0;
                self.content(stamp, content, settled)
            }
            Err(error) => self.unreadable(format!("cannot read {}: {error}", self.path.display())),
        }
    }

    fn content(&mut self, stamp: Stamp, content: Vec<u8>, settled: bool) -> Option<FileEvent> {
        let digest = Sha256::digest(&content).into();
        // After it was reported as unreadable even the same content is news.
        let is_known = matches!(self.seen, Some(Seen::Content { digest: before, .. }) if before == digest);
        self.seen = Some(Seen::Content { stamp, digest, settled });
        (!is_known).then_some(FileEvent::Changed(content))
    }

    fn unreadable(&mut self, why: String) -> Option<FileEvent> {
        if matches!(&self.seen, Some(Seen::Unreadable { why: before }) if *before == why) {
            return None;
        }
        self.seen = Some(Seen::Unreadable { why: why.clone() });
        Some(FileEvent::Unreadable(why))
    }
}

/// What one look found.
enum Look {
    /// The known stamp.
    Same,
    Read {
        stamp: Stamp,
        content: Vec<u8>,
        settled: bool,
    },
    /// Written to while it was read.
    Unstable {
        stamp: Stamp,
        content: Vec<u8>,
        settled: bool,
    },
}

fn read(path: &Path, known: Option<Stamp>) -> io::Result<Look> {
    let (stamp, settled) = stamp(path)?;
    if known == Some(stamp) {
        return Ok(Look::Same);
    }
    let content = files::read(path)?;
    let after = Stamp::of(&std::fs::metadata(path)?);
    Ok(if after == stamp {
        Look::Read { stamp, content, settled }
    } else {
        Look::Unstable { stamp, content, settled: false }
    })
}

/// The stamp of a file that may be read, and whether it is old enough that any change will show in it.
fn stamp(path: &Path) -> io::Result<(Stamp, bool)> {
    let metadata = std::fs::metadata(path)?;
    files::check_regular(&metadata)?;
    if metadata.len() > MAX_BYTES {
        return Err(io::Error::other(format!("it has {} bytes, more than the {MAX_BYTES} allowed", metadata.len())));
    }
    let settled =
        metadata.modified().is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > TIMESTAMP_SLACK));
    Ok((Stamp::of(&metadata), settled))
}

// === impl Stamp ===

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const OFTEN: Duration = Duration::from_millis(5);

    async fn next(watch: &mut FileWatch) -> FileEvent {
        tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("an event in time")
    }

    fn changed(content: &str) -> FileEvent {
        FileEvent::Changed(content.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn yields_the_first_content_and_every_change_even_of_the_same_size() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        fs::write(&path, "one").expect("writes");
        let mut watch = FileWatch::with_interval(&path, OFTEN);
        assert_eq!(next(&mut watch).await, changed("one"));
        for content in ["two", "six", "ten", "one"] {
            fs::write(dir.path().join("new"), content).expect("writes");
            fs::rename(dir.path().join("new"), &path).expect("renames");
            assert_eq!(next(&mut watch).await, changed(content));
        }
        // Rewritten in place, same size, within the time stamp's resolution of the write before.
        fs::write(&path, "abc").expect("writes");
        assert_eq!(next(&mut watch).await, changed("abc"));
    }

    #[tokio::test]
    async fn a_rewrite_without_a_change_is_no_event() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        fs::write(&path, "same").expect("writes");
        let mut watch = FileWatch::with_interval(&path, OFTEN);
        assert_eq!(next(&mut watch).await, changed("same"));
        fs::write(dir.path().join("new"), "same").expect("writes");
        fs::rename(dir.path().join("new"), &path).expect("renames");
        assert_eq!(watch.look().await, None);
        fs::write(&path, "other").expect("writes");
        assert_eq!(next(&mut watch).await, changed("other"));
    }

    #[tokio::test]
    async fn a_vanished_file_is_reported_once_and_its_return_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("list");
        let mut watch = FileWatch::with_interval(&path, OFTEN);
        match next(&mut watch).await {
            FileEvent::Unreadable(why) => assert!(why.contains("list") && why.contains("No such file"), "{why}"),
            event => panic!("{event:?}"),
        }
        assert_eq!(watch.look().await, None);
        fs::write(&path, "here").expect("writes");
        assert_eq!(next(&mut watch).await, changed("here"));
        fs::remove_file(&path).expect("removes");
        assert!(matches!(next(&mut watch).await, FileEvent::Unreadable(_)));
        fs::write(&path, "here").expect("writes");
        assert_eq!(next(&mut watch).await, changed("here"));
    }

    #[tokio::test]
    async fn a_swapped_directory_link_is_seen_as_kubernetes_swaps_config_maps() {
        let dir = tempfile::tempdir().expect("a directory");
        for (version, content) in [("..1", "old"), ("..2", "new")] {
            fs::create_dir(dir.path().join(version)).expect("makes");
            fs::write(dir.path().join(version).join("list"), content).expect("writes");
        }
        symlink("..1", dir.path().join("..data")).expect("links");
        symlink("..data/list", dir.path().join("list")).expect("links");
        let mut watch = FileWatch::with_interval(dir.path().join("list"), OFTEN);
        assert_eq!(next(&mut watch).await, changed("old"));
        symlink("..2", dir.path().join("..data_tmp")).expect("links");
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).expect("renames");
        assert_eq!(next(&mut watch).await, changed("new"));
    }

    #[tokio::test]
    async fn directories_and_large_files_are_reported() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut watch = FileWatch::with_interval(dir.path(), OFTEN);
        assert!(matches!(next(&mut watch).await, FileEvent::Unreadable(why) if why.contains("it is a directory")));
        let large = dir.path().join("large");
        fs::File::create(&large).and_then(|file| file.set_len(MAX_BYTES + 1)).expect("makes");
        let mut watch = FileWatch::with_interval(&large, OFTEN);
        assert!(matches!(next(&mut watch).await, FileEvent::Unreadable(why) if why.contains("more than")));
    }
}
