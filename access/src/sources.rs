//! The state of access control that lives as long as the process and is shared by its listeners: token files, keys of service
//! accounts, counts of requests.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    authenticator::Authenticator,
    metrics::IdentityRequests,
    service_accounts::{Keys, Verifier},
    tokens::{TokenFile, UnusableFile},
};

/// Token files, keys and counters, for the authenticators of all listeners.
#[derive(Debug)]
pub struct Sources {
    keys: Keys,
    files: Mutex<HashMap<PathBuf, Followed>>,
    verifiers: Mutex<HashMap<Box<str>, Arc<Verifier>>>,
    /// Requests by identity.
    pub requests: IdentityRequests,
}

/// A file that is followed until this is dropped.
#[derive(Debug)]
struct Followed {
    file: Arc<TokenFile>,
    task: tokio::task::JoinHandle<()>,
}

// === impl Sources ===

impl Sources {
    /// No token file is read yet; `keys` receives the keys of service accounts. The recorder of metrics must be installed.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self { keys, files: Mutex::default(), verifiers: Mutex::default(), requests: IdentityRequests::new() }
    }

    /// Reads these files, and follows their changes with a task on the caller's tokio runtime. Files that are already followed are
    /// left alone. Blocks the thread while it reads.
    ///
    /// # Errors
    /// [`UnusableFile`] for the first file that cannot be used; those before it are followed.
    pub fn follow<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) -> Result<(), UnusableFile> {
        let mut files = self.files.lock();
        for path in paths {
            if !files.contains_key(path) {
                let file = Arc::new(TokenFile::read(path)?);
                let task = tokio::spawn(file.clone().follow_always());
                files.insert(path.to_owned(), Followed { file, task });
            }
        }
        Ok(())
    }

    /// Stops following all files but these.
    pub fn keep<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) {
        let paths: Vec<&Path> = paths.into_iter().collect();
        self.files.lock().retain(|path, _| paths.contains(&path.as_path()));
    }

    /// A file that is followed.
    #[must_use]
    pub fn tokens(&self, path: &Path) -> Option<Arc<TokenFile>> {
        self.files.lock().get(path).map(|followed| followed.file.clone())
    }

    /// An authenticator that accepts tokens of this file, and tokens of service accounts for this audience.
    #[must_use]
    pub fn authenticator(&self, tokens: Option<&Path>, audience: Option<&str>) -> Authenticator {
        let verifier = |audience: &str| {
            let mut verifiers = self.verifiers.lock();
            let made = || Arc::new(Verifier::new(audience, self.keys.clone()));
            verifiers.entry(audience.into()).or_insert_with(made).clone()
        };
        Authenticator { tokens: tokens.and_then(|path| self.tokens(path)), service_accounts: audience.map(verifier) }
    }
}

impl Default for Sources {
    /// Without keys of service accounts.
    fn default() -> Self {
        Self::new(crate::service_accounts::channel().1)
    }
}

// === impl Followed ===

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}
