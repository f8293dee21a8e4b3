//! One remote: what is known of it, and how good that is.

use std::{collections::HashSet, sync::Arc, time::Duration};

use controlplane::index::ServiceKey;

use crate::{
    config::Remote,
    index::Index,
    stale::{self, Verdict},
};

/// One remote.
#[derive(Debug)]
pub(crate) struct RemoteState {
    pub(crate) index: Index,
    pub(crate) identity: Identity,
    /// It was away: what it tells next may come from another cluster under the same address.
    pub(super) suspect: bool,
    /// One for each watched namespace, or one for all.
    pub(crate) scopes: Vec<Scope>,
    /// Every Service that this process saw exist.
    pub(super) seen: HashSet<ServiceKey>,
}

/// Which cluster a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// It has not said yet.
    Pending,
    /// The UID of its `kube-system`.
    Known(Arc<str>),
    /// It does not say, and this is why.
    Hidden(Arc<str>),
}

/// What one pair of watches covers.
#[derive(Debug)]
pub(crate) struct Scope {
    /// The remote's namespace; none: all of them.
    pub(crate) namespace: Option<Arc<str>>,
    /// There was a complete list of the Services.
    pub(crate) services: bool,
    /// There was a complete list of the slices.
    pub(crate) slices: bool,
    /// What the mirrors of this scope are to be.
    pub(crate) verdict: Verdict,
}

impl RemoteState {
    pub(super) fn new(config: &Remote) -> Self {
        let scope = |namespace| Scope { namespace, services: false, slices: false, verdict: Verdict::AsKnown };
        let mut scopes: Vec<Scope> =
            config.namespaces.iter().map(|namespace| scope(Some(namespace.as_str().into()))).collect();
        if scopes.is_empty() {
            scopes.push(scope(None));
        }
        Self { index: Index::default(), identity: Identity::Pending, suspect: false, scopes, seen: HashSet::new() }
    }

    /// What covers a namespace of the remote, if it is looked at.
    pub(super) fn scope(&self, namespace: &str) -> Option<&Scope> {
        self.scopes.iter().find(|scope| scope.namespace.as_deref().is_none_or(|own| own == namespace))
    }

    /// Whether there was a complete list of everything.
    pub(crate) fn is_listed(&self) -> bool {
        self.scopes.iter().all(|scope| scope.services && scope.slices)
    }

    /// It told something. After a while away, or where it lists anew, nothing follows from that before it has said that it
    /// is still the same cluster.
    pub(super) fn told(&mut self, anew: bool) {
        if self.suspect || anew {
            self.identity = Identity::Pending;
        }
    }

    /// Judges one scope anew. Returns whether that changes anything.
    pub(super) fn judge(&mut self, scope: usize, config: &Remote, away: Option<Duration>) -> bool {
        let verdict = stale::judge(config.stale, config.lost_after, away);
        let news = self.scopes[scope].verdict != verdict;
        self.scopes[scope].verdict = verdict;
        news
    }
}

impl Identity {
    /// The UID, where it is known.
    pub(crate) fn uid(&self) -> Option<&str> {
        match self {
            Self::Known(uid) => Some(uid),
            Self::Pending | Self::Hidden(_) => None,
        }
    }
}
