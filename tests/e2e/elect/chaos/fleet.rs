//! The candidates, each behind a proxy of its own; the faults that they suffer; and their recorded history.

use std::time::Duration;

use kubekit::{
    cluster::{Account, Cluster},
    fault_proxy::{Call, Fault, FaultProxy},
    interop::{Answers, AuditedProcess, ClientGo, Election, History, LeaderFault, Record, Records, Turn},
};
use rustix::process::Signal;
use testkit::eventually::{scaled, within_time};

use super::super::contender::{Contender, Kind, account};

/// The time limit of a hand-over: several leases, and a margin for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The share of a candidate's requests with a fault, in percent.
const NOISE: u8 = 5;

/// The faults of single requests, besides those of each turn.
const FAULTS: [Fault; 12] = [
    Fault::Delay(Duration::from_millis(150)),
    // Later than any claim, and later than the lease.
    Fault::Delay(Duration::from_millis(1000)),
    Fault::Delay(Duration::from_millis(2500)),
    Fault::DelayAnswer(Duration::from_millis(250)),
    Fault::Drop,
    Fault::DropAnswer,
    Fault::Reset,
    Fault::ResetAnswer,
    Fault::Answer(500),
    Fault::Answer(503),
    Fault::Answer(409),
    Fault::Answer(401),
];

/// Candidates on one lock.
pub(super) struct Fleet<'a> {
    cluster: &'a Cluster,
    election: Election<'a>,
    account: Account,
    of: ClientGo,
    seed: u64,
    records: Records,
    members: Vec<Member>,
    /// Those that have ended. Their last requests may still be in flight.
    ended: Vec<(String, FaultProxy, Option<Answers>)>,
    started: u64,
}

/// A running candidate.
struct Member {
    id: String,
    proxy: FaultProxy,
    contender: Contender,
    _kubeconfig: tempfile::NamedTempFile,
}

impl<'a> Fleet<'a> {
    /// Three of ours, two of client-go's.
    pub(super) async fn start(cluster: &'a Cluster, election: Election<'a>, of: ClientGo, seed: u64) -> Self {
        let records = Records::watch(cluster, &election).await;
        let account = account(cluster, election.namespace).await;
        let (members, ended) = (Vec::new(), Vec::new());
        let mut fleet = Self { cluster, election, account, of, seed, records, members, ended, started: 0 };
        for id in ["ours-0", "ours-1", "ours-2"] {
            fleet.add_ours(id).await;
        }
        for _ in 0..2 {
            fleet.add_client_go().await;
        }
        fleet
    }

    /// Runs one turn, at the end of which another process has the lock and every fault is over.
    pub(super) async fn run_turn(&mut self, turn: Turn) {
        let (leader, _) = self.leader().await;
        // Not a wait for a condition: the seed varies how long the leader leads and is stopped.
        tokio::time::sleep(turn.lead_time).await;
        if let Some(pause) = turn.pause {
            self.members[leader].contender.signal(Signal::STOP);
            tokio::time::sleep(pause).await;
            self.members[leader].contender.signal(Signal::CONT);
        }
        // The leader may have lost the lock during the pause. The fault then hits the new one.
        let (leader, before) = self.leader().await;
        let others = self.members.len() - 1;
        let bystander = turn.bystander.map(|n| (leader + 1 + n % others) % self.members.len());
        // By its id, because indexes change when a member dies.
        let bystander = bystander.map(|place| self.members[place].id.clone());
        self.signal(bystander.as_deref(), Signal::STOP);
        let died = self.inject(leader, turn.fault).await;
        if died && turn.back_at_once {
            self.replace().await;
        }
        // A restarted process with the same id counts as another leader.
        let passed = |record: &Record| {
            !record.holder.is_empty()
                && (record.holder != before.holder || (died && record.transitions != before.transitions))
        };
        within_time(scaled(PATIENCE), "somebody else to lead", self.records.until(passed)).await;
        if died && !turn.back_at_once {
            self.replace().await;
        }
        if !died {
            self.heal(leader);
        }
        self.signal(bystander.as_deref(), Signal::CONT);
    }

    /// Whether one of ours has taken over from somebody else.
    pub(super) fn has_passed_to_ours(&self) -> bool {
        let versions = self.records.versions();
        let holders = versions.iter().map(|version| &version.record.holder).filter(|holder| !holder.is_empty());
        let holders: Vec<_> = holders.collect();
        holders.windows(2).any(|pair| pair[0] != pair[1] && pair[1].starts_with("ours-"))
    }

    fn signal(&self, id: Option<&str>, signal: Signal) {
        let members = self.members.iter().filter(|member| Some(&*member.id) == id);
        members.for_each(|member| member.contender.signal(signal));
    }

    /// Ends everything in order, and returns the history.
    pub(super) async fn finish(mut self) -> History {
        while let Some(member) = self.members.pop() {
            member.proxy.clear();
            self.end(member, Signal::TERM).await;
        }
        let claim = self.election.ttl.mul_f64(0.9) - Duration::from_secs(1);
        let processes = self.ended.iter().map(|(id, proxy, answers)| AuditedProcess {
            id: id.clone(),
            ours: answers.is_some(),
            claim: claim.min(self.election.ttl / 2),
            calls: proxy.calls(),
            answers: answers.clone().unwrap_or_default(),
        });
        let (resource, name) = (self.election.lock_type.to_owned(), self.election.name.to_owned());
        History { resource, name, versions: self.records.versions(), processes: processes.collect() }
    }

    /// Waits until the lock names a member. Returns that member and the record.
    async fn leader(&self) -> (usize, Record) {
        let place = |record: &Record| self.members.iter().position(|member| member.id == record.holder);
        let leads = within_time(scaled(PATIENCE), "somebody to lead", self.records.until(|r| place(r).is_some())).await;
        (place(&leads).expect("the wait above ends with a member's record"), leads)
    }

    /// Returns whether the process has ended.
    async fn inject(&mut self, leader: usize, fault: LeaderFault) -> bool {
        let member = &self.members[leader];
        match fault {
            LeaderFault::Stop => member.contender.signal(Signal::STOP),
            LeaderFault::Hang => member.proxy.hang(),
            LeaderFault::Cut => member.proxy.cut(),
            LeaderFault::Refuse(status) => {
                member.proxy.clear();
                member.proxy.always(Call::writes, Fault::Answer(status));
            }
            LeaderFault::StepDown if member.contender.steps_down().await => {}
            LeaderFault::Terminate | LeaderFault::StepDown => {
                let member = self.members.remove(leader);
                self.end(member, Signal::TERM).await;
                return true;
            }
            LeaderFault::Kill => {
                let member = self.members.remove(leader);
                self.end(member, Signal::KILL).await;
                return true;
            }
        }
        false
    }

    fn heal(&self, leader: usize) {
        let member = &self.members[leader];
        member.contender.signal(Signal::CONT);
        member.proxy.restore();
        member.proxy.clear();
        self.disturb(&member.proxy, self.started + leader as u64);
    }

    /// Replaces a member that has ended: ours by one with the same id, as in a StatefulSet; client-go, which would take over its
    /// own record, by one with another id.
    async fn replace(&mut self) {
        let (id, _, answers) = self.ended.last().expect("somebody has ended");
        match answers {
            Some(_) => self.add_ours(&id.clone()).await,
            None => self.add_client_go().await,
        }
    }

    async fn add_ours(&mut self, id: &str) {
        self.add(Kind::Ours, id).await;
    }

    async fn add_client_go(&mut self) {
        let id = format!("client-go-{}", self.started);
        self.add(Kind::ClientGo(self.of), &id).await;
    }

    async fn add(&mut self, kind: Kind, id: &str) {
        self.started += 1;
        let proxy = FaultProxy::start(self.cluster).await;
        self.disturb(&proxy, self.started);
        let kubeconfig = proxy.kubeconfig(self.account.kubeconfig_path());
        let contender = Contender::start(kind, kubeconfig.path(), id, &self.election).await;
        self.members.push(Member { id: id.into(), proxy, contender, _kubeconfig: kubeconfig });
    }

    fn disturb(&self, proxy: &FaultProxy, number: u64) {
        proxy.seeded(|_| true, self.seed ^ (number << 32), NOISE, FAULTS);
    }

    async fn end(&mut self, mut member: Member, signal: Signal) {
        member.contender.end(signal).await;
        let answers = match &member.contender {
            Contender::Ours { poller, .. } => Some(poller.answers()),
            Contender::ClientGo(_) => None,
        };
        self.ended.push((member.id, member.proxy, answers));
    }
}
