//! The JSON about an election: the four fields of k8s-elector, and the whole state.

use std::sync::Arc;

use controlplane::lease::{Election, ElectionView};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// An election, and how many changes of its leader this process has seen.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) election: Election,
    last: Arc<Mutex<(ElectionView, u64)>>,
}

/// The answer of k8s-elector.
#[derive(Debug, Serialize)]
pub(super) struct ElectorAnswer {
    pub(super) is_leader: bool,
    /// The leader; empty if none is known.
    leader: Arc<str>,
    node: String,
    timestamp: String,
}

/// The whole state.
#[derive(Debug, Serialize)]
pub(super) struct State {
    election: String,
    node: String,
    is_leader: bool,
    leader: Option<Arc<str>>,
    /// When the leader's term began, by the leader's clock.
    since: Option<String>,
    /// For how many milliseconds `is_leader` is valid without a renewal.
    valid_for_ms: u128,
    transitions: Option<u64>,
    fencing_token: Option<FencingToken>,
    /// Incremented when the leader or its term has changed.
    pub(super) index: u64,
    /// Whether the lock has been read at least once.
    known: bool,
    problem: Option<Arc<str>>,
    timestamp: String,
}

/// The fencing token that a leader adds to its writes, so that those of an earlier term can be refused. Transitions are ordered within
/// one UID only.
#[derive(Debug, Serialize)]
struct FencingToken {
    lease_uid: Arc<str>,
    transitions: u64,
}

// === impl Observed ===

impl Observed {
    pub(super) fn new(election: Election) -> Self {
        let last = Arc::new(Mutex::new((election.now(), 1)));
        Self { election, last }
    }

    pub(super) fn brief(&self) -> ElectorAnswer {
        let view = self.election.now();
        ElectorAnswer {
            is_leader: view.leading,
            leader: view.leader.unwrap_or_default(),
            node: self.election.identity().to_owned(),
            timestamp: now(),
        }
    }

    pub(super) fn state(&self) -> State {
        // Read under the lock, so that the order of indices is that of the states.
        let mut last = self.last.lock();
        let view = self.election.now();
        if !view.same_lead(&last.0) {
            last.1 += 1;
        }
        last.0 = view.clone();
        let index = last.1;
        drop(last);
        let own = view.own_term().cloned();
        State {
            election: self.election.name().to_owned(),
            node: self.election.identity().to_owned(),
            is_leader: view.leading,
            since: view.leader.as_ref().and(view.since).map(seconds),
            leader: view.leader,
            valid_for_ms: view.valid_for.as_millis(),
            transitions: view.term.map(|term| term.transitions),
            fencing_token: own.map(|term| FencingToken { lease_uid: term.uid, transitions: term.transitions }),
            index,
            known: view.known,
            problem: view.problem,
            timestamp: now(),
        }
    }
}

fn now() -> String {
    seconds(Timestamp::now())
}

/// RFC 3339 in UTC with whole seconds, as k8s-elector writes it. Not every kind of lock has fractions.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
