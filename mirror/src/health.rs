//! The liveness of the mirror.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::Value;

/// The time without activity after which the mirror counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The health of the mirror. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Mutex<HealthState>>,
}

#[derive(Debug)]
struct HealthState {
    alive: Instant,
    report: Value,
    /// An error from which the mirror does not recover.
    broken: Option<String>,
}

impl Health {
    pub(crate) fn new() -> Self {
        let state = HealthState { alive: Instant::now(), report: Value::Null, broken: None };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// Notes that the mirror is alive, and its report.
    pub(crate) fn beat(&self, state: Value) {
        let mut shared = self.shared.lock();
        (shared.alive, shared.report) = (Instant::now(), state);
    }

    /// Notes an error from which the mirror does not recover.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!("{why}; the process has to be restarted");
        self.shared.lock().broken = Some(why);
    }

    /// Whether it works. An unavailable remote or local API server is no reason to restart it: it recovers by itself, and knows more than
    /// a new process would.
    ///
    /// # Errors
    /// The reason, if it is stuck or broken.
    pub fn check(&self) -> Result<(), String> {
        let shared = self.shared.lock();
        if let Some(why) = &shared.broken {
            return Err(why.clone());
        }
        let silent = shared.alive.elapsed();
        if silent < STUCK_AFTER { Ok(()) } else { Err(format!("nothing has happened for {} s", silent.as_secs())) }
    }

    /// The last report: who leads, how much there is to do, and each remote with its staleness and its problems.
    pub fn report(&self) -> Value {
        self.shared.lock().report.clone()
    }
}
