//! For tests: a simulation of many candidates and one lock, with random faults from a seed.
//!
//! Time is simulated. Every process has clocks of its own, which run at different rates; it is stopped, killed and restarted, and
//! made to step down. Requests and answers are delayed, lost and delivered late; the API server fails, and the objects are edited.
//! Invariants: there are never two claims at once, and every term has a number greater than all before it.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use jiff::Timestamp;
use runtime::boot_time::BootTime;

use super::{
    LockKind, Term, Timing,
    candidate::{Answer, Candidate, Next, Now, Outcome, Request},
    held::Held,
    store::SimulatedLock,
    terms::Cause,
};

const PROCESSES: usize = 5;
/// The share of requests, and of answers, that are lost. The same shares are refused, and executed but reported as failed.
const LOSS_RATE: f64 = 0.02;
const SECOND_LOSS_RATE: f64 = 2.0 * LOSS_RATE;

/// The result of a run.
#[derive(Debug, Default)]
struct RunResult {
    terms: Vec<(usize, Term)>,
    /// Renewals that were answered, over the whole run.
    renewals: u64,
    releases: u64,
    /// The first violation of an invariant.
    violation: Option<String>,
}

struct World {
    rng: fastrand::Rng,
    timing: Timing,
    /// The largest deviation of a clock's rate from 1.
    skew: f64,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    /// The events, by the number in the queue.
    what: Vec<Option<SimulatedEvent>>,
    store: SimulatedLock,
    processes: Vec<Process>,
    course: RunResult,
}

struct Process {
    candidate: Candidate,
    identity: String,
    /// Grows when it is killed, which voids its earlier events.
    life: u64,
    rate: f64,
    boot: Duration,
    wall: i64,
    stopped_until: Duration,
    /// The request that it waits for.
    waiting: Option<u64>,
    release: Release,
    term: Option<Term>,
}

enum Release {
    No,
    Wanted { until: Duration },
    Reading { until: Duration },
    Writing { until: Duration },
}

enum SimulatedEvent {
    Wake { process: usize, life: u64 },
    Arrive { process: usize, life: u64, number: u64, request: Request },
    Answer { process: usize, life: u64, number: u64, answer: Answer },
    TimeOut { process: usize, life: u64, number: u64 },
    Trouble,
}

impl World {
    fn new(seed: u64, skew: f64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let locks = [
            LockKind::Leases,
            LockKind::ConfigMaps,
            LockKind::Endpoints,
            LockKind::ConfigMapsLeases,
            LockKind::EndpointsLeases,
        ];
        let seconds = Duration::from_secs;
        let timing = match seed / 5 % 4 {
            0 => Timing::from_ttl(seconds(2)),
            1 => Timing::from_ttl(seconds(10)),
            2 => Timing::new(seconds(15), seconds(10), seconds(2)),
            _ => Timing::new(seconds(15), seconds(14), seconds(6)),
        };
        let mut world = Self {
            timing: timing.expect("they fit"),
            skew,
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            what: Vec::new(),
            store: SimulatedLock::new(locks[usize::try_from(seed % 5).expect("small")]),
            processes: Vec::new(),
            course: RunResult::default(),
            rng: rng.fork(),
        };
        for at in 0..PROCESSES {
            // Two share an identity.
            let identity = format!("candidate-{}", at.min(PROCESSES - 2));
            let process = world.process(identity, 0);
            world.processes.push(process);
            world.schedule(Duration::ZERO, SimulatedEvent::Wake { process: at, life: 0 });
        }
        world.schedule(Duration::ZERO, SimulatedEvent::Trouble);
        world
    }

    fn process(&mut self, identity: String, life: u64) -> Process {
        let name = format!("{:016x}", self.rng.u64(..));
        Process {
            candidate: Candidate::new(&identity, self.timing, name),
            identity,
            life,
            rate: 1.0 + self.skew * (2.0 * self.rng.f64() - 1.0),
            boot: Duration::from_secs(self.rng.u64(1_000..1_000_000)),
            wall: self.rng.i64(1_500_000_000..1_900_000_000),
            stopped_until: Duration::ZERO,
            waiting: None,
            release: Release::No,
            term: None,
        }
    }

    fn run(mut self, leases: u32) -> RunResult {
        let end = self.timing.lease() * leases;
        while let Some(Reverse((at, _, what))) = self.events.pop() {
            if at > end || self.course.violation.is_some() {
                break;
            }
            self.now = at;
            let Some(event) = self.what[what].take() else { continue };
            match event {
                // A stopped process handles its events when it continues.
                SimulatedEvent::Wake { process, .. }
                | SimulatedEvent::Answer { process, .. }
                | SimulatedEvent::TimeOut { process, .. }
                    if self.processes[process].stopped_until > at =>
                {
                    self.at(self.processes[process].stopped_until, event);
                }
                SimulatedEvent::Wake { process, life } if self.lives(process, life) => self.wake(process),
                SimulatedEvent::Arrive { process, life, number, request } => {
                    self.arrive(process, life, number, &request);
                }
                SimulatedEvent::Answer { process, life, number, answer } if self.waits(process, life, number) => {
                    self.answered(process, answer);
                }
                SimulatedEvent::TimeOut { process, life, number } if self.waits(process, life, number) => {
                    self.answered(process, Answer::Failed);
                }
                SimulatedEvent::Trouble => self.inject_fault(),
                _ => {}
            }
            self.check();
        }
        self.course
    }

    fn wake(&mut self, at: usize) {
        if self.processes[at].waiting.is_some() {
            return;
        }
        let now = self.clock(at);
        let process = &mut self.processes[at];
        if let Release::Wanted { until } = process.release {
            process.release = Release::Reading { until };
            self.send(at, Request::Read);
            return;
        }
        process.candidate.stand(true);
        let request = process.candidate.begin(now);
        self.send(at, request);
    }

    fn send(&mut self, at: usize, request: Request) {
        let number = self.what.len() as u64;
        let life = self.processes[at].life;
        self.processes[at].waiting = Some(number);
        let limit = self.timing.request().div_f64(self.processes[at].rate);
        self.schedule(limit, SimulatedEvent::TimeOut { process: at, life, number });
        if self.rng.f64() >= LOSS_RATE {
            let delay = self.delay();
            self.schedule(delay, SimulatedEvent::Arrive { process: at, life, number, request });
        }
    }

    /// The request arrives, even if nobody waits for its answer.
    fn arrive(&mut self, process: usize, life: u64, number: u64, request: &Request) {
        let fails = self.rng.f64();
        let answer = match fails {
            // It fails; the write may have happened or not.
            0.0..LOSS_RATE => Answer::Refused,
            LOSS_RATE..SECOND_LOSS_RATE => {
                self.store.serve(request);
                Answer::Failed
            }
            _ => self.store.serve(request).1,
        };
        if self.rng.f64() >= LOSS_RATE {
            let delay = self.delay();
            self.schedule(delay, SimulatedEvent::Answer { process, life, number, answer });
        }
    }

    fn answered(&mut self, at: usize, answer: Answer) {
        let now = self.clock(at);
        let true_now = self.now;
        let process = &mut self.processes[at];
        process.waiting = None;
        let life = process.life;
        // As in the elector, the end of the claim is checked first.
        match (std::mem::replace(&mut process.release, Release::No), answer) {
            (Release::No, answer) => match process.candidate.answered(answer, now) {
                Next::Ask(next) => self.send(at, next),
                Next::Done(outcome) => self.done(at, outcome),
            },
            (Release::Wanted { until }, answer) => {
                // The request that was in flight when it was told to step down.
                let _ = process.candidate.answered(answer, now);
                process.release = Release::Wanted { until };
                self.schedule(Duration::ZERO, SimulatedEvent::Wake { process: at, life });
            }
            (Release::Reading { until }, Answer::Lock(held)) if true_now < until => {
                match process.candidate.release(held.as_ref(), now) {
                    Some(record) => {
                        process.release = Release::Writing { until };
                        self.send(at, Request::Write { over: held, record });
                    }
                    None => self.rest(at),
                }
            }
            (Release::Writing { .. }, Answer::Lock(Some(held))) => self.released(at, &held),
            (Release::Reading { until } | Release::Writing { until }, _) if true_now < until => {
                process.release = Release::Wanted { until };
                self.schedule(Duration::from_millis(50), SimulatedEvent::Wake { process: at, life });
            }
            _ => self.rest(at),
        }
    }

    fn done(&mut self, at: usize, outcome: Outcome) {
        if matches!(outcome, Outcome::Renewed { .. }) {
            self.course.renewals += 1;
        }
        let retry = self.timing.retry_period();
        let delay = match self.processes[at].candidate.claim() {
            Some(_) => retry,
            None => retry.mul_f64(1.0 + 1.2 * self.rng.f64()),
        };
        let (rate, life) = (self.processes[at].rate, self.processes[at].life);
        self.schedule(delay.div_f64(rate), SimulatedEvent::Wake { process: at, life });
    }

    fn released(&mut self, at: usize, held: &Held) {
        let now = self.clock(at);
        self.processes[at].candidate.released(held, now.boot);
        self.course.releases += 1;
        self.rest(at);
    }

    fn rest(&mut self, at: usize) {
        let until = self.clock(at).boot + self.timing.lease();
        self.processes[at].candidate.rest_until(until);
        self.done(at, Outcome::Following);
    }

    /// Injects a fault, about once in two leases.
    fn inject_fault(&mut self) {
        let lease = self.timing.lease();
        // Leaders are hit more often.
        let leads = |process: &Process| process.term.is_some();
        let leader = self.processes.iter().position(leads).filter(|_| self.rng.f64() < 0.6);
        let at = leader.unwrap_or_else(|| self.rng.usize(..PROCESSES));
        match self.rng.u32(..10) {
            0..4 => self.processes[at].stopped_until = self.now + lease.mul_f64(2.0 * self.rng.f64()),
            4..6 => self.kill(at),
            6..9 => self.step_down(at),
            _ => self.store.label(),
        }
        let next = lease.mul_f64(4.0 * self.rng.f64());
        self.schedule(next, SimulatedEvent::Trouble);
    }

    /// Kills it, and restarts it with the same identity.
    fn kill(&mut self, at: usize) {
        let (identity, life) = (self.processes[at].identity.clone(), self.processes[at].life + 1);
        self.processes[at] = self.process(identity, life);
        let later = self.timing.lease().mul_f64(self.rng.f64());
        self.schedule(later, SimulatedEvent::Wake { process: at, life });
    }

    fn step_down(&mut self, at: usize) {
        let until = self.now + Duration::from_secs(3);
        let process = &mut self.processes[at];
        if process.stopped_until > self.now || process.candidate.claim().is_none() {
            return;
        }
        process.candidate.resign(Cause::SteppedDown);
        process.release = Release::Wanted { until };
        let life = process.life;
        self.schedule(Duration::ZERO, SimulatedEvent::Wake { process: at, life });
    }

    fn check(&mut self) {
        let mut leading = None;
        for at in 0..PROCESSES {
            let now = self.clock(at).boot;
            let process = &mut self.processes[at];
            // Evaluated by its own clock, even if it has not noticed the end of its claim.
            let claim = process.candidate.claim().filter(|claim| now < claim.ends);
            let Some(claim) = claim else {
                process.term = None;
                continue;
            };
            if let Some(other) = leading.replace(at) {
                self.course.violation = Some(format!("{other} and {at} both lead at {:?}", self.now));
                return;
            }
            if process.term.as_ref() != Some(&claim.term) {
                process.term = Some(claim.term.clone());
                let before = self.course.terms.iter().rev().find(|(_, term)| term.uid == claim.term.uid);
                if let Some((_, before)) = before
                    && before.transitions >= claim.term.transitions
                {
                    self.course.violation = Some(format!("{:?} comes after {before:?}", claim.term));
                }
                self.course.terms.push((at, claim.term.clone()));
            }
        }
    }

    fn clock(&self, at: usize) -> Now {
        let process = &self.processes[at];
        let passed = self.now.mul_f64(process.rate);
        let wall = Timestamp::from_second(process.wall).expect("a valid time") + passed;
        Now { boot: BootTime::since_boot(process.boot + passed), wall }
    }

    fn lives(&self, at: usize, life: u64) -> bool {
        self.processes[at].life == life
    }

    fn waits(&self, at: usize, life: u64, number: u64) -> bool {
        self.lives(at, life) && self.processes[at].waiting == Some(number)
    }

    /// Usually short, sometimes longer than the time limit of a request, seldom longer than a lease.
    fn delay(&mut self) -> Duration {
        let lease = self.timing.lease();
        let short = lease.mul_f64(0.01 * self.rng.f64());
        match self.rng.u32(..100) {
            0..90 => short,
            90..99 => lease.mul_f64(0.5 * self.rng.f64()),
            _ => lease.mul_f64(3.0 * self.rng.f64()),
        }
    }

    fn schedule(&mut self, after: Duration, event: SimulatedEvent) {
        self.at(self.now + after, event);
    }

    fn at(&mut self, moment: Duration, event: SimulatedEvent) {
        let number = self.what.len();
        self.what.push(Some(event));
        self.events.push(Reverse((moment, number as u64, number)));
    }
}

#[test]
fn never_two_claims_at_once_and_every_term_has_a_greater_number() {
    let mut all = RunResult::default();
    let (mut hand_overs, mut again) = (0, 0);
    for seed in 0..100 {
        // Rule: clocks may differ by a tenth.
        let course = World::new(seed, 0.045).run(60);
        assert_eq!(course.violation, None, "seed {seed}");
        hand_overs += course.terms.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
        again += course.terms.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
        all.renewals += course.renewals;
        all.releases += course.releases;
    }
    // All cases have occurred, and often.
    println!(
        "{hand_overs} hand-overs, {again} terms of the same process again, {} renewals, {} releases",
        all.renewals, all.releases
    );
    assert!(hand_overs > 300 && again > 50, "{hand_overs} hand-overs, {again} terms of the same process again");
    assert!(all.renewals > 2_000 && all.releases > 100, "{} renewals, {} releases", all.renewals, all.releases);
}

#[test]
fn clocks_that_differ_by_more_than_the_rules_allow_are_noticed_by_the_check() {
    let violation = (0..100).find_map(|seed| World::new(seed, 0.5).run(60).violation);
    assert!(violation.is_some_and(|violation| violation.contains("both lead")), "the check has seen nothing");
}
