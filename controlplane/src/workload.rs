//! Ways for other workloads to find the leader: a label on its pod, and a Service whose EndpointSlices only the leader writes.
//!
//! Readiness is never used for this, because a standby that is not ready would block every rollout.

mod label;
mod leader_slice;

pub use label::{LABEL, PodLabel};
pub use leader_slice::{LeaderService, MANAGED_BY, TERM};

use crate::watch::chain;

/// Explains the error of a request about the pod or the Service.
fn explain(verb: &str, resource: &str, namespace: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "RBAC: the verb \"{verb}\" on {resource} is missing in namespace {namespace}: add it to the Role of the \
             service account ({})",
            status.message
        ),
        kube::Error::Api(status) => format!("cannot {verb} {resource} in namespace {namespace}: {}", status.message),
        other => format!("cannot {verb} {resource} in namespace {namespace}: {}", chain(other)),
    }
}

/// Logs a problem once for as long as it lasts.
#[derive(Debug, Default)]
struct ProblemLog(Option<String>);

impl ProblemLog {
    fn problem(&mut self, election: &str, text: String) {
        if self.0.as_deref() != Some(&text) {
            tracing::warn!(election, "{text}");
            self.0 = Some(text);
        }
    }

    fn solved(&mut self) {
        self.0 = None;
    }
}
