//! A gate that a script waits at until the test opens it, so that a test decides the order of events.

use std::sync::Arc;

use tokio::sync::watch;

use crate::eventually::within;

/// A gate, closed at first. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    open: bool,
    reached: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())) }
    }

    /// Opens the gate for good: all that wait at it go on, and later ones pass.
    pub fn release(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Whether the gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.borrow().open
    }

    /// How often a script has reached the gate.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.state.borrow().reached
    }

    /// Waits until scripts have reached the gate `n` times.
    ///
    /// # Panics
    /// If they have not within [`patience`](crate::eventually::patience).
    #[track_caller]
    pub fn wait_reached(&self, n: usize) -> impl Future<Output = ()> {
        let mut watcher = self.state.subscribe();
        let what = format!("a gate to be reached {n} times");
        let place = std::panic::Location::caller();
        async move {
            let what = format!("{what} ({place})");
            let reached = watcher.wait_for(|state| state.reached >= n);
            // The sender cannot be gone while the watcher's owner holds the gate; if the gate itself is
            // gone, nobody can reach it any more.
            if within(&what, reached).await.is_err() {
                panic!("{what}: every clone of the gate is gone");
            }
        }
    }

    /// Waits at the gate until it is open. This is what scripts do; a test may do it too.
    pub async fn pass(&self) {
        self.arrive();
        self.opened().await;
    }

    /// Counts one arrival.
    pub(super) fn arrive(&self) {
        self.state.send_modify(|state| state.reached += 1);
    }

    /// Waits until the gate is open, without counting as an arrival.
    pub(super) async fn opened(&self) {
        let mut watcher = self.state.subscribe();
        // It fails only if the sender is gone, and `self` holds it.
        let _open = watcher.wait_for(|state| state.open).await;
    }
}
