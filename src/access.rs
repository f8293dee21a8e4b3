//! The sources of authentication: token files, which are followed, and the keys of service accounts, which are fetched if a
//! listener needs them.

use std::{path::Path, sync::Arc};

use ::access::{
    by::Pattern,
    service_accounts::{self, Publisher},
    sources::Sources,
};
use anyhow::Context as _;
use controlplane::service_account_keys::{FetchTiming, KeySource};
use parking_lot::Mutex;
use runtime::{listener::Guard, readiness::Readiness};
use tokio::task::JoinHandle;

use crate::{config::Config, kubernetes::Kubernetes};

/// The connections to Kubernetes.
pub(crate) struct Access {
    sources: Arc<Sources>,
    kubernetes: Kubernetes,
    readiness: Readiness,
    keys: Mutex<FetchingKeys>,
    /// The token file of the admin listener.
    admin: Mutex<Option<Arc<::access::tokens::TokenFile>>>,
}

/// Paths of the admin listener that anyone may read: those of probes, and the page, which shows nothing before it has a token.
const OPEN: [&str; 7] = ["/-/healthy", "/-/ready", "/healthz", "/readyz", "/", "/-/page.css", "/-/page.js"];

/// The state of fetching the keys of service accounts.
enum FetchingKeys {
    /// Not needed so far.
    NotYet(Publisher),
    /// This task fetches them until the process ends.
    Running { _task: KeyFetching },
    /// The task is being started.
    Starting,
}

/// A task that ends when it is dropped.
struct KeyFetching(JoinHandle<()>);

// === impl Access ===

impl Access {
    /// Nothing is read yet. The recorder of metrics must be installed.
    pub(crate) fn new(kubernetes: Kubernetes, readiness: Readiness) -> Self {
        let (publisher, keys) = service_accounts::channel();
        let keys_task = Mutex::new(FetchingKeys::NotYet(publisher));
        Self { sources: Arc::new(Sources::new(keys)), kubernetes, readiness, keys: keys_task, admin: Mutex::default() }
    }

    /// The sources for listeners.
    pub(crate) fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Reads the files and keys that a configuration needs, before it is applied.
    ///
    /// # Errors
    /// A token file cannot be used, or tokens of service accounts are accepted without a usable configuration for
    /// Kubernetes.
    pub(crate) async fn prepare(&self, config: &Config) -> anyhow::Result<()> {
        self.sources.follow(token_files(config))?;
        *self.admin.lock() = config.admin_tokens.as_deref().and_then(|path| self.sources.tokens(path));
        self.warn_of_unknown_names(config);
        if config.proxy.listeners.iter().any(|listener| listener.auth.service_accounts.is_some()) {
            self.fetch_keys().await?;
        }
        Ok(())
    }

    /// Stops following files that this configuration does not name.
    pub(crate) fn keep(&self, config: &Config) {
        self.sources.keep(token_files(config));
    }

    /// A guard that requires a token of this file, or one that `takes_too` accepts.
    ///
    /// # Errors
    /// The file is not part of the prepared configuration.
    pub(crate) fn guard(
        &self,
        path: &Path,
        takes_too: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> anyhow::Result<Guard> {
        let file = self.sources.tokens(path).with_context(|| format!("{} is not followed", path.display()))?;
        Ok(Guard::tokens(move |token| file.holder(token).is_some() || takes_too(token)))
    }

    /// The guard of the admin listener.
    pub(crate) fn admin_guard(&self) -> Guard {
        match self.admin.lock().clone() {
            Some(file) => Guard::tokens(move |token| file.holder(token).is_some()).with_probes(&OPEN),
            None => Guard::local_changes(),
        }
    }

    async fn fetch_keys(&self) -> anyhow::Result<()> {
        let publisher = match std::mem::replace(&mut *self.keys.lock(), FetchingKeys::Starting) {
            FetchingKeys::NotYet(publisher) => publisher,
            other => {
                *self.keys.lock() = other;
                return Ok(());
            }
        };
        let connection = self.kubernetes.connect().await.context("auth.service_accounts");
        let next = match connection {
            Ok(connection) => {
                let gate = self.readiness.register("keys of service accounts");
                let source = KeySource::new(connection.client, publisher, gate, FetchTiming::default());
                (FetchingKeys::Running { _task: KeyFetching(tokio::spawn(source.run())) }, Ok(()))
            }
            Err(error) => (FetchingKeys::NotYet(publisher), Err(error)),
        };
        *self.keys.lock() = next.0;
        next.1
    }

    /// Warns of rules that name a token which is not in the file, which is probably a mistake.
    fn warn_of_unknown_names(&self, config: &Config) {
        for (l, listener) in config.proxy.listeners.iter().enumerate() {
            let Some(file) = listener.auth.tokens.as_deref().and_then(|path| self.sources.tokens(path)) else {
                continue;
            };
            let tokens = file.current();
            for pattern in listener.allow.iter().flat_map(|allow| allow.by.patterns()) {
                let Pattern::Identity(identity) = pattern else { continue };
                if identity.as_str().starts_with("token:") && !tokens.holders().contains(identity) {
                    tracing::warn!(
                        "broadcast[{l}].allow names {identity}, and {} has no such token",
                        file.path().display()
                    );
                }
            }
        }
    }
}

fn token_files(config: &Config) -> impl Iterator<Item = &Path> {
    let listeners = config.proxy.listeners.iter().filter_map(|listener| listener.auth.tokens.as_deref());
    let roles = config.listeners_of_roles().filter_map(|(_, listener)| listener.tokens.as_deref());
    listeners.chain(config.admin_tokens.as_deref()).chain(roles)
}

// === impl KeyFetching ===

impl Drop for KeyFetching {
    fn drop(&mut self) {
        self.0.abort();
    }
}
