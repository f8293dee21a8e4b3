//! What is told about an election: the original's four fields, and everything.

use std::sync::Arc;

use controlplane::lease::{Election, ElectionView};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// An election, and how often who leads it has changed as seen from here.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) election: Election,
    last: Arc<Mutex<(ElectionView, u64)>>,
}

/// The answer of k8s-elector.
#[derive(Debug, Serialize)]
pub(super) struct Brief {
    pub(super) is_leader: bool,
    /// Empty where nobody is known to lead.
    leader: Arc<str>,
    node: String,
    timestamp: String,
}

/// Everything that is known.
#[derive(Debug, Serialize)]
pub(super) struct State {
    election: String,
    node: String,
    is_leader: bool,
    leader: Option<Arc<str>>,
    /// Since when it leads, by its own clock.
    since: Option<String>,
    /// Milliseconds for which that holds without further news.
    valid_for_ms: u128,
    transitions: Option<u64>,
    fencing_token: Option<Token>,
    /// Differs from every earlier one of this process as soon as who leads, or in which term, has changed.
    pub(super) index: u64,
    /// The lock was reached at least once.
    known: bool,
    problem: Option<Arc<str>>,
    timestamp: String,
}

/// What a leader passes on with its writes, so that those of an earlier term can be refused: transitions are ordered within
/// one UID only.
#[derive(Debug, Serialize)]
struct Token {
    lease_uid: Arc<str>,
    transitions: u64,
}

// === impl Observed ===

impl Observed {
    pub(super) fn new(election: Election) -> Self {
        let last = Arc::new(Mutex::new((election.now(), 1)));
        Self { election, last }
    }

    pub(super) fn brief(&self) -> Brief {
        let view = self.election.now();
        Brief {
            is_leader: view.leading,
            leader: view.leader.unwrap_or_default(),
            node: self.election.identity().to_owned(),
            timestamp: now(),
        }
    }

    pub(super) fn state(&self) -> State {
        // Looked at under the lock, so that indices are given in the order of what they stand for.
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
            fencing_token: own.map(|term| Token { lease_uid: term.uid, transitions: term.transitions }),
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

/// RFC 3339 in UTC, whole seconds, as the original writes it. More is not in every kind of lock.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
