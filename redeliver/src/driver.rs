//! The driver of the queues and the journal: the interface for the data plane, and the task that sends owed deliveries.

mod arrival;
mod run;

use crate::{
    Ids, JobId, Millis, Stored,
    core::{Core, Receipt, Reconciliation, Retry, RouteId, Verdict, Write},
    journal::{Damage, Health, Journal, Opened, Owner},
    metrics::Numbers,
    millis,
    rules::{Limits, Rules},
    view::{JobView, JobsView, JournalView, Query},
    wall_clock,
};

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot, watch};

pub use arrival::Arrival;
pub use run::Sender;

/// How many jobs are looked at before requests get their turn.
const LOOKED_AT: usize = 100;
/// How many jobs of the journal are recovered, or receipts handled, before requests get their turn.
const PER_TURN: usize = 250;

/// The redelivery of all routes that share one journal, or memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Redelivery {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Mutex<Core>,
    /// The directory of the journal, if there is one.
    directory: Option<PathBuf>,
    journal: Mutex<Option<Journal>>,
    /// Requests that wait for the journal.
    waiting: Mutex<HashMap<JobId, oneshot::Sender<bool>>>,
    ids: Ids,
    clock: Clock,
    /// Whether nothing is owed, so that requests need no check.
    clear: AtomicBool,
    /// Whether the journal was read, or cannot be for now.
    is_read: AtomicBool,
    /// Notified when something may have to be sent.
    wake: Notify,
    health: watch::Sender<Option<Health>>,
    damage: OnceLock<Damage>,
    numbers: Numbers,
}

/// A monotonic clock: the wall-clock time of the start plus the elapsed time.
#[derive(Debug)]
struct Clock {
    start: Millis,
    since: Instant,
}

/// The journal tells the rest, as long as there is one.
struct JournalOwner(Weak<Inner>);

impl Redelivery {
    /// Starts redelivery with a journal in a directory, or in memory only. `seed` should be random.
    pub fn start(limits: Limits, journal: Option<&Path>, seed: u64) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            core: Mutex::new(Core::new(limits, journal.is_some(), seed)),
            directory: journal.map(Path::to_owned),
            journal: Mutex::new(None),
            waiting: Mutex::new(HashMap::new()),
            ids: Ids::new(seed),
            clock: Clock::new(),
            clear: AtomicBool::new(true),
            is_read: AtomicBool::new(journal.is_none()),
            wake: Notify::new(),
            health: watch::Sender::new(None),
            damage: OnceLock::new(),
            numbers: Numbers::default(),
        });
        if let Some(directory) = journal {
            // Messages of its thread wait until it exists.
            let mut journal = inner.journal.lock();
            *journal = Some(Journal::start(directory, Arc::new(JournalOwner(Arc::downgrade(&inner))))?);
        }
        Ok(Self { inner })
    }

    /// Whether the journal was read, or cannot be read for now. Before that a live request could overtake owed deliveries.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.inner.is_read.load(Ordering::Acquire)
    }

    /// The directory of the journal, if there is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.inner.directory.as_deref()
    }

    /// Waits until [it was read](Redelivery::is_read).
    pub async fn until_read(&self) {
        if self.inner.directory.is_some() {
            let mut health = self.inner.health.subscribe();
            let _ = health.wait_for(Option::is_some).await;
        }
    }

    /// Registers a route, or replaces its rules. Returns its number.
    #[must_use]
    pub fn route(&self, name: &str, rules: Rules) -> RouteId {
        self.inner.numbers.route(name);
        self.inner.core.lock().route(name, rules)
    }

    /// Only these routes exist from now on. The deliveries of others wait until they are too old, or the route is back.
    pub fn use_routes(&self, in_use: &HashSet<RouteId>) {
        self.inner.with(|core, _| core.use_routes(in_use));
    }

    /// Replaces the bounds. Jobs that exist already stay.
    pub fn set_limits(&self, limits: Limits) {
        self.inner.core.lock().set_limits(limits);
    }

    /// Registers the arrival of a request at this time. While nothing is owed it costs one shared counter.
    #[must_use]
    pub fn arrival(&self, route: RouteId, now: Instant) -> Arrival<'_> {
        Arrival::new(&self.inner, route, now)
    }

    /// Handles the end of a live leg, after this number of attempts, whose request became a job while it was running.
    pub fn ended(&self, job: JobId, key: &str, attempts: u32, end: Verdict) {
        self.inner.with(|core, now| core.ended(now, job, key, attempts, end));
    }

    /// The requested jobs, and the state of the journal.
    #[must_use]
    pub fn jobs(&self, query: &Query) -> JobsView {
        let (mut query, most) = (query.clone(), query.most());
        let mut jobs = Vec::new();
        // The lock is given up now and then: requests want it.
        while jobs.len() < most {
            query.limit = Some(most - jobs.len());
            let core = self.inner.core.lock();
            let (found, next) = core.show_some(&query, LOOKED_AT);
            MutexGuard::unlock_fair(core);
            jobs.extend(found);
            query.after = next;
            if next.is_none() {
                break;
            }
        }
        JobsView { jobs, journal: self.journal() }
    }

    /// One job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<JobView> {
        self.inner.core.lock().show_one(id)
    }

    /// Retries the endpoints of a job at once.
    #[must_use]
    pub fn retry(&self, id: JobId) -> Retry {
        self.inner.with(|core, now| core.retry(now, id))
    }

    /// Deletes a job and its owed deliveries. Returns whether it existed.
    #[must_use]
    pub fn delete(&self, id: JobId) -> bool {
        self.inner.with(|core, now| core.delete(now, id))
    }

    /// The number of owed jobs.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.inner.core.lock().owed().0
    }

    /// The state of the journal.
    #[must_use]
    pub fn journal(&self) -> JournalView {
        let health = self.inner.health.borrow().clone();
        JournalView::new(self.inner.directory.as_deref(), health.as_ref(), self.inner.damage.get())
    }

    pub(crate) fn numbers(&self) -> &Numbers {
        &self.inner.numbers
    }

    pub(crate) fn owed_by_endpoint(&self) -> Vec<(Arc<str>, usize)> {
        self.inner.core.lock().owed_by_endpoint().collect()
    }

    pub(crate) fn is_writable(&self) -> Option<bool> {
        self.inner.directory.as_ref()?;
        Some(*self.inner.health.borrow() == Some(Health::Open))
    }
}

impl Inner {
    /// Changes the queues, and handles their output.
    fn with<T>(&self, change: impl FnOnce(&mut Core, Millis) -> T) -> T {
        let mut core = self.core.lock();
        // Read under the lock, so that the queues see no time that is earlier than the one before.
        let now = self.clock.now();
        let value = change(&mut core, now);
        self.give_on(&mut core, now);
        self.wake.notify_one();
        value
    }

    /// As [`Inner::with`], for one of many turns: requests that wait for the lock get it next, and the task that sends is not woken.
    fn in_turn<T>(&self, change: impl FnOnce(&mut Core, Millis) -> T) -> T {
        let mut core = self.core.lock();
        let now = self.clock.now();
        let value = change(&mut core, now);
        self.give_on(&mut core, now);
        MutexGuard::unlock_fair(core);
        value
    }

    /// Passes on the output of the queues, under the lock, so that writes reach the journal in order.
    fn give_on(&self, core: &mut Core, now: Millis) {
        let writes = core.take_writes();
        if !writes.is_empty() {
            self.write(core, now, writes);
        }
        for event in core.take_events() {
            self.numbers.ended(&event);
        }
        self.clear.store(core.is_clear(), Ordering::Release);
    }

    /// Recovers the jobs of the journal, in turns.
    fn recover(&self, jobs: Vec<Stored>) {
        let mut owed = HashMap::new();
        for job in &jobs {
            for (_, whom, _) in &job.owed {
                owed.entry((job.route.clone(), whom.key.clone())).or_insert_with(|| whom.clone());
            }
        }
        self.in_turn(|core, _| owed.iter().for_each(|((route, _), whom)| core.hold(route, whom.clone())));
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            self.in_turn(|core, now| jobs.by_ref().take(PER_TURN).for_each(|job| core.recover(now, job)));
        }
        self.with(|core, _| owed.keys().for_each(|(route, key)| core.let_go(route, key)));
    }

    fn write(&self, core: &mut Core, now: Millis, writes: Vec<Write>) {
        if let Some(journal) = &*self.journal.lock() {
            return journal.write(writes);
        }
        // The journal was closed, because the process ends.
        for write in writes {
            core.written(now, write.receipt, false);
            self.answer(write.receipt, false);
        }
    }

    fn answer(&self, receipt: Receipt, ok: bool) {
        if let Receipt::Job(id) = receipt
            && let Some(waiting) = self.waiting.lock().remove(&id)
        {
            // The waiting request may have been dropped.
            let _ = waiting.send(ok);
        }
    }
}

impl Owner for JournalOwner {
    fn opened(&self, opened: Opened) {
        let Some(inner) = self.0.upgrade() else { return };
        if let Some(damage) = opened.damage {
            inner.numbers.damaged();
            let _ = inner.damage.set(damage);
        }
        if let Some(newest) = opened.jobs.iter().map(|job| job.id).max() {
            inner.ids.after(newest);
        }
        let mut with = Reconciliation::new(&opened.known);
        while !inner.in_turn(|core, _| core.reconcile(&mut with)) {}
        inner.recover(opened.jobs);
    }

    fn written(&self, receipts: &[Receipt], ok: bool) {
        let Some(inner) = self.0.upgrade() else { return };
        for receipts in receipts.chunks(PER_TURN) {
            inner.in_turn(|core, now| receipts.iter().for_each(|receipt| core.written(now, *receipt, ok)));
            receipts.iter().for_each(|receipt| inner.answer(*receipt, ok));
        }
        inner.wake.notify_one();
    }

    fn health(&self, health: &Health) {
        let Some(inner) = self.0.upgrade() else { return };
        // While another process holds the journal, jobs are in memory. While the disk fails, no job is accepted.
        inner.with(|core, _| core.set_journalled(*health != Health::Waiting));
        inner.is_read.store(true, Ordering::Release);
        inner.health.send_replace(Some(health.clone()));
    }

    fn committed(&self, took: Duration, bytes: u64) {
        let Some(inner) = self.0.upgrade() else { return };
        inner.numbers.committed(took, bytes);
    }
}

impl Clock {
    fn new() -> Self {
        Self { start: wall_clock(), since: Instant::now() }
    }

    fn now(&self) -> Millis {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Millis {
        self.start.saturating_add(millis(now.saturating_duration_since(self.since)))
    }
}
