//! The fixture of both test programs: jobs to write, and an owner that records events.

use redeliver::{
    JobId, Request, Stored, Whom,
    core::{Change, Receipt, Write},
    journal::{Damage, Health, Opened, Owner},
};

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// An owner that records the events of a journal.
#[derive(Default)]
pub(crate) struct Told {
    state: Mutex<State>,
    changed: Condvar,
}

/// The recorded events.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) jobs: Option<Vec<Stored>>,
    pub(crate) damage: Option<Damage>,
    pub(crate) opened: usize,
    pub(crate) written: Vec<(JobId, bool)>,
    /// Receipts of anything, in order.
    pub(crate) receipts: usize,
    pub(crate) commits: usize,
    pub(crate) health: Vec<Health>,
}

impl Owner for Told {
    fn opened(&self, opened: Opened) {
        let mut state = self.state.lock();
        state.opened += 1;
        state.damage = opened.damage.or(state.damage.take());
        state.jobs.get_or_insert(opened.jobs);
        self.changed.notify_all();
    }

    fn written(&self, receipts: &[Receipt], ok: bool) {
        let mut state = self.state.lock();
        state.receipts += receipts.len();
        for receipt in receipts {
            if let Receipt::Job(id) = receipt {
                state.written.push((*id, ok));
            }
        }
        self.changed.notify_all();
    }

    fn health(&self, health: &Health) {
        self.state.lock().health.push(health.clone());
        self.changed.notify_all();
    }

    fn committed(&self, _took: Duration, _bytes: u64) {
        self.state.lock().commits += 1;
    }
}

impl Told {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Waits for a recorded event.
    pub(crate) fn wait<T>(&self, what: &str, mut until: impl FnMut(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + testkit::eventually::scaled(Duration::from_secs(60));
        let mut state = self.state.lock();
        loop {
            if let Some(found) = until(&state) {
                return found;
            }
            let late = self.changed.wait_until(&mut state, deadline).timed_out();
            assert!(!late, "{what}: not in time; health: {:?}", state.health);
        }
    }

    /// The contents of the journal when it was opened.
    pub(crate) fn jobs(&self) -> Vec<Stored> {
        self.wait("the journal is open", |state| state.jobs.clone())
    }

    /// Whether a job was accepted.
    pub(crate) fn taken(&self, id: u64) -> bool {
        self.wait("the job is written", |state| {
            state.written.iter().find(|(written, _)| written.get() == id).map(|(_, ok)| *ok)
        })
    }
}

/// A job with two owed deliveries.
pub(crate) fn job(id: u64, body: usize) -> Stored {
    let request = Request {
        method: "PUT".into(),
        host: "cache.test".into(),
        target: format!("/item/{id}").into(),
        head: format!("X-Request-Id: {id}\r\n").into(),
        trailers: Default::default(),
        body: (0..body).map(|at| (at as u8) ^ (id as u8)).collect::<Vec<u8>>().into(),
    };
    let whom = |name: &str| Whom { key: name.into(), endpoint: format!("{name}:80").into(), pod: None };
    Stored {
        id: JobId::new(id),
        route: "purges".into(),
        arrived: 1_000 + id,
        expires: 9_000 + id,
        request: Arc::new(request),
        owed: vec![(0, whom("a"), 1), (1, whom("b"), 0)],
    }
}

/// The write of a new job.
pub(crate) fn put(id: u64, body: usize) -> Write {
    let id_of = JobId::new(id);
    Write { job: id_of, change: Change::Put(Box::new(job(id, body))), receipt: Receipt::Job(id_of) }
}

/// The write of a settled delivery.
pub(crate) fn settled(id: u64, index: u32, last: bool) -> Write {
    // A receipt makes the journal write it at once.
    let id = JobId::new(id);
    Write { job: id, change: Change::Settled { index, last }, receipt: Receipt::Job(id) }
}
