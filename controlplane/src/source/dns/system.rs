//! The system's DNS configuration: `/etc/resolv.conf` and `/etc/hosts`, read again when they change.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use runtime::{
    file_watch::{FileEvent, FileWatch},
    files,
};

use super::resolver::{ResolveError, SharedResolver};

/// A DNS client, with its search list and hosts file.
pub(super) struct Client {
    pub(super) dns: TokioResolver,
    hosts: Hosts,
    pub(super) search: Vec<Name>,
    pub(super) ndots: usize,
}

/// The files, and the contents from which the last [`Client`] was made.
#[derive(Clone, Debug)]
pub(super) struct SystemFiles {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    read: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    /// Or the reason why it cannot be read.
    resolv_conf: Result<Vec<u8>, String>,
    /// Empty if the file does not exist.
    hosts: Vec<u8>,
}

// === impl Client ===

impl Client {
    /// A client of these servers with these options; answers are not cached beyond their use here.
    pub(super) fn new(config: ResolverConfig, mut options: ResolverOpts, hosts: Hosts) -> Result<Self, ResolveError> {
        // Lookups follow the TTL already; a cache could only serve an answer for longer than that.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let ndots = options.ndots;
        let domain = config.domain().cloned();
        let search = if config.search().is_empty() { domain.into_iter().collect() } else { config.search().to_vec() };
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let dns = builder.build().map_err(|error| ResolveError::Configuration(error.to_string()))?;
        Ok(Self { dns, hosts, search, ndots })
    }

    /// The addresses of the name in the hosts file; such a name is not looked up in the DNS.
    pub(super) fn hosts(&self, name: &Name) -> Vec<RData> {
        let records = |record| self.hosts.lookup_static_host(&Query::query(name.clone(), record));
        let lookups = [RecordType::A, RecordType::AAAA].into_iter().filter_map(records);
        lookups
            .flat_map(|lookup| lookup.answers().iter().map(|answer| answer.data.clone()).collect::<Vec<_>>())
            .collect()
    }
}

// === impl SystemFiles ===

impl SystemFiles {
    /// The system's files as they are now.
    pub(super) fn read(resolv_conf: &Path, hosts: &Path) -> Self {
        let read = Content {
            resolv_conf: files::read(resolv_conf).map_err(|error| error.to_string()),
            hosts: files::read(hosts).unwrap_or_default(),
        };
        Self { resolv_conf: resolv_conf.to_owned(), hosts: hosts.to_owned(), read }
    }

    /// The client that they describe.
    pub(super) fn client(&self) -> Result<Client, ResolveError> {
        let broken = |error: NetError| ResolveError::Configuration(error.to_string());
        let text = self.read.resolv_conf.as_ref().map_err(|why| ResolveError::Configuration(why.clone()))?;
        let (config, options) = parse_resolv_conf(text).map_err(broken)?;
        let mut hosts = Hosts::default();
        if let Err(error) = hosts.read_hosts_conf(&*self.read.hosts) {
            tracing::warn!(file = %self.hosts.display(), %error, "the hosts file cannot be used and is ignored");
        }
        Client::new(config, options, hosts)
    }

    /// Replaces the client whenever the files have changed, until the resolver is dropped. An unusable file changes nothing.
    pub(super) async fn follow(mut self, shared: Weak<SharedResolver>) {
        let (mut resolv_conf, mut hosts) = (FileWatch::new(&self.resolv_conf), FileWatch::new(&self.hosts));
        loop {
            let mut now = self.read.clone();
            tokio::select! {
                event = resolv_conf.next() => match event {
                    FileEvent::Changed(content) => now.resolv_conf = Ok(content),
                    FileEvent::Unreadable(why) => {
                        tracing::warn!(%why, "the DNS configuration cannot be used, keeping the last one");
                        continue;
                    }
                },
                event = hosts.next() => now.hosts = match event {
                    FileEvent::Changed(content) => content,
                    FileEvent::Unreadable(_) => Vec::new(),
                },
            }
            let Some(shared) = shared.upgrade() else { return };
            if now == self.read {
                continue;
            }
            self.read = now;
            match self.client() {
                Ok(client) => {
                    tracing::info!(
                        "the system's DNS configuration or hosts file has changed, looking up every name again"
                    );
                    shared.client.store(Arc::new(Ok(client)));
                    shared.ask_again();
                }
                Err(why) => tracing::warn!(%why, "the DNS configuration cannot be used, keeping the last one"),
            }
        }
    }
}
