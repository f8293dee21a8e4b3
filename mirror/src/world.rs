//! Everything that is known, there and here, and what follows from it for one local name.
//!
//! Pure but for the `now` it is given. Whoever folds an event in gets the local names that it may have changed something
//! for; whoever works on a name asks for its [`Input`], which is made from what is known at that moment.

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

/// Local names that something may have changed for.
pub(crate) type Dirty = BTreeSet<ServiceKey>;

/// Everything that is known.
#[derive(Debug)]
pub(crate) struct World {
    pub(super) config: Arc<Config>,
    pub(super) remotes: Vec<RemoteState>,
    /// By local name.
    live: HashMap<ServiceKey, Live>,
    /// Which Service a local slice names.
    homes: HashMap<ObjectKey, ServiceKey>,
    /// Local namespaces, and whether their Services and slices are completely known.
    listed: BTreeMap<Arc<str>, Listed>,
    /// Who wants each local name.
    claims: HashMap<ServiceKey, BTreeSet<Claim>>,
    /// Remote Services that cannot have a name here.
    nameless: BTreeMap<(usize, ServiceKey), NameError>,
    /// The UIDs of the Services that this process made or adopted.
    written: HashMap<ServiceKey, String>,
    /// Mirrors that may be deleted.
    permits: BTreeSet<ServiceKey>,
    /// Mirrors that would be deleted, were they not too many, and since when.
    held: BTreeMap<ServiceKey, Instant>,
    /// There may be something new to judge.
    judge_due: bool,
}

/// What is completely known of one local namespace.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    services: bool,
    slices: bool,
}

/// Who wants a local name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// A Service of one remote, by its number.
    Plain(usize, ServiceKey),
    /// The Services of this name that opted in.
    Global(ServiceKey),
}

/// How a local object became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A watch told it, perhaps later than the answer to a write did.
    Told,
    /// It was looked at: that is how it is, whatever was known before.
    Seen,
    /// The API server answered a write with it; this is the digest of what was asked for.
    Answered(u64),
}

/// Whose a local name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A remote's, by its number.
    Remote(usize),
    /// The global Services'.
    Global,
}

impl World {
    /// Nothing is known yet.
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

    /// Every local name that somebody wants, or that is taken.
    pub(crate) fn names(&self) -> Dirty {
        self.claims.keys().chain(self.live.keys()).cloned().collect()
    }

    /// The remote Services without a name here, and why.
    pub(crate) fn nameless(&self) -> impl Iterator<Item = (&Remote, &ServiceKey, &NameError)> {
        self.nameless.iter().map(|((remote, service), problem)| (&self.config.remotes[*remote], service, problem))
    }

    /// What there is here.
    pub(crate) fn live(&self) -> impl Iterator<Item = (&ServiceKey, &Live)> {
        self.live.iter()
    }

    /// The names of the slices here that name a Service.
    pub(crate) fn slices_of(&self, key: &ServiceKey) -> Vec<String> {
        self.live.get(key).map_or_else(Vec::new, |live| live.slices.keys().cloned().collect())
    }

    /// How many deletions are held back.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The owner that looks at a local name.
    pub(crate) fn owner(&self, whose: Whose) -> Owner<'_> {
        match whose {
            Whose::Remote(number) => {
                let config = &self.config.remotes[number];
                Owner { prefix: &config.prefix, remote: Some((config, self.remotes[number].identity.uid())) }
            }
            Whose::Global => {
                // Without global Services nobody asks in their name.
                let prefix = self.config.global.as_ref().map_or("", |global| global.prefix.as_str());
                Owner { prefix, remote: None }
            }
        }
    }

    /// The names that a remote Service wants here.
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

    /// The names that a remote Service has here, if it is known.
    fn locals(&self, remote: usize, service: &ServiceKey) -> Vec<ServiceKey> {
        let Some(origin) = self.remotes[remote].index.service(service) else { return Vec::new() };
        self.wants(remote, origin).0.into_iter().map(|(local, _claim)| local).collect()
    }

    /// Whether everything about a local namespace is known.
    fn knows_local(&self, namespace: &str) -> bool {
        self.listed.get(namespace).is_some_and(|listed| listed.services && listed.slices)
    }
}

#[cfg(test)]
mod tests;
