//! The known state of one remote, and how far it can be trusted.

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
    /// Whether it has been unavailable, so that another cluster may answer under its address now.
    pub(super) suspect: bool,
    /// One scope for each watched namespace, or one for all.
    pub(crate) scopes: Vec<Scope>,
    /// Every Service that this process has seen.
    pub(super) seen: HashSet<ServiceKey>,
}

/// Which cluster a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// It is not known yet.
    Pending,
    /// The UID of its `kube-system`.
    Known(Arc<str>),
    /// It cannot be read, for this reason.
    Hidden(Arc<str>),
}

/// The scope of one pair of watches.
#[derive(Debug)]
pub(crate) struct Scope {
    /// The remote's namespace; `None`: all of them.
    pub(crate) namespace: Option<Arc<str>>,
    /// Whether there has been a complete list of the Services.
    pub(crate) services: bool,
    /// Whether there has been a complete list of the slices.
    pub(crate) slices: bool,
    /// The verdict on the mirrors of this scope.
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

    /// The scope that covers a namespace of the remote, if it is watched.
    pub(super) fn scope(&self, namespace: &str) -> Option<&Scope> {
        self.scopes.iter().find(|scope| scope.namespace.as_deref().is_none_or(|own| own == namespace))
    }

    /// Whether there have been complete lists of everything.
    pub(crate) fn is_listed(&self) -> bool {
        self.scopes.iter().all(|scope| scope.services && scope.slices)
    }

    /// Handles an event. After an outage or a new list, the identity of the remote must be confirmed before the
    /// event has an effect.
    pub(super) fn on_event(&mut self, relisted: bool) {
        if self.suspect || relisted {
            self.identity = Identity::Pending;
        }
    }

    /// Updates the verdict on one scope. Returns whether it has changed.
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
