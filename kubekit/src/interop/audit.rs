//! Proves that no process said it led after a later term's record had been written, and checks the other rules of an
//! election's writes.
//!
//! All timestamps come from the boot-time clock, which all processes of a machine share, so they can be compared. Two
//! moments lie within other processes and are known only as intervals:
//!
//! - A process *makes an answer* at some moment after the question was sent and before the answer had come, both stamped
//!   by a [poller](super::Poller). Where it was stopped in between, the answer's own timestamp may say that it was made
//!   much earlier than it came: `sent <= made < made_before <= received`.
//! - The API server *stores a version* of the lock at some moment after its writer's request was passed on to it, which
//!   the writer's [proxy](crate::fault_proxy) stamps, and before the answer to that request had come back to the proxy:
//!   `passed_on <= stored <= answered`. In which order versions are stored their numbers say, and a watch past all
//!   proxies brings every one. Who wrote one is certain, too: each is the only successful write that named the version
//!   before it (a compare-and-swap), or that created the lock, and that says what it says; and each process has a proxy
//!   of its own, which also sees what arrives after its process has died.
//!
//! An answer "I lead" is good if no version of a later term had been stored when it was made. That is certain if, of
//! all versions *passed on* before `made_before`, the last is one of the process's own, in which it names itself. This errs
//! on the safe side twice: a version may have been stored later than it was passed on, and the answer made earlier than
//! `made_before`. So an answer that passes is proven good, whatever the delays; one that fails may be good, and fails the
//! test all the same.
//!
//! One fault no candidate can prevent: when client-go releases, it overwrites the lock that it has just read, without
//! checking who holds it. If a client-go candidate clears our lock in this way, a third one can take it at once. Our answers
//! from then until our next renewal, which detects it, or the end of our claim, are counted apart, as undermined. Our
//! candidates must never do that to others.

use std::{collections::HashMap, fmt, time::Duration};

use super::{Answer, Answers, Record, Version};
use crate::fault_proxy::{Call, Verb};

/// The longest round trip of an answer that can be judged: the lock may change hands in the meantime.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(500);

/// What happened to one lock.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The lock's resource: `leases`, `configmaps`, `endpoints`.
    pub resource: String,
    /// The lock's name.
    pub name: String,
    /// Every version of it.
    pub versions: Vec<Version>,
    /// Every process that took part, each from its start to its end: a restart is another process.
    pub processes: Vec<Process>,
}

/// What is known of one process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// What it calls itself.
    pub id: String,
    /// Whether it is under test. Others are recorded, not judged.
    pub ours: bool,
    /// How long a claim of it may last after the renewal was sent.
    pub claim: Duration,
    /// Its requests to the API server.
    pub calls: Vec<Call>,
    /// What it answered.
    pub answers: Answers,
}

/// What the history shows.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Violations of the rules.
    pub problems: Vec<String>,
    /// Answers of ours that are wrong because another candidate cleared the lock.
    pub undermined: Vec<String>,
    /// How often the lock passed to another process.
    pub hand_overs: usize,
    /// How often the lock passed to one of ours.
    pub to_ours: usize,
    /// Answers "I lead" that are proven good.
    pub affirmed: usize,
    /// Answers "I do not lead".
    pub denied: usize,
    /// Requests with a fault.
    pub faults: usize,
}

/// A version, and what is known of its write.
struct Stored<'a> {
    record: &'a Record,
    writer: usize,
    /// Earliest time at which it was stored.
    passed_on: Duration,
    /// Latest time at which it was stored.
    answered: Duration,
}

/// The verdict on an answer "I lead".
enum Verdict {
    Good,
    Undermined(String),
    Wrong(String),
}

impl History {
    /// Checks every rule.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut audit = Audit::default();
        let stored = match self.stored() {
            Ok(stored) => stored,
            Err(problem) => {
                audit.problems.push(problem);
                return audit;
            }
        };
        self.terms(&stored, &mut audit);
        for (number, process) in self.processes.iter().enumerate() {
            audit.faults += process.calls.iter().filter(|call| call.fault.is_some()).count();
            if process.ours {
                self.writes(process, &mut audit);
                self.answers(number, &stored, &mut audit);
            }
        }
        audit
    }

    /// Every version with its writer.
    fn stored(&self) -> Result<Vec<Stored<'_>>, String> {
        // Writes by the version that they replace.
        let mut writes: HashMap<Option<u64>, Vec<(usize, &Call, Record)>> = HashMap::new();
        for (writer, process) in self.processes.iter().enumerate() {
            for call in process.calls.iter().filter(|call| self.acknowledged(call)) {
                let body = call.json();
                let after = body["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
                if let Some(record) = Record::of(&body) {
                    writes.entry(after).or_default().push((writer, call, record));
                }
            }
        }
        let mut stored = Vec::new();
        let mut before = None;
        for version in &self.versions {
            let after: &[_] = writes.get(&before).map_or(&[], Vec::as_slice);
            let after: Vec<_> = after.iter().filter(|(.., record)| *record == version.record).collect();
            let [(writer, call, _)] = after[..] else {
                return Err(format!("{} writes may be that of {version:?}", after.len()));
            };
            let (Some(passed_on), Some(answered)) = (call.passed_on, call.answered) else {
                return Err(format!("a write without stamps: {call:?}"));
            };
            let answered = answered.min(version.seen);
            stored.push(Stored { record: &version.record, writer: *writer, passed_on, answered });
            before = Some(version.number);
        }
        Ok(stored)
    }

    /// Whether this is a request about the lock.
    fn concerns(&self, call: &Call) -> bool {
        let body = || call.json()["metadata"]["name"] == *self.name;
        call.resource == self.resource && (call.name == self.name || (call.verb == Verb::Create && body()))
    }

    /// Whether this is a write of the lock that the API server has acknowledged.
    fn acknowledged(&self, call: &Call) -> bool {
        let succeeded = matches!(call.status, Some(200 | 201)) && call.passed_on.is_some();
        succeeded && call.writes() && self.concerns(call)
    }

    /// Checks the order of holders and terms.
    fn terms(&self, stored: &[Stored<'_>], audit: &mut Audit) {
        let mut leader: Option<usize> = None;
        for (number, version) in stored.iter().enumerate() {
            let before = number.checked_sub(1).map(|before| &stored[before]);
            let process = &self.processes[version.writer];
            let mut wrong = |what: String| {
                if process.ours {
                    let after = before.map(|before| before.record);
                    audit.problems.push(format!("{} {what}: {:?} after {after:?}", process.id, version.record));
                }
            };
            if version.record.holder.is_empty() {
                if before.is_none_or(|before| before.writer != version.writer) {
                    wrong("released what is not its own".into());
                }
                continue;
            }
            if version.record.holder != process.id {
                wrong("gave the lock to somebody else".into());
            }
            let renewal = before.is_some_and(|b| b.writer == version.writer && !b.record.holder.is_empty());
            if !renewal {
                let expected = before.map_or(0, |before| before.record.transitions + 1);
                if version.record.transitions != expected {
                    wrong(format!("did not make it transition {expected}"));
                }
                // A candidate waits from the moment at which it has seen the version, which is after it was stored.
                let held = before.filter(|before| !before.record.holder.is_empty());
                if let Some(before) = held
                    && version.passed_on < before.passed_on + Duration::from_secs(before.record.duration)
                {
                    let waited = version.passed_on.saturating_sub(before.passed_on);
                    wrong(format!("took over after {waited:?}"));
                }
            }
            if leader.is_some_and(|leader| leader != version.writer) {
                audit.hand_overs += 1;
                audit.to_ours += usize::from(process.ours);
            }
            leader = Some(version.writer);
        }
    }

    /// Checks that every write of a lock is a PUT that names a version.
    fn writes(&self, process: &Process, audit: &mut Audit) {
        for call in process.calls.iter().filter(|call| call.writes() && self.concerns(call)) {
            let good = match call.verb {
                Verb::Create => true,
                Verb::Update => call.json()["metadata"]["resourceVersion"].is_string(),
                _ => false,
            };
            if !good {
                audit.problems.push(format!("{} wrote without a condition: {call:?}", process.id));
            }
        }
    }

    /// Checks the answers of one process.
    fn answers(&self, number: usize, stored: &[Stored<'_>], audit: &mut Audit) {
        let process = &self.processes[number];
        let bad = process.answers.bad.iter().map(|answer| format!("{} answered {answer}", process.id));
        audit.problems.extend(bad);
        let renewals: Vec<_> = process.calls.iter().filter(|call| self.renews(call, &process.id)).collect();
        for answer in &process.answers.good {
            let told = |what| format!("{} said {answer:?}, {what}", process.id);
            if !answer.is_leader {
                audit.denied += 1;
                if answer.leader == process.id {
                    audit.problems.push(told("and yet that its id leads".into()));
                }
                continue;
            }
            // A claim counts from the moment at which its renewal was sent, which is before the proxy received it.
            let renewed = renewals.iter().filter(|call| call.answered.is_some_and(|at| at < answer.made_before));
            let claim = renewed.map(|call| call.at + process.claim).max();
            match self.judge(number, answer, stored, claim) {
                Verdict::Good => audit.affirmed += 1,
                Verdict::Undermined(why) => audit.undermined.push(told(why)),
                Verdict::Wrong(why) => audit.problems.push(told(why)),
            }
        }
    }

    /// Judges an answer "I lead" of a process whose claim ended at that moment.
    fn judge(&self, number: usize, answer: &Answer, stored: &[Stored<'_>], claim: Option<Duration>) -> Verdict {
        let own = |version: &Stored<'_>| version.writer == number && version.record.holder == self.processes[number].id;
        // Every version that may have been stored when the answer was made.
        let possible = &stored[..stored.partition_point(|version| version.passed_on < answer.made_before)];
        let Some(last) = possible.iter().rposition(own) else { return Verdict::Wrong("and never had the lock".into()) };
        let claimed = claim.is_some_and(|claim| answer.sent < claim);
        let later = &possible[last + 1..];
        let blanked = later.first().is_some_and(|next| next.record.holder.is_empty() && next.writer != number);
        // A process's own release ends its term as well.
        let next = later.iter().find(|version| !blanked || !version.record.holder.is_empty());
        if let Some(Stored { passed_on, answered, record, .. }) = next {
            let sure = if *answered < answer.sent { "surely" } else { "perhaps" };
            let why = format!("{sure} after what was stored at {passed_on:?} to {answered:?}: {record:?}");
            return if blanked && claimed { Verdict::Undermined(why) } else { Verdict::Wrong(why) };
        }
        let begun = possible[..last].iter().rposition(|version| !own(version)).map_or(0, |before| before + 1);
        if answer.sent < possible[begun].answered && answer.made_before - answer.sent > MAX_ROUND_TRIP {
            return Verdict::Wrong("which may have been made before its term began".into());
        }
        if claimed { Verdict::Good } else { Verdict::Wrong(format!("and its claim had ended at {claim:?}")) }
    }

    /// Whether this is an acknowledged write that names its process as the holder.
    fn renews(&self, call: &Call, id: &str) -> bool {
        self.acknowledged(call) && Record::of(&call.json()).is_some_and(|record| record.holder == id)
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hand-overs, {} of them to ours; {} answers `is_leader: true` proven good, {} undermined, {} wrong or \
             doubtful; {} answers `is_leader: false`; {} requests disturbed",
            self.hand_overs,
            self.to_ours,
            self.affirmed,
            self.undermined.len(),
            self.problems.len(),
            self.denied,
            self.faults,
        )
    }
}

#[cfg(test)]
mod tests;
