//! Tests of the audit: a good history passes, and each way to break a rule is found.

use bytes::Bytes;
use serde_json::json;

use super::*;

/// A moment in milliseconds. An event at `n` has timestamps of `n - 1` and `n + 1` around it.
const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn record(holder: &str, renewed: u64, transitions: u64) -> Record {
    let duration = if holder.is_empty() { 1 } else { 2 };
    let (acquired, renewed) = (format!("acquired in {transitions}"), format!("renewed at {renewed}"));
    Record { holder: holder.into(), duration, acquired, renewed, transitions }
}

/// Builds a history step by step.
#[derive(Clone)]
struct HistoryBuilder(History);

impl HistoryBuilder {
    /// Of these processes; those whose name begins with `g` are not ours.
    fn of(ids: &[&str]) -> Self {
        let process =
            |id: &&str| Process { id: (*id).into(), ours: !id.starts_with('g'), claim: ms(800), ..Process::default() };
        let processes = ids.iter().map(process).collect();
        Self(History { resource: "leases".into(), name: "e".into(), processes, ..History::default() })
    }

    /// A process writes, and it is stored at that moment.
    fn writes(&mut self, writer: usize, at: u64, holder: &str, transitions: u64) -> &mut Self {
        let record = record(holder, at, transitions);
        let before = self.0.versions.last().map(|version| version.number.to_string());
        let verb = if before.is_some() { Verb::Update } else { Verb::Create };
        let body = json!({"metadata": {"name": "e", "resourceVersion": before}, "spec": {
            "holderIdentity": record.holder, "leaseDurationSeconds": record.duration, "acquireTime": record.acquired,
            "renewTime": record.renewed, "leaseTransitions": record.transitions}});
        let name = if verb == Verb::Create { "" } else { "e" };
        self.0.processes[writer].calls.push(Call {
            at: ms(at - 1),
            verb,
            path: String::new(),
            query: String::new(),
            group: "coordination.k8s.io".into(),
            resource: "leases".into(),
            namespace: "ns".into(),
            name: name.into(),
            agent: String::new(),
            body: Bytes::from(body.to_string()),
            fault: None,
            passed_on: Some(ms(at - 1)),
            answered: Some(ms(at + 1)),
            status: Some(if verb == Verb::Create { 201 } else { 200 }),
        });
        let number = 100 + self.0.versions.len() as u64;
        self.0.versions.push(Version { number, record, seen: ms(at + 5) });
        self
    }

    /// A process answers at that moment.
    fn says(&mut self, who: usize, at: u64, is_leader: bool, leader: &str) -> &mut Self {
        self.says_within(who, at - 1, at + 1, is_leader, leader)
    }

    fn says_within(&mut self, who: usize, sent: u64, received: u64, is_leader: bool, leader: &str) -> &mut Self {
        self.says_before(who, sent, received, received, is_leader, leader)
    }

    fn says_before(&mut self, who: usize, sent: u64, made: u64, received: u64, leads: bool, leader: &str) -> &mut Self {
        let (sent, received, made_before) = (ms(sent), ms(received), ms(made));
        let answer = Answer { sent, received, made_before, is_leader: leads, leader: leader.into() };
        self.0.processes[who].answers.good.push(answer);
        self
    }

    #[track_caller]
    fn has_problem(&self, part: &str) {
        let audit = self.0.audit();
        assert_eq!(audit.problems.len(), 1, "{:#?}", audit.problems);
        assert!(audit.problems[0].contains(part), "{}", audit.problems[0]);
    }
}

/// Two of ours: `a` leads, renews and stops renewing, `b` takes over, releases, and `g` follows.
fn good() -> HistoryBuilder {
    let mut history = HistoryBuilder::of(&["a", "b", "g"]);
    history.writes(0, 1000, "a", 0).says(0, 1010, true, "a").says(1, 1010, false, "a");
    history.writes(0, 1300, "a", 0).says(0, 2090, true, "a").says(0, 2110, false, "");
    history.writes(1, 3500, "b", 1).says(1, 3510, true, "b").says(0, 3520, false, "b");
    history.writes(1, 3600, "", 1).writes(2, 3650, "g", 2);
    history
}

#[test]
fn a_good_history_is_proven_good() {
    let audit = good().0.audit();
    assert!(audit.problems.is_empty() && audit.undermined.is_empty(), "{audit:#?}");
    assert_eq!((audit.hand_overs, audit.to_ours, audit.affirmed, audit.denied), (2, 1, 3, 3));
}

#[test]
fn an_answer_after_a_later_terms_record_is_found() {
    let mut history = good();
    history.says(0, 3530, true, "a");
    history.has_problem("surely after");
    // It may have been made in time, but that cannot be proven.
    let mut history = good();
    history.says_within(0, 2000, 3520, true, "a");
    history.has_problem("perhaps after");
}

#[test]
fn an_answer_that_was_made_in_time_and_came_late_is_good() {
    let mut history = good();
    history.says_before(0, 2000, 3000, 3520, true, "a");
    let audit = history.0.audit();
    assert!(audit.problems.is_empty(), "{:#?}", audit.problems);
}

#[test]
fn an_answer_after_ones_own_release_is_found() {
    let mut history = good();
    history.says(1, 3620, true, "b");
    history.has_problem("surely after");
}

#[test]
fn an_answer_without_any_record_is_found() {
    let mut history = good();
    history.says(1, 1500, true, "b");
    history.has_problem("never had the lock");
}

#[test]
fn an_answer_beyond_the_claim_is_found_though_nobody_else_leads_yet() {
    let mut history = good();
    history.says(0, 2200, true, "a");
    history.has_problem("its claim had ended");
}

#[test]
fn an_answer_that_took_too_long_around_the_beginning_of_a_term_proves_nothing() {
    let mut history = good();
    history.says_within(1, 1500, 3520, true, "b");
    history.has_problem("before its term began");
}

#[test]
fn the_lock_of_a_namesake_is_not_ones_own() {
    let mut history = HistoryBuilder::of(&["a", "a"]);
    history.writes(0, 1000, "a", 0).says(1, 1100, true, "a");
    history.has_problem("never had the lock");
    let mut history = HistoryBuilder::of(&["a", "a"]);
    history.writes(0, 1000, "a", 0).writes(1, 1100, "a", 1);
    history.has_problem("took over after 100ms");
    let mut history = HistoryBuilder::of(&["a", "a"]);
    history.writes(0, 1000, "a", 0).writes(1, 3100, "a", 0);
    history.has_problem("did not make it transition 1");
    let mut history = HistoryBuilder::of(&["a"]);
    history.writes(0, 1000, "a", 0).says(0, 1900, false, "a");
    history.has_problem("and yet that its id leads");
}

#[test]
fn a_lock_blanked_by_another_is_its_fault_if_it_is_not_ours() {
    let mut history = HistoryBuilder::of(&["a", "g", "b"]);
    history.writes(0, 1000, "a", 0).writes(1, 1100, "", 0).writes(2, 1150, "b", 1);
    history.says(0, 1200, true, "a");
    let audit = history.0.audit();
    assert!(audit.problems.is_empty(), "{:#?}", audit.problems);
    assert_eq!(audit.undermined.len(), 1);
    // Before somebody else has it, nothing is wrong.
    let mut early = history.clone();
    early.0.processes[0].answers = Answers::default();
    early.says(0, 1120, true, "a");
    assert_eq!(early.0.audit().affirmed, 1);
    // No longer than its claim lasts.
    history.0.processes[0].answers = Answers::default();
    history.says(0, 1900, true, "a");
    history.has_problem("surely after");
    let mut history = HistoryBuilder::of(&["a", "b"]);
    history.writes(0, 1000, "a", 0).writes(1, 1100, "", 0);
    history.has_problem("released what is not its own");
}

#[test]
fn a_write_without_a_condition_and_one_by_nobody_are_found() {
    let mut history = good();
    let call = history.0.processes[0].calls[1].clone();
    history.0.processes[0].calls.push(Call { verb: Verb::Patch, status: Some(409), ..call });
    history.has_problem("wrote without a condition");
    let mut history = good();
    history.0.processes[0].calls.clear();
    history.has_problem("0 writes may be that of");
    let mut history = good();
    history.0.processes[1].answers.bad.push("500".into());
    history.has_problem("b answered 500");
}
