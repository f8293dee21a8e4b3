//! Whether this process is ready for traffic: a registry of named gates, each ready or pending with a reason, and of parts whose
//! state is queried one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The registry. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    shared: Arc<Registry>,
}

/// One part of the process that has to be ready before the whole is. Dropping it takes it out of the count.
#[derive(Debug)]
pub struct Gate {
    shared: Arc<Registry>,
    id: u64,
}

#[derive(Debug, Default)]
struct Registry {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    draining: bool,
    gates: BTreeMap<u64, GateState>,
    /// Parts by name; none where the process has no parts.
    parts: Option<BTreeMap<String, Result<(), String>>>,
}

/// The state of a part of the process, as [`Readiness::check_part`] tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartStatus {
    /// It may be sent traffic.
    Ready,
    /// It may not, for this reason.
    Pending(String),
    /// There is no part of this name; these are the names that there are.
    Unknown(Vec<String>),
}

#[derive(Debug)]
struct GateState {
    name: String,
    /// Why it is not ready; `None` is ready.
    pending: Option<String>,
}

// === impl Readiness ===

impl Readiness {
    /// An empty registry, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a gate. It is not ready until [`Gate::set_ready`]. Several gates may carry the same name.
    #[must_use = "dropping the gate removes it"]
    pub fn register(&self, name: impl Into<String>) -> Gate {
        let mut state = self.shared.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        let gate = GateState { name: name.into(), pending: Some("starting".to_owned()) };
        state.gates.insert(id, gate);
        drop(state);
        self.shared.changed.notify_waiters();
        Gate { shared: Arc::clone(&self.shared), id }
    }

    /// From now on [`check`](Self::check) fails with `draining`, whatever the gates say. There is no way back.
    pub fn set_draining(&self) {
        self.shared.state.lock().draining = true;
        self.shared.changed.notify_waiters();
    }

    /// Whether every gate is ready and the process is not draining.
    ///
    /// # Errors
    /// Which gates are pending and why, in order of registration: `endpoints: no list yet; listener: starting`.
    pub fn check(&self) -> Result<(), String> {
        let state = self.shared.state.lock();
        if state.draining {
            return Err("draining".to_owned());
        }
        let pending: Vec<String> = state
            .gates
            .values()
            .filter_map(|gate| gate.pending.as_ref().map(|why| format!("{}: {why}", gate.name)))
            .collect();
        if pending.is_empty() { Ok(()) } else { Err(pending.join("; ")) }
    }

    /// The names of the gates that are pending, and why.
    #[must_use]
    pub fn pending(&self) -> BTreeMap<String, String> {
        let state = self.shared.state.lock();
        let mut pending = BTreeMap::new();
        for gate in state.gates.values() {
            if let Some(why) = &gate.pending {
                pending.entry(gate.name.clone()).or_insert_with(|| why.clone());
            }
        }
        pending
    }

    /// Sets the answers of [`check_part`](Self::check_part). Parts do not affect [`check`](Self::check), which gates decide.
    pub fn set_parts(&self, parts: BTreeMap<String, Result<(), String>>) {
        self.shared.state.lock().parts = Some(parts);
    }

    /// Changes one of these answers.
    pub fn set_part(&self, name: String, state: Result<(), String>) {
        self.shared.state.lock().parts.get_or_insert_default().insert(name, state);
    }

    /// The state of one part. None is ready while the process drains.
    #[must_use]
    pub fn check_part(&self, name: &str) -> PartStatus {
        let state = self.shared.state.lock();
        match state.parts.as_ref().and_then(|parts| parts.get(name)) {
            None => PartStatus::Unknown(state.parts.iter().flat_map(BTreeMap::keys).cloned().collect()),
            Some(_) if state.draining => PartStatus::Pending("draining".to_owned()),
            Some(Ok(())) => PartStatus::Ready,
            Some(Err(why)) => PartStatus::Pending(why.clone()),
        }
    }

    /// Resolves when a gate has changed since this was called, also if that was before it is polled.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.shared.changed.notified()
    }

    /// Whether [`check`](Self::check) succeeds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.check().is_ok()
    }

    /// Waits until [`check`](Self::check) succeeds. Never returns once draining has begun.
    pub async fn ready(&self) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Listen before looking, so that a change in between is not lost.
            changed.as_mut().enable();
            if self.is_ready() {
                return;
            }
            changed.await;
        }
    }
}

// === impl Gate ===

impl Gate {
    /// This part is ready.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// This part is not ready. The reason is shown to operators, so it should say what to look at.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, pending: Option<String>) {
        let mut state = self.shared.state.lock();
        let Some(gate) = state.gates.get_mut(&self.id) else { return };
        if gate.pending == pending {
            return;
        }
        gate.pending = pending;
        drop(state);
        self.shared.changed.notify_waiters();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.state.lock().gates.remove(&self.id);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_pending_gates_and_their_reasons() {
        let readiness = Readiness::new();
        assert_eq!(readiness.check(), Ok(()));
        let list = readiness.register("endpoints");
        let listener = readiness.register("listener");
        assert_eq!(readiness.check(), Err("endpoints: starting; listener: starting".into()));
        list.set_not_ready("no list yet");
        listener.set_ready();
        assert_eq!(readiness.check(), Err("endpoints: no list yet".into()));
        list.set_ready();
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_dropped_gate_no_longer_counts_and_names_may_repeat() {
        let readiness = Readiness::new();
        let first = readiness.register("watch");
        let second = readiness.register("watch");
        drop(first);
        assert_eq!(readiness.check(), Err("watch: starting".into()));
        second.set_ready();
        assert!(readiness.is_ready());
    }

    #[test]
    fn draining_outranks_every_gate() {
        let readiness = Readiness::new();
        let gate = readiness.register("listener");
        gate.set_ready();
        readiness.set_draining();
        assert_eq!(readiness.check(), Err("draining".into()));
    }

    #[test]
    fn parts_are_asked_about_one_by_one_and_do_not_count_for_the_whole() {
        let readiness = Readiness::new();
        assert_eq!(readiness.check_part("purge"), PartStatus::Unknown(vec![]));
        let parts = [("purge".to_owned(), Ok(())), ("write".to_owned(), Err("no endpoint".to_owned()))];
        readiness.set_parts(parts.into());
        assert_eq!(readiness.check(), Ok(()));
        assert_eq!(readiness.check_part("purge"), PartStatus::Ready);
        assert_eq!(readiness.check_part("write"), PartStatus::Pending("no endpoint".into()));
        assert_eq!(readiness.check_part("other"), PartStatus::Unknown(vec!["purge".into(), "write".into()]));
        readiness.set_part("write".to_owned(), Ok(()));
        assert_eq!(readiness.check_part("write"), PartStatus::Ready);
        readiness.set_draining();
        assert_eq!(readiness.check_part("purge"), PartStatus::Pending("draining".into()));
    }

    #[tokio::test]
    async fn waiting_ends_when_the_last_gate_opens() {
        let readiness = Readiness::new();
        let (one, two) = (readiness.register("one"), readiness.register("two"));
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        one.set_ready();
        drop(two);
        tokio::time::timeout(Duration::from_secs(60), waiter).await.expect("is ready in time").expect("does not panic");
    }
}
