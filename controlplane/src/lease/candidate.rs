//! One candidate as a state machine: answers and the time go in; requests and the leader come out.
//!
//! It is client-go's (`tryAcquireOrRenew`), except for these rules: a claim ends by a clock that counts suspends, starting before
//! its write was sent, and no late answer revives it; only a record that this process wrote is its own; the deletion of a lock does
//! not end a running lease.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use runtime::boot_time::BootTime;

use super::{
    Term,
    config::Timing,
    election::{Claimed, ElectionStatus, Seen},
    held::{Held, Writes},
    record::Record,
    terms::Cause,
};

/// The two clocks: one for decisions, and one for the readable times in records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) boot: BootTime,
    pub(super) wall: Timestamp,
}

/// A request to the API server. A write replaces the version that was read last, and no other (its resource version).
#[derive(Clone, Debug)]
pub(super) enum Request {
    Read,
    Write { over: Option<Held>, record: Record },
}

/// The API server's answer.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The lock as read, if it exists, or as written.
    Lock(Option<Held>),
    /// A write that certainly did not happen.
    Refused,
    /// A failed read, or a write with an unknown outcome.
    Failed,
}

/// The next step.
#[derive(Clone, Debug)]
pub(super) enum Next {
    /// Send this request at once.
    Ask(Request),
    /// Nothing until the next attempt.
    Done(Outcome),
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Acquired,
    /// Renewed, either optimistically over the last written version, or after another read.
    Renewed {
        fast: bool,
    },
    /// Another candidate leads, or this one may not lead now.
    Following,
    Lost,
    /// No answer, a refusal, or an answer after the claim had ended.
    Failed,
}

/// A candidate in one election.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: Arc<str>,
    timing: Timing,
    /// Names this process in records, whatever its identity.
    process: String,
    sequence: u64,
    observed: Option<Observed>,
    known: bool,
    writes: Writes,
    /// The lock may hold a record of this process.
    holds: bool,
    leader_state: Option<LeaderState>,
    lost: Option<Lost>,
    may_lead: bool,
    rests_until: BootTime,
    renewals: u64,
    stage: Stage,
}

/// The last observed version of the record.
#[derive(Debug)]
struct Observed {
    raw: String,
    record: Record,
    uid: Arc<str>,
    /// The most transitions seen under this UID. Counting continues from there even if somebody has lowered them.
    counted: u64,
    valid_until: BootTime,
    ours: bool,
}

/// The state of a leader.
#[derive(Debug)]
struct LeaderState {
    claim: Claimed,
    /// The time until which nobody else can lead.
    exclusive: BootTime,
    held: Held,
}

/// How the last term ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) cause: Cause,
    /// The time until which nobody else can lead, unless another candidate broke the rules.
    pub(super) exclusive: BootTime,
}

/// The answer that the candidate waits for.
#[derive(Debug)]
enum Stage {
    Idle,
    Reading,
    Writing { kind: WriteKind, record: Record, sent: BootTime },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteKind {
    Renewal { fast: bool },
    Acquisition,
}

impl Candidate {
    /// A candidate that has not read the lock yet. `process` must be different for every process.
    pub(super) fn new(identity: &str, timing: Timing, process: String) -> Self {
        Self {
            identity: identity.into(),
            timing,
            process,
            sequence: 0,
            observed: None,
            known: false,
            writes: Writes::default(),
            holds: false,
            leader_state: None,
            lost: None,
            may_lead: true,
            rests_until: BootTime::default(),
            renewals: 0,
            stage: Stage::Idle,
        }
    }

    /// Begins an attempt.
    pub(super) fn begin(&mut self, now: Now) -> Request {
        self.tick(now.boot);
        match &self.leader_state {
            Some(LeaderState { claim, held, .. }) => {
                let (claim, held) = (claim.clone(), held.clone());
                let record = self.renewal(&claim, now.wall);
                self.write(WriteKind::Renewal { fast: true }, Some(held), record, now.boot)
            }
            None => {
                self.stage = Stage::Reading;
                Request::Read
            }
        }
    }

    /// Handles the answer to the last request.
    pub(super) fn answered(&mut self, answer: Answer, now: Now) -> Next {
        // Before anything else: an answer that comes after the end of the claim does not revive it.
        self.tick(now.boot);
        if matches!((&self.stage, &answer), (Stage::Writing { .. }, Answer::Refused)) {
            self.writes.refused();
        }
        match (std::mem::replace(&mut self.stage, Stage::Idle), answer) {
            (Stage::Reading, Answer::Lock(Some(held))) => self.found(held, now),
            (Stage::Reading, Answer::Lock(None)) => self.missing(now),
            (Stage::Writing { kind, record, sent }, Answer::Lock(Some(held))) => {
                self.written(kind, record, sent, held, now.boot)
            }
            // The optimistic write failed, perhaps because of an edited label: read the lock.
            (Stage::Writing { kind: WriteKind::Renewal { fast: true }, .. }, _) if self.leader_state.is_some() => {
                self.stage = Stage::Reading;
                Next::Ask(Request::Read)
            }
            _ => Next::Done(Outcome::Failed),
        }
    }

    /// Ends the claim if it has expired.
    pub(super) fn tick(&mut self, now: BootTime) {
        if self.leader_state.as_ref().is_some_and(|leader_state| now >= leader_state.claim.ends) {
            self.lose(Cause::Expired);
        }
    }

    /// Gives up the claim, if there is one, and makes no new one before [`stand`](Self::stand).
    pub(super) fn resign(&mut self, cause: Cause) {
        self.may_lead = false;
        self.lose(cause);
    }

    /// Sets whether this candidate may lead. During a rest it never does.
    pub(super) fn stand(&mut self, may_lead: bool) {
        self.may_lead = may_lead;
    }

    /// Rests until this moment: no attempt to lead before it.
    pub(super) fn rest_until(&mut self, moment: BootTime) {
        self.rests_until = moment;
    }

    /// The record that frees the lease, if the lock is still this process's own.
    pub(super) fn release(&mut self, held: Option<&Held>, now: Now) -> Option<Record> {
        let held = held.filter(|held| self.writes.wrote(held) && *held.record().holder == *self.identity);
        self.holds = held.is_some();
        let released = Record {
            holder: String::new(),
            lease_seconds: 1,
            acquired: Some(now.wall),
            renewed: Some(now.wall),
            transitions: held?.record().transitions,
            writer: Some(self.next_writer()),
        };
        Some(released)
    }

    /// Notes that the lease was released.
    pub(super) fn released(&mut self, held: &Held, now: BootTime) {
        self.holds = false;
        self.observe(held, now, true);
    }

    /// Whether there may be something to release.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// The claim.
    pub(super) fn claim(&self) -> Option<&Claimed> {
        self.leader_state.as_ref().map(|leader_state| &leader_state.claim)
    }

    /// How the last term ended.
    pub(super) fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// When another candidate's lease expires, as observed here.
    pub(super) fn others_lease(&self) -> Option<BootTime> {
        let others = |observed: &&Observed| !observed.ours && !observed.record.holder.is_empty();
        self.observed.as_ref().filter(others).map(|observed| observed.valid_until)
    }

    /// The status for readers.
    pub(super) fn status(&self, problem: Option<Arc<str>>) -> ElectionStatus {
        let record = self.observed.as_ref().map(|observed| Seen {
            holder: observed.record.holder.as_str().into(),
            since: observed.record.acquired,
            term: Term { uid: Arc::clone(&observed.uid), transitions: observed.record.transitions },
            valid_until: observed.valid_until,
        });
        ElectionStatus { record, claim: self.claim().cloned(), known: self.known, problem, renewals: self.renewals }
    }

    fn found(&mut self, held: Held, now: Now) -> Next {
        let ours = self.writes.wrote(&held);
        self.observe(&held, now.boot, ours);
        match &self.leader_state {
            Some(leader_state) if ours => {
                let claim = leader_state.claim.clone();
                let record = self.renewal(&claim, now.wall);
                return Next::Ask(self.write(WriteKind::Renewal { fast: false }, Some(held), record, now.boot));
            }
            Some(_) => {
                self.lose(Cause::Overtaken);
                self.holds = false;
                return Next::Done(Outcome::Lost);
            }
            None => self.holds &= ours,
        }
        let free = ours || self.others_lease().is_none_or(|until| now.boot >= until);
        if !free || !self.stands(now.boot) {
            return Next::Done(Outcome::Following);
        }
        // Transitions increase even after a record of our own, because it is another term with another fencing token.
        let counted = self.observed.as_ref().map_or(0, |observed| observed.counted);
        let transitions = counted.saturating_add(1);
        let record = self.acquisition(transitions, now.wall);
        Next::Ask(self.write(WriteKind::Acquisition, Some(held), record, now.boot))
    }

    fn missing(&mut self, now: Now) -> Next {
        self.known = true;
        self.holds = false;
        if self.leader_state.is_some() {
            self.lose(Cause::Deleted);
            return Next::Done(Outcome::Lost);
        }
        // Its holder may not have noticed the deletion yet.
        let running = self.others_lease().is_some_and(|until| now.boot < until);
        if running || !self.stands(now.boot) {
            return Next::Done(Outcome::Following);
        }
        let record = self.acquisition(0, now.wall);
        Next::Ask(self.write(WriteKind::Acquisition, None, record, now.boot))
    }

    fn written(&mut self, kind: WriteKind, record: Record, sent: BootTime, held: Held, now: BootTime) -> Next {
        self.writes.acknowledged(&held);
        self.observe(&held, now, true);
        let ends = sent + self.timing.claim();
        let claim = match kind {
            WriteKind::Renewal { .. } => {
                self.leader_state.take().map(|leader_state| Claimed { ends, ..leader_state.claim })
            }
            WriteKind::Acquisition => self.stands(now).then(|| Claimed {
                term: Term { uid: held.uid(), transitions: record.transitions },
                since: record.acquired.unwrap_or_default(),
                ends,
            }),
        };
        let Some(claim) = claim.filter(|claim| now < claim.ends) else { return Next::Done(Outcome::Failed) };
        self.leader_state = Some(LeaderState { claim, exclusive: sent + self.timing.exclusive(), held });
        self.renewals += 1;
        Next::Done(match kind {
            WriteKind::Renewal { fast } => Outcome::Renewed { fast },
            WriteKind::Acquisition => Outcome::Acquired,
        })
    }

    fn write(&mut self, kind: WriteKind, over: Option<Held>, record: Record, sent: BootTime) -> Request {
        self.writes.sending(&record, over.as_ref());
        self.holds = true;
        self.stage = Stage::Writing { kind, record: record.clone(), sent };
        Request::Write { over, record }
    }

    fn observe(&mut self, held: &Held, now: BootTime, ours: bool) {
        self.known = true;
        let raw = held.raw();
        let uid = held.uid();
        let same = |observed: &Observed| (&observed.raw, &observed.uid, observed.ours) == (&raw, &uid, ours);
        if self.observed.as_ref().is_some_and(same) {
            return;
        }
        let record = held.record();
        // A record without a lease duration gets that of this candidate.
        let lasts = match u64::try_from(record.lease_seconds) {
            Ok(0) | Err(_) => self.timing.lease(),
            Ok(seconds) => Duration::from_secs(seconds),
        };
        let before = self.observed.as_ref().filter(|before| before.uid == uid).map_or(0, |before| before.counted);
        let counted = before.max(record.transitions);
        self.observed = Some(Observed { raw, record, uid, counted, valid_until: now + lasts, ours });
    }

    fn lose(&mut self, cause: Cause) {
        if let Some(leader_state) = self.leader_state.take() {
            self.lost = Some(Lost { cause, exclusive: leader_state.exclusive });
        }
    }

    fn stands(&self, now: BootTime) -> bool {
        self.may_lead && now >= self.rests_until
    }

    /// The record of a renewal, with the term's acquisition time and transitions.
    fn renewal(&mut self, claim: &Claimed, wall: Timestamp) -> Record {
        self.record(claim.term.transitions, claim.since, wall)
    }

    fn acquisition(&mut self, transitions: u64, wall: Timestamp) -> Record {
        self.record(transitions, wall, wall)
    }

    fn record(&mut self, transitions: u64, acquired: Timestamp, renewed: Timestamp) -> Record {
        Record {
            holder: self.identity.to_string(),
            lease_seconds: self.timing.lease_seconds(),
            acquired: Some(acquired),
            renewed: Some(renewed),
            transitions,
            writer: Some(self.next_writer()),
        }
    }

    /// A globally unique name for the next write.
    fn next_writer(&mut self) -> String {
        self.sequence += 1;
        format!("{}-{}", self.process, self.sequence)
    }
}

#[cfg(test)]
mod tests;
