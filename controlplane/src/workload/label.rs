//! The label on the pod of a candidate that says whether it leads.
//!
//! A pod that dies keeps its label, and other candidates have no right to remove it. If requests must never go to two pods, use the
//! [`LeaderService`](super::LeaderService).

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::timeout;

use super::{ProblemLog, explain};
use crate::lease::{Election, TermEvent, Terms, WriteError};

/// The label, the same as that of k8s-elector.
pub const LABEL: &str = "k8s-elector/status";

/// The time limit of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Keeps the label of one pod true.
pub struct PodLabel {
    pods: Api<Pod>,
    namespace: String,
    pod: String,
    election: Election,
    problems: ProblemLog,
}

impl PodLabel {
    /// For the pod of this candidate. Needs the verb `patch` on `pods` in the pod's namespace, which need not be the lock's.
    #[must_use]
    pub fn new(client: Client, namespace: &str, pod: &str, election: Election) -> Self {
        let pods = Api::namespaced(client, namespace);
        Self { pods, namespace: namespace.to_owned(), pod: pod.to_owned(), election, problems: ProblemLog::default() }
    }

    /// Writes it when a term begins, at every renewal, and when it ends, before anybody else can lead. On a standby it is
    /// written whenever the state of the election changes. Returns when the elector has ended.
    pub async fn run(mut self, mut terms: Terms) {
        let mut watch = self.election.watch();
        self.write_label(self.election.now().leading).await;
        loop {
            tokio::select! {
                event = terms.next() => match event {
                    Some(TermEvent::Began(_)) => self.write_label(true).await,
                    // Dropping the event confirms the end of the term.
                    Some(TermEvent::Ended(_ending)) => self.write_label(false).await,
                    None => return,
                },
                view = watch.updated() => self.write_label(view.leading).await,
            }
        }
    }

    async fn write_label(&mut self, leading: bool) {
        let done = if leading {
            let leadership = self.election.leadership();
            match leadership.write(ANSWER_TIMEOUT, async |_claim| self.patch("leader").await).await {
                Ok(()) => Ok(()),
                // The term has just ended; its end is the next event.
                Err(WriteError::NotLeading(_)) => return,
                Err(WriteError::Deadline(_)) => Err(self.no_answer()),
                Err(WriteError::Failed(error)) => Err(self.explain(&error)),
            }
        } else {
            match timeout(ANSWER_TIMEOUT, self.patch("standby")).await {
                Ok(done) => done.map_err(|error| self.explain(&error)),
                Err(_elapsed) => Err(self.no_answer()),
            }
        };
        match done {
            Ok(()) => self.problems.solved(),
            Err(problem) => self.problems.problem(self.election.name(), problem),
        }
    }

    fn no_answer(&self) -> String {
        format!("the label of pod {}: no answer of the API server in time", self.pod)
    }

    fn explain(&self, error: &kube::Error) -> String {
        match error {
            kube::Error::Api(status) if status.code == 404 => format!(
                "there is no pod {} in namespace {}: name the pod of this candidate, or disable the label",
                self.pod, self.namespace
            ),
            error => explain("patch", "pods", &self.namespace, error),
        }
    }

    async fn patch(&self, status: &str) -> Result<(), kube::Error> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: status}}}));
        self.pods.patch_metadata(&self.pod, &PatchParams::default(), &patch).await.map(drop)
    }
}
