//! A proxy in front of an API server that sees every request, and delays, drops, refuses or cuts what a test chooses.
//!
//! ```no_run
//! # async fn example(account: &kubekit::cluster::Account) {
//! use kubekit::fault_proxy::{Fault, FaultProxy, Verb};
//!
//! let cluster = kubekit::cluster::shared().await;
//! let proxy = FaultProxy::start(&cluster).await;
//! let kubeconfig = proxy.kubeconfig(account.kubeconfig_path()); // the client under test gets this one
//! proxy.script(|call| call.is(Verb::Update, "leases"), [None, Some(Fault::Answer(409))]); // the second update
//! proxy.always(|call| call.is(Verb::Watch, "services"), Fault::CutBody(std::time::Duration::from_secs(1)));
//! proxy.wait(2, |call| call.is(Verb::Update, "leases")).await;
//! # }
//! ```
//!
//! It terminates TLS with the API server's own certificate, so that only the port of a kubeconfig changes, and requests
//! keep the identity of their sender. It speaks HTTP/1.1, so that a fault of one request affects no other.
//! Give each client a proxy of its own to cut it off alone.

mod call;
mod exchange;
mod rule;

use std::{path::Path, sync::Arc, time::Duration};

pub use call::{Call, Verb};
use exchange::ProxyState;
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use rule::{Plan, Rule};
use tempfile::NamedTempFile;
use testkit::eventually::within;
use tokio::task::JoinHandle;

use crate::{cluster::Cluster, relay};

/// A fault of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is passed on only after this time: also where its client has given up by then, as a network does it.
    Delay(Duration),
    /// It is passed on at once, and its answer after this time.
    DelayAnswer(Duration),
    /// It is neither passed on nor answered.
    Drop,
    /// It is passed on, and never answered.
    DropAnswer,
    /// It is not passed on, and its connection is reset.
    Reset,
    /// It is passed on, and its connection is reset instead of an answer.
    ResetAnswer,
    /// It is not passed on, but answered with this status and the API server's usual reason for it.
    Answer(u16),
    /// The answer is cut this long after its head: a watch in mid-stream.
    CutBody(Duration),
    /// The answer stops this long after its head and its connection stays open: a stalled watch.
    StallBody(Duration),
    /// The answer, of a watch in JSON, ends this long after its head with the event "410 Gone".
    ExpireWatch(Duration),
}

/// A running proxy. It ends when it is dropped, with its connections.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<ProxyState>,
    port: u16,
    to: u16,
    accepting: JoinHandle<()>,
}

/// The state of all connections of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Requests pass, except for the rules' faults.
    Open,
    /// Nothing passes now; held data passes later.
    Hanging,
    /// Connections are reset, old ones and new ones.
    Cut,
}

impl FaultProxy {
    /// Starts one that lets everything pass.
    ///
    /// # Panics
    /// Where the cluster's certificate cannot be read.
    pub async fn start(cluster: &Cluster) -> Self {
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig_path()).expect("the kubeconfig can be read");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.expect("the kubeconfig can be used");
        // Each request carries the credentials of its sender.
        config.auth_info = AuthInfo::default();
        config.default_retry = false;
        let client = Client::try_from(config).expect("the configuration is complete");
        let shared = Arc::new(ProxyState::new(client));
        let (port, accepting) = exchange::accept(shared.clone(), cluster.certificate()).await;
        Self { shared, port, to: cluster.api_port(), accepting }
    }

    /// The port of 127.0.0.1 that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A copy of a kubeconfig that goes through the proxy.
    ///
    /// # Panics
    /// Where that kubeconfig does not go to the proxy's API server.
    #[must_use]
    pub fn kubeconfig(&self, original: &Path) -> NamedTempFile {
        relay::kubeconfig(original, self.to, self.port)
    }

    /// Applies this fault to every request that meets the condition.
    ///
    /// Rules apply in the order in which they were added: the first that has a fault for a request decides.
    pub fn always(&self, when: impl Fn(&Call) -> bool + Send + 'static, fault: Fault) {
        self.shared.add(Rule::new(when, Plan::Always(fault)));
    }

    /// Applies the first of these to the first request that meets the condition, and so on. `None` lets a request pass;
    /// requests after the last entry pass as well.
    pub fn script(
        &self,
        when: impl Fn(&Call) -> bool + Send + 'static,
        faults: impl IntoIterator<Item = Option<Fault>>,
    ) {
        self.shared.add(Rule::new(when, Plan::Script(faults.into_iter().collect())));
    }

    /// Applies one of these to so many per cent of the requests that meet the condition. Which fault the n-th of them
    /// gets depends on the seed alone.
    ///
    /// # Panics
    /// Where there are no faults to choose from.
    pub fn seeded(
        &self,
        when: impl Fn(&Call) -> bool + Send + 'static,
        seed: u64,
        percent: u8,
        faults: impl IntoIterator<Item = Fault>,
    ) {
        let faults: Vec<Fault> = faults.into_iter().collect();
        assert!(!faults.is_empty(), "there is no fault to choose from");
        self.shared.add(Rule::new(when, Plan::Seeded { random: fastrand::Rng::with_seed(seed), percent, faults }));
    }

    /// Removes every rule. Requests that are already delayed, dropped or stalled remain so.
    pub fn clear(&self) {
        self.shared.clear();
    }

    /// Hangs, as a network that loses every packet: nothing passes in either direction, on old and on new connections.
    /// After [`FaultProxy::restore`] the held data arrives late, as a network would deliver it.
    pub fn hang(&self) {
        self.shared.line(LinkState::Hanging);
    }

    /// Resets every connection, and every new one.
    pub fn cut(&self) {
        self.shared.line(LinkState::Cut);
    }

    /// Ends [`FaultProxy::hang`] and [`FaultProxy::cut`].
    pub fn restore(&self) {
        self.shared.line(LinkState::Open);
    }

    /// Applies [`Fault::CutBody`], [`Fault::StallBody`] or [`Fault::ExpireWatch`], counted from now, to the answers that are
    /// streaming, of the requests that meet the condition. Returns how many there were.
    pub fn interrupt(&self, when: impl Fn(&Call) -> bool, fault: Fault) -> usize {
        self.shared.interrupt(when, fault)
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls()
    }

    /// How many requests so far meet the condition.
    pub fn count(&self, when: impl Fn(&Call) -> bool) -> usize {
        self.shared.count(when)
    }

    /// Waits until so many requests, counted from the start, meet the condition, and returns them.
    ///
    /// # Panics
    /// If they do not within [`patience`](testkit::eventually::patience).
    pub async fn wait(&self, count: usize, when: impl Fn(&Call) -> bool) -> Vec<Call> {
        let reached = within("requests to the API server", self.shared.wait(count, &when));
        reached.await.into_iter().filter(|call| when(call)).collect()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.end();
    }
}

#[cfg(test)]
mod tests;
