//! The loop around a candidate: one request at a time, each with its deadline, until the process drains.

mod release;

use std::{pin::pin, sync::Arc, time::Duration};

use ::metrics::{counter, gauge};
use jiff::Timestamp;
use kube::Client;
use runtime::{
    boot_time::{BootTime, sleep_until},
    drain::DrainWatch,
    readiness::Gate,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    Config, ConfigError, NotLeading, Term,
    candidate::{Answer, Candidate, Next, Now, Outcome, Request},
    config::{JITTER, Timing},
    election::{Election, StepDown},
    events::Reporter,
    failure::{LockFailure, LockFailureReason},
    lock::Lock,
    terms::{Cause, Participants, Terms},
};
use crate::metrics as names;

/// Takes part in one election.
#[derive(Debug)]
pub struct Elector {
    election: Election,
    timing: Timing,
    lock: Arc<Lock>,
    candidate: Candidate,
    participants: Participants,
    events: Reporter,
    commands: mpsc::Receiver<StepDown>,
    gate: Option<Gate>,
    /// The term that was announced and has not ended.
    active: Option<Term>,
    /// The time by which all work of the last term must have stopped.
    stop_by: BootTime,
    problem: Option<Arc<str>>,
    leaving: Option<Leaving>,
}

/// The reason why this process gives up the lead.
#[derive(Debug)]
enum Leaving {
    StepDown { since: BootTime, asked: StepDown },
    ShutDown { since: BootTime },
}

impl Elector {
    /// A candidate that does nothing before [`run`](Self::run). The client must not retry by itself; those of
    /// [`connect`](crate::client::connect) do not.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(config: Config, client: Client) -> Result<Self, ConfigError> {
        config.check()?;
        let (election, commands) = Election::new(&config.name, &config.identity);
        let lock = Lock::new(&config, &client);
        let events = Reporter::new(client, lock.reference());
        // Different for every process, whatever its identity: 64 random bits.
        let process = format!("{:016x}", fastrand::u64(..));
        Ok(Self {
            election,
            timing: config.timing,
            candidate: Candidate::new(&config.identity, config.timing, process),
            lock: Arc::new(lock),
            participants: Participants::default(),
            events,
            commands,
            gate: None,
            active: None,
            stop_by: BootTime::default(),
            problem: None,
            leaving: None,
        })
    }

    /// The election as the rest of the process uses it: its state, and the guard for writers.
    #[must_use]
    pub fn election(&self) -> Election {
        self.election.clone()
    }

    /// Adds a participant: it is notified when terms of this process begin and end, and the end of a term waits for it.
    pub fn terms(&mut self) -> Terms {
        self.participants.join()
    }

    /// Sets a gate that becomes ready when the lock has been read once.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Takes part until the drain begins, then releases the lease if it is held, and returns within about 3 s.
    pub async fn run(mut self, drain: DrainWatch) {
        gauge!(names::ELECTION_MASTER, "name" => self.name()).set(0.0);
        names::election_from_zero(&self.name());
        loop {
            if drain.is_draining() {
                self.shut_down();
            } else {
                let outcome = self.attempt(&drain).await;
                self.pause(outcome, &drain).await;
            }
            match self.leaving.take() {
                None => {}
                Some(Leaving::StepDown { since, asked }) => self.finish_step_down(since, asked).await,
                Some(Leaving::ShutDown { since }) => return self.finish(since).await,
            }
        }
    }

    /// Makes one attempt to acquire or renew the lease.
    async fn attempt(&mut self, drain: &DrainWatch) -> Outcome {
        // No term begins while work of the last one is running.
        let ended = self.participants.ended();
        self.candidate.stand(ended);
        let mut request = self.candidate.begin(now());
        self.sync();
        loop {
            let answer = self.exchange(request, drain).await;
            let next = self.candidate.answered(answer, now());
            // Only a complete attempt clears the problem: a lock that can be read, but not written, still has one.
            if matches!(next, Next::Done(outcome) if outcome != Outcome::Failed) {
                self.problem = None;
            }
            self.sync();
            match next {
                Next::Ask(next) if self.leaving.is_none() => request = next,
                Next::Ask(_) => return Outcome::Failed,
                Next::Done(outcome) => {
                    self.count(outcome);
                    return outcome;
                }
            }
        }
    }

    /// Sends one request. If the claim ends or is given up meanwhile, it still waits for the answer, because the request may be a
    /// write, but no longer than for the other work of the term.
    async fn exchange(&mut self, request: Request, drain: &DrainWatch) -> Answer {
        let lock = Arc::clone(&self.lock);
        let mut done = pin!(async move {
            match request {
                Request::Read => lock.read().await,
                Request::Write { over, record } => lock.write(over.as_ref(), &record).await.map(Some),
            }
        });
        loop {
            let (claim_ends, gives_up) = (until(self.claim_ends()), until(self.waits_until()));
            tokio::select! {
                biased;
                () = claim_ends => self.expire(),
                () = drain.wait(), if self.leaving.is_none() => self.shut_down(),
                Some(asked) = self.commands.recv(), if self.leaving.is_none() => self.step_down(asked),
                () = gives_up => return Answer::Failed,
                done = &mut done => {
                    return match done {
                        Ok(held) => Answer::Lock(held),
                        Err(failure) => {
                            self.failed(&failure);
                            if failure.nothing_happened() { Answer::Refused } else { Answer::Failed }
                        }
                    };
                }
            }
        }
    }

    /// Waits until the next attempt is due.
    async fn pause(&mut self, outcome: Outcome, drain: &DrainWatch) {
        let due = self.due(outcome);
        while self.leaving.is_none() {
            tokio::select! {
                biased;
                () = until(self.claim_ends()) => self.expire(),
                () = drain.wait() => self.shut_down(),
                Some(asked) = self.commands.recv() => self.step_down(asked),
                () = sleep_until(due) => return,
            }
        }
    }

    /// When the next attempt is due. A leader renews a retry period after it sent the last renewal, or after a failure. Others try
    /// at jittered intervals, and as soon as a lease expires.
    fn due(&self, outcome: Outcome) -> BootTime {
        let now = BootTime::now();
        let retry = self.timing.retry_period();
        match (outcome, self.candidate.claim()) {
            (Outcome::Acquired | Outcome::Renewed { .. }, Some(claim)) => claim.ends - self.timing.claim() + retry,
            (_, Some(_)) => now + retry,
            (_, None) => {
                let jittered = now + retry.mul_f64(1.0 + JITTER * fastrand::f64());
                // Jitter keeps candidates from trying at the same moment. The resource version makes simultaneous attempts safe.
                let spread = retry.mul_f64((JITTER - 1.0) * fastrand::f64());
                let runs_out = self.candidate.others_lease().filter(|until| *until > now);
                runs_out.map_or(jittered, |until| jittered.min(until + spread))
            }
        }
    }

    /// Publishes the candidate's state: first for readers, then for the participants.
    fn sync(&mut self) {
        let status = self.candidate.status(self.problem.clone());
        if let Some(gate) = &self.gate {
            match (&status.problem, status.known) {
                (_, true) => gate.set_ready(),
                (Some(problem), false) => gate.set_not_ready(&**problem),
                (None, false) => {}
            }
        }
        self.election.shared().status.send_replace(status);
        let current = self.candidate.claim().map(|claim| claim.term.clone());
        if self.active != current {
            if let Some(term) = self.active.take() {
                self.ended(&term);
            }
            if let Some(term) = current {
                self.began(&term);
                self.active = Some(term);
            }
        }
    }

    fn began(&mut self, term: &Term) {
        info!(election = self.name(), transitions = term.transitions, "became leader");
        counter!(names::ELECTION_TERMS, "name" => self.name()).increment(1);
        gauge!(names::ELECTION_MASTER, "name" => self.name()).set(1.0);
        self.participants.began(term);
        self.events.report(&term.uid, format!("{} became leader", self.election.identity()));
    }

    fn claim_ends(&self) -> Option<BootTime> {
        self.candidate.claim().map(|claim| claim.ends)
    }

    /// The deadline of a request that was in flight when the lead was given up.
    fn waits_until(&self) -> Option<BootTime> {
        match &self.leaving {
            Some(Leaving::StepDown { since, .. } | Leaving::ShutDown { since }) => {
                Some(*since + release::STOP_GRACE_PERIOD)
            }
            None => None,
        }
    }

    fn expire(&mut self) {
        self.candidate.tick(BootTime::now());
        self.sync();
    }

    fn count(&self, outcome: Outcome) {
        if let Outcome::Renewed { fast } = outcome {
            counter!(names::ELECTION_RENEWALS, "name" => self.name()).increment(1);
            if !fast {
                counter!(names::ELECTION_SLOWPATH, "name" => self.name()).increment(1);
            }
        }
    }

    fn failed(&mut self, failure: &LockFailure) {
        let reason = failure.reason.as_str();
        counter!(names::ELECTION_ERRORS, "name" => self.name(), "verb" => failure.verb(), "reason" => reason)
            .increment(1);
        // Another candidate was faster, or a label was edited: not an error.
        if failure.reason == LockFailureReason::Conflict {
            return;
        }
        let problem: Arc<str> = failure.to_string().into();
        if self.problem.as_ref() != Some(&problem) {
            warn!(election = self.name(), reason, "{problem}; trying again");
        }
        self.problem = Some(problem);
    }

    fn name(&self) -> String {
        self.election.name().to_owned()
    }
}

fn now() -> Now {
    Now { boot: BootTime::now(), wall: Timestamp::now() }
}

async fn until(moment: Option<BootTime>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
