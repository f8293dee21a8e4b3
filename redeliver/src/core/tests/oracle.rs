//! Compares one endpoint and route with a naive model, for all histories of a length.

use super::{delivered, limits, members, missed, owed, purge, request, rules, sent, whom};
use crate::{
    JobId, Millis, Request,
    core::{
        AttemptId, Core, Leg, RouteId,
        tests::{START, last},
    },
    rules::{Order, Rules},
};

/// The length of histories. Each further step takes nine times as long.
const STEPS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A request arrives; its leg fails, unless it is held back.
    PurgeX,
    /// A purge of `/x` with another field in its head.
    OtherPurgeX,
    PutX,
    PurgeY,
    /// A purge of `/x` that arrived before everything else misses only now.
    LatePurgeX,
    /// Likewise, with a body.
    LatePutX,
    /// The copy that is on its way arrives.
    Arrives,
    /// It does not.
    Fails,
    /// A pause ends.
    Time,
}

const ALL: [Step; 9] = [
    Step::PurgeX,
    Step::OtherPurgeX,
    Step::PutX,
    Step::PurgeY,
    Step::LatePurgeX,
    Step::LatePutX,
    Step::Arrives,
    Step::Fails,
    Step::Time,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PurgeX,
    OtherPurgeX,
    PutX,
    PurgeY,
}

/// The model: the owed deliveries in order of arrival, with naive rules.
#[derive(Debug, Default)]
struct Model {
    owed: Vec<Owed>,
    sending: Option<u64>,
    failing: bool,
    not_before: Millis,
    now: Millis,
}

#[derive(Clone, Debug)]
struct Owed {
    id: u64,
    kind: Kind,
    merged: bool,
    /// Merged into what is being sent.
    carried: bool,
}

impl Kind {
    fn request(self) -> Request {
        match self {
            Self::PurgeX => purge("/x"),
            Self::OtherPurgeX => Request { head: "X-Key: other\r\n".into(), ..purge("/x") },
            Self::PutX => request("PUT", "/x", "new"),
            Self::PurgeY => purge("/y"),
        }
    }

    fn is_x(self) -> bool {
        self != Self::PurgeY
    }
}

impl Model {
    fn miss(&mut self, id: u64, kind: Kind, waits: bool) {
        self.owed.push(Owed { id, kind, merged: false, carried: false });
        self.owed.sort_by_key(|owed| owed.id);
        if !waits {
            self.failed();
        }
        self.merge();
    }

    /// A failure, unless the delay after another one is still running.
    fn failed(&mut self) {
        if !self.failing || self.now >= self.not_before {
            (self.failing, self.not_before) = (true, self.now + 1_000);
        }
    }

    fn merge(&mut self) {
        for index in (0..self.owed.len()).rev() {
            let this = &self.owed[index];
            let next = self.owed[index + 1..].iter().find(|next| next.kind.is_x() == this.kind.is_x());
            let same = next.filter(|next| next.kind == this.kind && this.kind != Kind::PutX);
            let merged = match same {
                _ if this.carried => true,
                Some(next) => self.sending != Some(this.id) && self.sending != Some(next.id),
                None => false,
            };
            self.owed[index].merged = merged;
        }
    }

    /// The delivery that is sent now.
    fn send(&mut self) -> Vec<u64> {
        if self.sending.is_some() || (self.failing && self.now < self.not_before) {
            return Vec::new();
        }
        self.sending = self.owed.iter().find(|owed| !owed.merged).map(|owed| owed.id);
        if let Some(upto) = self.sending.and_then(|id| self.owed.iter().position(|owed| owed.id == id)) {
            let is_x = self.owed[upto].kind.is_x();
            let same = self.owed[..upto].iter_mut().rev().filter(|owed| owed.kind.is_x() == is_x);
            same.take_while(|owed| owed.merged).for_each(|owed| owed.carried = true);
        }
        self.sending.into_iter().collect()
    }

    fn ends(&mut self, arrived: bool) {
        let Some(id) = self.sending else { return };
        if arrived {
            self.failing = false;
            let (kind, first) = (self.kind(id), self.owed.iter().find(|owed| owed.carried).map(|owed| owed.id));
            let stood_for =
                |owed: &Owed| owed.merged && owed.kind == kind && first.is_some_and(|it| (it..id).contains(&owed.id));
            self.owed.retain(|owed| owed.id != id && !stood_for(owed));
        } else {
            self.failed();
        }
        self.sending = None;
        self.owed.iter_mut().for_each(|owed| owed.carried = false);
        self.merge();
    }

    fn kind(&self, id: u64) -> Kind {
        self.owed.iter().find(|owed| owed.id == id).expect("what is sent is owed").kind
    }
}

struct Run {
    core: Core,
    route: RouteId,
    model: Model,
    attempt: Option<AttemptId>,
    next: u64,
    late: u64,
}

impl Run {
    fn new() -> Self {
        let mut core = Core::new(limits(), false, 1);
        let route = core.route("all", Rules { order: Order::Endpoint, ..rules() });
        core.members(START, members(&[("a", true)]));
        let model = Model { now: START, ..Model::default() };
        Self { core, route, model, attempt: None, next: 1_000, late: 1 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::PurgeX => self.arrival(Kind::PurgeX),
            Step::OtherPurgeX => self.arrival(Kind::OtherPurgeX),
            Step::PutX => self.arrival(Kind::PutX),
            Step::PurgeY => self.arrival(Kind::PurgeY),
            Step::LatePurgeX => self.late(Kind::PurgeX),
            Step::LatePutX => self.late(Kind::PutX),
            Step::Arrives | Step::Fails => {
                if let Some(attempt) = self.attempt.take() {
                    let arrived = step == Step::Arrives;
                    self.core.tried(self.model.now, attempt, if arrived { delivered() } else { missed() });
                    self.model.ends(arrived);
                }
            }
            Step::Time => self.model.now += 1_000,
        }
    }

    fn arrival(&mut self, kind: Kind) {
        self.next += 1;
        let waits = self.core.arrive(JobId::new(self.next), self.route, "a");
        assert_eq!(waits, !self.model.owed.is_empty(), "rule 2: a live request waits exactly while something is owed");
        self.defer(self.next, kind, waits);
    }

    fn late(&mut self, kind: Kind) {
        self.late += 1;
        self.defer(self.late, kind, false);
    }

    fn defer(&mut self, id: u64, kind: Kind, waits: bool) {
        let now = self.model.now;
        let leg = if waits { Leg::Behind } else { Leg::Missed { last: last("reset", now), attempts: 1 } };
        let legs = vec![(whom("a"), leg)];
        self.core.defer(now, JobId::new(id), (self.route, now), kind.request(), legs).unwrap();
        self.model.miss(id, kind, waits);
    }

    fn compare(&mut self, history: &[Step]) {
        let copies = sent(&mut self.core, self.model.now);
        let expected = self.model.send();
        assert_eq!(super::ids(&copies), expected, "what is sent after {history:?}: {:#?}", self.model);
        self.attempt = copies.first().map(|copy| copy.attempt).or(self.attempt);
        let model: Vec<_> = self.model.owed.iter().map(|owed| owed.id).collect();
        assert_eq!(owed(&self.core, "a"), model, "what is owed after {history:?}");
    }
}

#[test]
fn every_short_history_sends_and_owes_what_the_oracle_says() {
    let mut histories = 0_u32;
    let mut history = Vec::with_capacity(STEPS);
    for number in 0..ALL.len().pow(u32::try_from(STEPS).unwrap()) {
        history.clear();
        history.extend((0..STEPS).scan(number, |rest, _| {
            let step = ALL[*rest % ALL.len()];
            *rest /= ALL.len();
            Some(step)
        }));
        let mut run = Run::new();
        for done in 0..STEPS {
            run.step(history[done]);
            run.compare(&history[..=done]);
        }
        run.core.check();
        histories += 1;
    }
    assert_eq!(histories, 531_441);
}
