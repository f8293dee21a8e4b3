//! The state of a watch, for the users of its data.

use std::{convert::Infallible, sync::Arc, time::Duration};

use ::metrics::gauge;
use futures::future::select_all;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{Reason, Scope, WatchKey};
use crate::metrics as names;

/// The interval at which the age is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The state of one watch. Clones share it.
#[derive(Clone, Debug)]
pub struct Status {
    state: Arc<watch::Sender<State>>,
    seen: Arc<Mutex<Instant>>,
}

/// The state of a watch at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether there has been a complete list.
    pub listed: bool,
    /// Whether the API server has accepted a watch after that.
    pub connected: bool,
    /// The current problem, if there is one.
    pub problem: Option<String>,
    /// The kind of that problem.
    pub reason: Option<Reason>,
    /// Grows with every change.
    pub changes: u64,
}

impl Default for Status {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::default()), seen: Arc::new(Mutex::new(Instant::now())) }
    }
}

impl Status {
    /// How old the data is: the time since the last event, bookmark or (re)connect.
    pub fn age(&self) -> Duration {
        self.seen.lock().elapsed()
    }

    /// The current state.
    pub(crate) fn now(&self) -> State {
        self.state.borrow().clone()
    }

    /// A receiver of the state and its changes.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Notes that something was received.
    pub(super) fn seen(&self) {
        *self.seen.lock() = Instant::now();
    }

    /// Notes that the data has changed.
    pub(crate) fn changed(&self) {
        self.state.send_modify(|state| state.changes += 1);
    }

    pub(super) fn listed(&self) {
        self.state.send_modify(|state| {
            state.listed = true;
            state.changes += 1;
        });
    }

    pub(super) fn connected(&self) {
        self.state.send_if_modified(|state| {
            let news = !state.connected || state.problem.is_some();
            state.connected = true;
            state.problem = None;
            state.reason = None;
            news
        });
    }

    pub(super) fn failed(&self, reason: Reason, problem: String) {
        self.state.send_modify(|state| {
            state.problem = Some(problem);
            state.reason = Some(reason);
        });
    }

    /// Reports the age for ever, even while nothing is received.
    pub(super) async fn report_age(self, key: WatchKey) -> Infallible {
        let scope = match key.scope() {
            Scope::All => "*".to_owned(),
            Scope::Namespace(namespace) => namespace.to_string(),
        };
        let selector = key.selector().unwrap_or_default();
        let cluster = key.cluster().clone();
        let age = gauge!(
            names::WATCH_AGE,
            "kube_cluster" => cluster, "kind" => key.kind(), "scope" => scope, "selector" => selector
        );
        let mut ticks = interval(REPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            age.set(self.age().as_secs_f64());
        }
    }
}

/// Waits until the state of one of the watches has changed since it was last read.
pub async fn any_change(watches: &mut [watch::Receiver<State>]) {
    if watches.is_empty() {
        return std::future::pending().await;
    }
    let (ended, ..) = select_all(watches.iter_mut().map(|state| Box::pin(state.changed()))).await;
    if ended.is_err() {
        // A watch that has ended never changes again; its receivers are about to be dropped as well.
        std::future::pending::<()>().await;
    }
}
