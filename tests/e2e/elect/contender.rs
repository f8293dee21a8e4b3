//! A candidate as a process: ours, or client-go's.

use std::{path::Path, time::Duration};

use kubekit::{
    cluster::{Account, Cluster},
    interop::{Candidate, ClientGo, Election, Poller, What},
};
use rustix::process::Signal;
use testkit::{
    client,
    eventually::{scaled, within_time},
};

use crate::process::Fanfare;

/// The time limit for a process to end: a release, and a margin for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kind of candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    ClientGo(ClientGo),
}

/// A running candidate. Dropping it kills it.
pub(super) enum Contender {
    Ours { fanfare: Box<Fanfare>, poller: Poller },
    ClientGo(Candidate),
}

impl Contender {
    /// Starts a candidate. Ours is polled for the leader.
    pub(super) async fn start(kind: Kind, kubeconfig: &Path, id: &str, election: &Election<'_>) -> Self {
        let of = match kind {
            Kind::Ours => return Self::start_ours(kubeconfig, id, election).await,
            Kind::ClientGo(of) => of,
        };
        Self::ClientGo(Candidate::start(of, kubeconfig, id, election).await)
    }

    async fn start_ours(kubeconfig: &Path, id: &str, election: &Election<'_>) -> Self {
        let fanfare = Fanfare::start([
            "elect".into(),
            format!("-election={}", election.name),
            format!("-namespace={}", election.namespace),
            format!("-lock-type={}", election.lock_type),
            format!("-ttl={}s", election.ttl.as_secs()),
            format!("-id={id}"),
            format!("-kubeconfig={}", kubeconfig.display()),
            "-http=127.0.0.1:0".into(),
            "-label=false".into(),
        ]);
        let poller = Poller::start(fanfare.listening("for elect").await);
        Self::Ours { fanfare: Box::new(fanfare), poller }
    }

    pub(super) fn signal(&self, signal: Signal) {
        match self {
            Self::Ours { fanfare, .. } => fanfare.signal(signal),
            Self::ClientGo(candidate) => candidate.signal(signal),
        }
    }

    /// Ends it with this signal. With SIGTERM it must exit successfully.
    pub(super) async fn end(&mut self, signal: Signal) {
        self.signal(signal);
        match self {
            Self::Ours { fanfare, .. } => {
                let status = within_time(scaled(PATIENCE), "one of ours to end", fanfare.exit()).await;
                assert!(signal != Signal::TERM || status.success(), "{status}: {}", fanfare.stderr.text());
            }
            Self::ClientGo(candidate) => {
                assert!(candidate.wait(scaled(PATIENCE)).await, "it does not end:\n{}", candidate.log());
            }
        }
    }

    /// Makes it step down. Returns whether it supports that.
    pub(super) async fn steps_down(&self) -> bool {
        let Self::Ours { fanfare, .. } = self else { return false };
        let address = fanfare.listening("for elect").await;
        client::request(address, "POST", "/v1/step-down", &[], b"").await.complete().status == 200
    }

    /// Whether it has reported this leader.
    pub(super) fn knows(&self, leader: &str) -> bool {
        match self {
            Self::Ours { poller, .. } => poller.answers().good.last().is_some_and(|answer| answer.leader == leader),
            Self::ClientGo(candidate) => {
                candidate.events().iter().any(|event| event.what == What::Leader(leader.into()))
            }
        }
    }
}

/// An account with the rights of a candidate on locks of every type.
pub(super) async fn account(cluster: &Cluster, namespace: &str) -> Account {
    let account = cluster.service_account(namespace, "contender").await;
    let role = format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: contender, namespace: {namespace}}}
rules:
  - {{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}}
  - {{apiGroups: [''], resources: [configmaps], verbs: [get, create, update]}}
  - {{apiGroups: ['', events.k8s.io], resources: [events], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: contender, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: contender}}
subjects: [{{kind: ServiceAccount, name: contender, namespace: {namespace}}}]
"
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
    account
}
