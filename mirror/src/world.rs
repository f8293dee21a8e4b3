//! The known state of the remotes and of the local cluster, and what follows from it for one local name.
//!
//! Pure: `now` is an argument. Folding an event into it returns the local names that may be affected. Reconciling a name begins with its
//! [`Input`], which is computed from the state at that moment.

mod fold;
mod input;
mod judge;
mod remote;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use controlplane::{index::ServiceKey, watch::ObjectKey};
pub(crate) use input::Goal;
pub(crate) use remote::{Identity, RemoteState};

use crate::{
    config::{Config, Remote},
    index::Origin,
    live::{Live, Owner},
    names::{NameError, local_name},
};

/// Local names that may be affected by a change.
pub(crate) type Dirty = BTreeSet<ServiceKey>;

/// The known state.
#[derive(Debug)]
pub(crate) struct World {
    pub(super) config: Arc<Config>,
    pub(super) remotes: Vec<RemoteState>,
    /// By local name.
    live: HashMap<ServiceKey, Live>,
    /// The Service that each local slice names.
    homes: HashMap<ObjectKey, ServiceKey>,
    /// The local namespaces, and whether their Services and slices have been listed.
    listed: BTreeMap<Arc<str>, Listed>,
    /// The claims to each local name.
    claims: HashMap<ServiceKey, BTreeSet<Claim>>,
    /// Remote Services that cannot have a local name.
    nameless: BTreeMap<(usize, ServiceKey), NameError>,
    /// The UIDs of the Services that this process has created or adopted.
    written: HashMap<ServiceKey, String>,
    /// Mirrors that may be deleted.
    permits: BTreeSet<ServiceKey>,
    /// Mirrors whose deletion is held back because there are too many, and since when.
    held: BTreeMap<ServiceKey, Instant>,
    /// Whether missing Services have to be judged again.
    judge_due: bool,
}

/// Which objects of a local namespace have been listed.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    services: bool,
    slices: bool,
}

/// A claim to a local name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// A Service of one remote, by its number.
    Plain(usize, ServiceKey),
    /// The Services of this name that opted in.
    Global(ServiceKey),
}

/// How a local object became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// From a watch, which may be older than the answer to a write.
    Told,
    /// From a read, which replaces whatever was known before.
    Seen,
    /// From the answer to a write; this is the digest of the desired state.
    Answered(u64),
}

/// The owner of a local name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameOwner {
    /// A remote, by its number.
    Remote(usize),
    /// The global Services.
    Global,
}

impl World {
    /// The state before any list.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let remotes = config.remotes.iter().map(RemoteState::new).collect();
        let global = config.global.iter().map(|global| &global.namespace);
        let namespaces = config.remotes.iter().map(|remote| &remote.namespace).chain(global);
        let listed = namespaces.map(|namespace| (namespace.as_str().into(), Listed::default())).collect();
        Self {
            config,
            remotes,
            live: HashMap::new(),
            homes: HashMap::new(),
            listed,
            claims: HashMap::new(),
            nameless: BTreeMap::new(),
            written: HashMap::new(),
            permits: BTreeSet::new(),
            held: BTreeMap::new(),
            judge_due: false,
        }
    }

    /// The local namespaces.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.listed.keys()
    }

    /// Every local name that is claimed or taken.
    pub(crate) fn names(&self) -> Dirty {
        self.claims.keys().chain(self.live.keys()).cloned().collect()
    }

    /// The remote Services without a local name, and why.
    pub(crate) fn nameless(&self) -> impl Iterator<Item = (&Remote, &ServiceKey, &NameError)> {
        self.nameless.iter().map(|((remote, service), problem)| (&self.config.remotes[*remote], service, problem))
    }

    /// The local objects by name.
    pub(crate) fn live(&self) -> impl Iterator<Item = (&ServiceKey, &Live)> {
        self.live.iter()
    }

    /// The names of the local slices that name a Service.
    pub(crate) fn slices_of(&self, key: &ServiceKey) -> Vec<String> {
        self.live.get(key).map_or_else(Vec::new, |live| live.slices.keys().cloned().collect())
    }

    /// How many deletions are held back.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The owner as which a local name is examined.
    pub(crate) fn owner(&self, whose: NameOwner) -> Owner<'_> {
        match whose {
            NameOwner::Remote(number) => {
                let config = &self.config.remotes[number];
                Owner { prefix: &config.prefix, remote: Some((config, self.remotes[number].identity.uid())) }
            }
            NameOwner::Global => {
                // Without global Services this is never used.
                let prefix = self.config.global.as_ref().map_or("", |global| global.prefix.as_str());
                Owner { prefix, remote: None }
            }
        }
    }

    /// The local names that a remote Service claims.
    fn wants(&self, remote: usize, origin: &Origin) -> (Vec<(ServiceKey, Claim)>, Option<NameError>) {
        if origin.is_mirror() {
            return (Vec::new(), None);
        }
        let config = &self.config.remotes[remote];
        let ServiceKey { namespace, name } = &origin.key;
        let key = |namespace: &str, name: &str| ServiceKey { namespace: namespace.into(), name: name.into() };
        let (mut wants, mut problem) = (Vec::new(), None);
        match local_name(&config.scheme, &config.prefix, namespace, name) {
            Ok(local) => {
                let claim = Claim::Plain(remote, origin.key.clone());
                wants.push((key(&config.namespace, local.as_str()), claim));
            }
            Err(error) => problem = Some(error),
        }
        if let Some(global) = self.config.global.as_ref().filter(|global| global.opted_in(&origin.labels)) {
            match local_name(&global.scheme, &global.prefix, namespace, name) {
                Ok(local) => {
                    let claim = Claim::Global(origin.key.clone());
                    wants.push((key(&global.namespace, local.as_str()), claim));
                }
                Err(error) => problem = Some(error),
            }
        }
        (wants, problem)
    }

    /// The local names of a remote Service, if it is known.
    fn locals(&self, remote: usize, service: &ServiceKey) -> Vec<ServiceKey> {
        let Some(origin) = self.remotes[remote].index.service(service) else { return Vec::new() };
        self.wants(remote, origin).0.into_iter().map(|(local, _claim)| local).collect()
    }

    /// Whether a local namespace has been listed completely.
    fn knows_local(&self, namespace: &str) -> bool {
        self.listed.get(namespace).is_some_and(|listed| listed.services && listed.slices)
    }
}

#[cfg(test)]
mod tests;
