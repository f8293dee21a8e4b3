//! The public state of one election: the leader, until when that is certain, and stepping down.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use runtime::{
    boot_time::{BootTime, sleep_until},
    drain::Drain,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Leadership, NotLeading, Term};

/// The most queued requests to step down.
const STEP_DOWN_QUEUE: usize = 8;

/// An election that an [`Elector`](super::Elector) of this process takes part in. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Election {
    shared: Arc<SharedElection>,
}

/// The state of an election at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElectionView {
    /// Whether this process leads.
    pub leading: bool,
    /// The leader, if known. Rule: never this process's identity unless it leads, not even if another process uses the same
    /// identity.
    pub leader: Option<Arc<str>>,
    /// When the leader acquired the lease, by its own clock (`acquireTime`).
    pub since: Option<Timestamp>,
    /// The current term, or the last known one. As a fencing token it orders terms within one UID, provided that every candidate
    /// counts transitions: client-go does not if a process restarts in time with its old identity.
    pub term: Option<Term>,
    /// How long this state is valid without an update: the rest of this process's claim if it leads, else the rest of the leader's
    /// lease as observed here. Zero without a leader.
    pub valid_for: Duration,
    /// The moment at which that ends.
    pub valid_until: BootTime,
    /// Whether the lock was read or written at least once.
    pub known: bool,
    /// The current problem with access to the lock, and what to do about it.
    pub problem: Option<Arc<str>>,
    /// Grows with every renewal of this process's claim.
    pub renewals: u64,
}

/// Waits for changes of one election, relative to the last returned view.
#[derive(Clone, Debug)]
pub struct Watch {
    shared: Arc<SharedElection>,
    status: watch::Receiver<ElectionStatus>,
    told: ElectionView,
}

/// The result of stepping down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteppedDown {
    /// The lease is free for others.
    Released,
    /// It could not be released and will expire by itself.
    RunsOut,
}

/// The state that elector, election and claims share.
#[derive(Debug)]
pub(super) struct SharedElection {
    pub(super) name: Arc<str>,
    pub(super) identity: Arc<str>,
    pub(super) status: watch::Sender<ElectionStatus>,
    /// Counts the guarded writes in flight.
    pub(super) writes: Drain,
    commands: mpsc::Sender<StepDown>,
}

/// A request to step down, with the channel for its answer.
pub(super) type StepDown = oneshot::Sender<Result<SteppedDown, NotLeading>>;

/// The elector's knowledge. Every read evaluates it against the clock.
#[derive(Clone, Debug, Default)]
pub(super) struct ElectionStatus {
    pub(super) record: Option<Seen>,
    pub(super) claim: Option<Claimed>,
    /// Whether the lock was read, even if it did not exist.
    pub(super) known: bool,
    pub(super) problem: Option<Arc<str>>,
    pub(super) renewals: u64,
}

/// The last record read or written.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Empty if the lease is free.
    pub(super) holder: Arc<str>,
    pub(super) since: Option<Timestamp>,
    pub(super) term: Term,
    /// When it expires, for a candidate that has observed it from here.
    pub(super) valid_until: BootTime,
}

/// The claim of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claimed {
    pub(super) term: Term,
    pub(super) since: Timestamp,
    pub(super) ends: BootTime,
}

// === impl Election ===

impl Election {
    pub(super) fn new(name: &str, identity: &str) -> (Self, mpsc::Receiver<StepDown>) {
        let (commands, receiver) = mpsc::channel(STEP_DOWN_QUEUE);
        let shared = SharedElection {
            name: name.into(),
            identity: identity.into(),
            status: watch::Sender::default(),
            writes: Drain::new(),
            commands,
        };
        (Self { shared: Arc::new(shared) }, receiver)
    }

    pub(super) fn shared(&self) -> &Arc<SharedElection> {
        &self.shared
    }

    /// The election's name, which is the lock's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The identity of this process.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.shared.identity
    }

    /// The state at this moment, judged by the clock.
    #[must_use]
    pub fn now(&self) -> ElectionView {
        self.shared.view()
    }

    /// A watch for changes from now on.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let status = self.shared.status.subscribe();
        Watch { told: self.now(), status, shared: Arc::clone(&self.shared) }
    }

    /// The guard for writers.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership::elected(self)
    }

    /// Gives up the lead, and does not try to lead for one lease. Returns within about 3 s, when the lease is released, or will
    /// expire by itself.
    ///
    /// # Errors
    /// [`NotLeading`] if this process does not lead, or its elector has ended.
    pub async fn step_down(&self) -> Result<SteppedDown, NotLeading> {
        let (answer, answered) = oneshot::channel();
        self.shared.commands.send(answer).await.map_err(|_ended| NotLeading)?;
        answered.await.unwrap_or(Err(NotLeading))
    }
}

// === impl Watch ===

impl Watch {
    /// The last returned view; at first that of the watch's creation.
    #[must_use]
    pub fn told(&self) -> &ElectionView {
        &self.told
    }

    /// Waits until the leader or the term differs from the last returned view. A claim that expires is such a change. Safe to
    /// cancel.
    pub async fn changed(&mut self) -> ElectionView {
        self.wait(|before, now| !before.same_lead(now)).await
    }

    /// Waits until anything differs from the last returned view, including a mere renewal. Safe to cancel.
    pub async fn updated(&mut self) -> ElectionView {
        self.wait(|before, now| {
            !before.same_lead(now)
                || before.valid_until != now.valid_until
                || (before.renewals, before.known, &before.problem) != (now.renewals, now.known, &now.problem)
        })
        .await
    }

    /// Waits until the condition holds. Safe to cancel.
    pub async fn until(&mut self, so: impl Fn(&ElectionView) -> bool) -> ElectionView {
        self.wait(|_told, now| so(now)).await
    }

    async fn wait(&mut self, news: impl Fn(&ElectionView, &ElectionView) -> bool) -> ElectionView {
        loop {
            // Marked as seen before it is read, so that a change in between wakes the wait below.
            self.status.mark_unchanged();
            let now = self.shared.view();
            if news(&self.told, &now) {
                self.told = now.clone();
                return now;
            }
            let ends = async {
                match now.leader {
                    Some(_) => sleep_until(now.valid_until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender is in `shared`, so that it is never gone.
                _ = self.status.changed() => {}
                () = ends => {}
            }
        }
    }
}

// === impl ElectionView ===

impl ElectionView {
    /// Whether both have the same leader and term.
    #[must_use]
    pub fn same_lead(&self, other: &Self) -> bool {
        (self.leading, &self.leader, &self.term) == (other.leading, &other.leader, &other.term)
    }

    /// The term of this process, if it leads.
    #[must_use]
    pub fn own_term(&self) -> Option<&Term> {
        self.term.as_ref().filter(|_| self.leading)
    }
}

// === impl SharedElection ===

impl SharedElection {
    pub(super) fn view(&self) -> ElectionView {
        let status = self.status.borrow();
        // The clock is read last, so that a process that was stopped in between does not use an old time.
        let now = BootTime::now();
        status.view(now, &self.identity)
    }

    /// The claim, unless it has ended, and its remaining time.
    pub(super) fn claim(&self) -> Option<(Claimed, Duration)> {
        let claim = self.status.borrow().claim.clone()?;
        let left = claim.ends.saturating_since(BootTime::now());
        (!left.is_zero()).then_some((claim, left))
    }
}

// === impl ElectionStatus ===

impl ElectionStatus {
    pub(super) fn view(&self, now: BootTime, identity: &str) -> ElectionView {
        let common = ElectionView {
            known: self.known,
            problem: self.problem.clone(),
            renewals: self.renewals,
            term: self.record.as_ref().map(|record| record.term.clone()),
            ..ElectionView::default()
        };
        if let Some(claim) = self.claim.as_ref().filter(|claim| now < claim.ends) {
            return ElectionView {
                leading: true,
                leader: Some(identity.into()),
                since: Some(claim.since),
                term: Some(claim.term.clone()),
                valid_for: claim.ends.saturating_since(now),
                valid_until: claim.ends,
                ..common
            };
        }
        match &self.record {
            Some(record) if !record.holder.is_empty() && &*record.holder != identity && now < record.valid_until => {
                ElectionView {
                    leader: Some(Arc::clone(&record.holder)),
                    since: record.since,
                    valid_for: record.valid_until.saturating_since(now),
                    valid_until: record.valid_until,
                    ..common
                }
            }
            _ => common,
        }
    }
}
