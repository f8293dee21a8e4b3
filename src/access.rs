//! What callers are authenticated with: token files, which are followed, and the keys of service accounts, which are fetched where a listener
//! asks for them.

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

/// How to get at it.
pub(crate) struct Access {
    sources: Arc<Sources>,
    kubernetes: Kubernetes,
    readiness: Readiness,
    keys: Mutex<FetchingKeys>,
    /// The file that the admin listener's requests have to carry a token of.
    admin: Mutex<Option<Arc<::access::tokens::TokenFile>>>,
}

/// Paths of the admin listener that anyone may read: those of probes, and the page, which shows nothing before it has a token.
const OPEN: [&str; 7] = ["/-/healthy", "/-/ready", "/healthz", "/readyz", "/", "/-/page.css", "/-/page.js"];

/// Who fetches the keys of service accounts.
enum FetchingKeys {
    /// Nobody has asked for them.
    NotYet(Publisher),
    /// This task, as long as the process runs.
    Running { _task: KeyFetching },
    /// Somebody is about to.
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

    /// What listeners look up.
    pub(crate) fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Reads what a configuration names, before anything stands on it.
    ///
    /// # Errors
    /// A token file cannot be used, or there is no configuration for Kubernetes where tokens of service accounts are taken.
    pub(crate) async fn prepare(&self, config: &Config) -> anyhow::Result<()> {
        self.sources.follow(token_files(config))?;
        *self.admin.lock() = config.admin_tokens.as_deref().and_then(|path| self.sources.tokens(path));
        self.warn_of_unknown_names(config);
        if config.proxy.listeners.iter().any(|listener| listener.auth.service_accounts.is_some()) {
            self.fetch_keys().await?;
        }
        Ok(())
    }

    /// Lets go of the files that this configuration does not name.
    pub(crate) fn keep(&self, config: &Config) {
        self.sources.keep(token_files(config));
    }

    /// Has every request carry a token of this file, or one that `takes_too` takes.
    ///
    /// # Errors
    /// The file is none of the configuration that was prepared.
    pub(crate) fn guard(
        &self,
        path: &Path,
        takes_too: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> anyhow::Result<Guard> {
        let file = self.sources.tokens(path).with_context(|| format!("{} is not followed", path.display()))?;
        Ok(Guard::tokens(move |token| file.holder(token).is_some() || takes_too(token)))
    }

    /// Who may ask what of the admin listener.
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

    /// A rule that names a token which is in no file lets nobody in: more likely a slip than a wish.
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
