//! The readiness of the routes: one without an endpoint is not ready, unless that is allowed.

use std::sync::Arc;

use runtime::readiness::Gate;

use crate::shared::Shared;

/// Most names of routes that are named as a reason.
const NAMED: usize = 5;

/// The task; dropping it ends it.
pub(crate) struct Task(tokio::task::JoinHandle<()>);

/// Keeps the gate in step with the routes.
pub(crate) fn spawn(gate: Gate, shared: &Shared, handle: proxy::Handle) -> Task {
    Task(tokio::spawn(keep(gate, shared.clone(), handle)))
}

async fn keep(gate: Gate, shared: Shared, handle: proxy::Handle) {
    let (mut config, mut in_service) = (shared.config.subscribe(), handle.in_service());
    loop {
        in_service.borrow_and_update();
        let allowed = config.borrow_and_update().process.ready_no_endpoint;
        let empty = if allowed { Vec::new() } else { handle.empty_routes() };
        set(&gate, &empty);
        tokio::select! {
            changed = in_service.changed() => if changed.is_err() { return },
            changed = config.changed() => if changed.is_err() { return },
        }
    }
}

fn set(gate: &Gate, empty: &[Arc<str>]) {
    if empty.is_empty() {
        return gate.set_ready();
    }
    let names = empty.iter().take(NAMED).map(|name| &**name).collect::<Vec<_>>().join(", ");
    let more = if empty.len() > NAMED { format!(" and {} more", empty.len() - NAMED) } else { String::new() };
    gate.set_not_ready(format!("no endpoint for {names}{more}"));
}

// === impl Task ===

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
