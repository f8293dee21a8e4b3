//! Values that are built from files, and rebuilt as a whole when the files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::certificate::{Validity, date, now};
use super::files::{FileFault, TlsError, unreadable};
use super::metrics::{self, InForce};
use crate::file_watch::{DEFAULT_INTERVAL, FileSet, SetEvent};

/// A certificate that expires within this time is warned about.
const SOON: i64 = 24 * 3600;

/// A value that is built from files.
pub(super) trait Material: Send + Sync + Sized + 'static {
    /// The settings that it is built from, besides the files.
    type Settings: Send + Sync;

    /// The files, in the order in which `make` gets their contents.
    fn paths(settings: &Self::Settings) -> Vec<PathBuf>;

    /// Builds it from the contents of the files.
    fn make(settings: &Self::Settings, contents: &[Vec<u8>], before: Option<&Self>) -> Result<Self, TlsError>;

    /// Files with certificates, and when these are valid.
    fn validities(&self) -> &[Validity];
}

/// A value that follows the current contents of its files.
pub(super) struct Followed<M: Material> {
    settings: M::Settings,
    current: ArcSwap<M>,
    in_force: Arc<InForce>,
    looking: Mutex<Looking>,
}

/// The state between two checks of the files.
struct Looking {
    set: FileSet,
    contents: Vec<Vec<u8>>,
    /// A fault that may be over at the next check, if files that belong together are being replaced one after the other.
    suspected: Option<FileFault>,
    /// Whether the last fault was logged and is not over.
    faulty: bool,
    /// Files whose dates were logged, with what was said of them.
    warned: Vec<FileFault>,
}

// === impl Followed ===

impl<M: Material> Followed<M> {
    /// Reads the files, and from then on follows them as long as it is there.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(super) fn start(settings: M::Settings) -> Result<Arc<Self>, TlsError> {
        let followed = Self::read(settings)?;
        followed.warn_of_dates(&mut followed.looking.lock());
        if !followed.looking.lock().set.paths().is_empty() {
            tokio::spawn(follow(Arc::downgrade(&followed), DEFAULT_INTERVAL));
        }
        Ok(followed)
    }

    /// Reads the files once.
    pub(super) fn read(settings: M::Settings) -> Result<Arc<Self>, TlsError> {
        let paths = M::paths(&settings);
        let mut set = FileSet::new(paths.clone());
        let contents = first(&mut set)?;
        let made = M::make(&settings, &contents, None)?;
        metrics::from_zero(&paths);
        let in_force = InForce::new();
        in_force.set(made.validities());
        let looking = Mutex::new(Looking { set, contents, suspected: None, faulty: false, warned: Vec::new() });
        Ok(Arc::new(Self { settings, current: ArcSwap::from_pointee(made), in_force, looking }))
    }

    pub(super) fn settings(&self) -> &M::Settings {
        &self.settings
    }

    pub(super) fn current(&self) -> Arc<M> {
        self.current.load_full()
    }

    /// Looks at the files once. Blocks as long as reading them does.
    fn look(&self) {
        let looking = &mut *self.looking.lock();
        match looking.set.look() {
            None => {
                if let Some(fault) = looking.suspected.take() {
                    metrics::reloaded(&fault.path, "failed");
                    warn!("{fault}; the contents read before stay in use");
                    looking.faulty = true;
                }
            }
            Some(SetEvent::Unreadable { path, why }) => {
                looking.suspected = Some(unreadable(&path, &why));
            }
            Some(SetEvent::Changed(contents)) => self.changed(looking, contents),
        }
        self.warn_of_dates(looking);
    }

    fn changed(&self, looking: &mut Looking, contents: Vec<Vec<u8>>) {
        match M::make(&self.settings, &contents, Some(&self.current())) {
            Ok(made) => {
                self.in_force.set(made.validities());
                self.current.store(Arc::new(made));
                let news = looking.set.paths().iter().zip(&contents).zip(&looking.contents);
                for ((path, _), _) in news.filter(|((_, now), before)| now != before) {
                    metrics::reloaded(path, "ok");
                    info!(file = %path.display(), "the file was read again: new connections use its new contents");
                }
                (looking.contents, looking.suspected) = (contents, None);
                if std::mem::take(&mut looking.faulty) {
                    let files: Vec<_> = looking.set.paths().iter().map(|path| path.display().to_string()).collect();
                    info!(files = files.join(", "), "the files can be used again");
                }
            }
            Err(TlsError::File(fault)) => looking.suspected = Some(fault),
            Err(error) => {
                let path = looking.set.paths().first().cloned().unwrap_or_default();
                looking.suspected = Some(FileFault { path, why: error.to_string() });
            }
        }
    }

    /// Warns once of each certificate that has expired, and once of each that soon will.
    fn warn_of_dates(&self, looking: &mut Looking) {
        for fault in self.outdated() {
            if looking.warned.contains(&fault) {
                continue;
            }
            warn!("{fault}");
            looking.warned.retain(|told| told.path != fault.path);
            looking.warned.push(fault);
        }
    }

    /// Files with a certificate that is not valid yet, has expired or soon will.
    pub(super) fn outdated(&self) -> Vec<FileFault> {
        let now = now();
        let outdated = |Validity { path, begins, expires }: &Validity| {
            let why = if *expires <= now {
                let at = date(*expires);
                format!("a certificate in it has expired at {at}: peers will refuse it; replace the file")
            } else if *begins > now {
                let at = date(*begins);
                format!(
                    "a certificate in it is not valid before {at}: peers will refuse it until then; replace the file, or set the clock"
                )
            } else if expires - now <= SOON {
                format!("a certificate in it expires soon, at {}: replace the file", date(*expires))
            } else {
                return None;
            };
            Some(FileFault { path: path.clone(), why })
        };
        self.current.load().validities().iter().filter_map(outdated).collect()
    }
}

/// The first contents. If a file is being written to, this reads again a few times.
fn first(set: &mut FileSet) -> Result<Vec<Vec<u8>>, TlsError> {
    loop {
        match set.look() {
            Some(SetEvent::Changed(contents)) => return Ok(contents),
            Some(SetEvent::Unreadable { path, why }) => {
                return Err(unreadable(&path, &why).into());
            }
            // Looks that find a file unstable are bounded.
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

async fn follow<M: Material>(followed: Weak<Followed<M>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(followed) = followed.upgrade() else { return };
        // A network file system may hang there without holding up a worker.
        if tokio::task::spawn_blocking(move || followed.look()).await.is_err() {
            warn!("the check of the certificate files has failed; it is repeated at the next interval");
        }
    }
}

impl<M: Material> std::fmt::Debug for Followed<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<PathBuf> = M::paths(&self.settings);
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        f.debug_struct("Followed").field("paths", &paths).finish_non_exhaustive()
    }
}
