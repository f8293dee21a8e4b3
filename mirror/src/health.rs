//! Whether the mirror works, for those who would restart it otherwise.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::Value;

/// So long nothing may happen before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// How the mirror is. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    alive: Instant,
    report: Value,
    /// What will not come right by itself.
    broken: Option<String>,
}

impl Health {
    pub(crate) fn new() -> Self {
        let state = State { alive: Instant::now(), report: Value::Null, broken: None };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// It is alive, and this is how things are.
    pub(crate) fn beat(&self, state: Value) {
        let mut shared = self.shared.lock();
        (shared.alive, shared.report) = (Instant::now(), state);
    }

    /// It will not come right by itself.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!("{why}; the process has to be restarted");
        self.shared.lock().broken = Some(why);
    }

    /// Whether it works. That a remote or the local API server is away is no reason to restart it: it goes on by itself, and
    /// knows more than a new process would.
    ///
    /// # Errors
    /// It is stuck.
    pub fn check(&self) -> Result<(), String> {
        let shared = self.shared.lock();
        if let Some(why) = &shared.broken {
            return Err(why.clone());
        }
        let silent = shared.alive.elapsed();
        if silent < STUCK { Ok(()) } else { Err(format!("nothing has happened for {} s", silent.as_secs())) }
    }

    /// How things are: who leads, how much there is to do, and each remote with its staleness and its problems.
    pub fn report(&self) -> Value {
        self.shared.lock().report.clone()
    }
}
