//! Several files that belong together, such as a certificate and its key, watched as one: they are read as they are at one moment.

use std::io;
use std::path::{Path, PathBuf};

use super::{MAX_UNSTABLE, Stamp, stamp};
use crate::files;

/// The watcher of files that belong together. It does not look by itself: [`look`](Self::look) does, and blocks as long as
/// reading files does.
#[derive(Debug)]
pub struct FileSet {
    paths: Vec<PathBuf>,
    seen: Option<SeenFiles>,
    unstable: u32,
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetEvent {
    /// At least one file has new content; here is that of all of them, in the order of the paths.
    Changed(Vec<Vec<u8>>),
    /// One of them cannot be read.
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

/// The state last reported.
#[derive(Debug)]
enum SeenFiles {
    Content { stamps: Vec<Stamp>, contents: Vec<Vec<u8>>, settled: bool },
    Unreadable { path: PathBuf, why: String },
}

// === impl FileSet ===

impl FileSet {
    /// Watches these files.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, seen: None, unstable: 0 }
    }

    /// The paths that are watched.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Looks once. The first look yields an event; after that there is one when something has changed. A file that was written
    /// to while the set was read is looked at again the next time, because it may not fit the others yet.
    pub fn look(&mut self) -> Option<SetEvent> {
        match self.read() {
            Ok(None) => None,
            Ok(Some((_, _, false, _))) if self.unstable < MAX_UNSTABLE => {
                self.unstable += 1;
                None
            }
            Ok(Some((stamps, contents, stable, settled))) => {
                self.unstable = 0;
                let same =
                    matches!(&self.seen, Some(SeenFiles::Content { contents: before, .. }) if *before == contents);
                let event = (!same).then(|| SetEvent::Changed(contents.clone()));
                self.seen = Some(SeenFiles::Content { stamps, contents, settled: settled && stable });
                event
            }
            Err((path, why)) => {
                let why = why.to_string();
                let same =
                    matches!(&self.seen, Some(SeenFiles::Unreadable { path: p, why: w }) if *p == path && *w == why);
                self.seen = Some(SeenFiles::Unreadable { path: path.clone(), why: why.clone() });
                (!same).then_some(SetEvent::Unreadable { path, why })
            }
        }
    }

    /// Stamps and contents, whether nothing changed while they were read, and whether the stamps will show any further change;
    /// nothing where all is as it was.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn read(&self) -> Result<Option<(Vec<Stamp>, Vec<Vec<u8>>, bool, bool)>, (PathBuf, io::Error)> {
        let (stamps, settled) = self.stamps()?;
        if matches!(&self.seen, Some(SeenFiles::Content { stamps: known, settled: true, .. }) if *known == stamps) {
            return Ok(None);
        }
        let contents = self.each(files::read)?;
        let (after, _) = self.stamps()?;
        Ok(Some((stamps.clone(), contents, after == stamps, settled)))
    }

    fn stamps(&self) -> Result<(Vec<Stamp>, bool), (PathBuf, io::Error)> {
        let stamps = self.each(stamp)?;
        let settled = stamps.iter().all(|(_, settled)| *settled);
        Ok((stamps.into_iter().map(|(stamp, _)| stamp).collect(), settled))
    }

    fn each<T>(&self, ask: impl Fn(&Path) -> io::Result<T>) -> Result<Vec<T>, (PathBuf, io::Error)> {
        self.paths.iter().map(|path| ask(path).map_err(|error| (path.clone(), error))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use testkit::pki::SecretDir;

    use super::*;

    fn texts(event: Option<SetEvent>) -> Vec<String> {
        match event {
            Some(SetEvent::Changed(contents)) => {
                contents.into_iter().map(|content| String::from_utf8(content).expect("text")).collect()
            }
            event => panic!("{event:?}"),
        }
    }

    #[test]
    fn a_swapped_secret_is_seen_whole() {
        let secret = SecretDir::new(&[("tls.crt", "certificate 1"), ("tls.key", "key 1")]);
        let mut set = FileSet::new(vec![secret.path("tls.crt"), secret.path("tls.key")]);
        assert_eq!(texts(set.look()), ["certificate 1", "key 1"]);
        assert_eq!(set.look(), None);
        secret.swap(&[("tls.crt", "certificate 1"), ("tls.key", "key 1")]);
        assert_eq!(set.look(), None, "the same content again is no news");
        secret.swap(&[("tls.crt", "certificate 2"), ("tls.key", "key 2")]);
        assert_eq!(texts(set.look()), ["certificate 2", "key 2"]);
    }

    #[test]
    fn a_file_that_is_away_is_told_once_and_its_return_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "1").expect("writes");
        let mut set = FileSet::new(vec![one, two.clone()]);
        match set.look() {
            Some(SetEvent::Unreadable { path, why }) => assert!(path == two && why.contains("No such file"), "{why}"),
            event => panic!("{event:?}"),
        }
        assert_eq!(set.look(), None);
        fs::write(&two, "2").expect("writes");
        assert_eq!(texts(set.look()), ["1", "2"]);
    }
}
