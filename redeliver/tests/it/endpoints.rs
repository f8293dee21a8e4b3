//! Simulated endpoints behind the interface for sending.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redeliver::{
    Last, Redelivery, Sender,
    core::{Copy, Leg, Member, Members, Verdict},
};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    task::JoinHandle,
};

/// Endpoints that can be up or down, and record their requests.
#[derive(Clone)]
pub(crate) struct Endpoints {
    shared: Arc<Shared>,
}

struct Shared {
    known: Mutex<HashMap<String, Endpoint>>,
    members: watch::Sender<Option<Arc<Members>>>,
    now: AtomicUsize,
    most: AtomicUsize,
    gate: Semaphore,
    panicked: AtomicUsize,
}

#[derive(Default)]
struct Endpoint {
    down: bool,
    tries: usize,
    received: Vec<Copy>,
}

/// A running driver.
pub(crate) struct Running {
    drain: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Delays copies until it is opened.
pub(crate) struct Gate(Arc<Shared>);

const OPEN: usize = 1_000;

impl Endpoints {
    pub(crate) fn new(names: &[&str]) -> Self {
        let known = names.iter().map(|name| ((*name).to_owned(), Endpoint::default())).collect();
        let shared = Shared {
            known: Mutex::new(known),
            members: watch::Sender::new(None),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            gate: Semaphore::new(OPEN),
            panicked: AtomicUsize::new(0),
        };
        let endpoints = Self { shared: Arc::new(shared) };
        let places: Vec<(&str, String)> = names.iter().map(|name| (*name, format!("{name}:80"))).collect();
        endpoints.announce(&places.iter().map(|(name, place)| (*name, place.as_str())).collect::<Vec<_>>());
        endpoints
    }

    /// A snapshot with these endpoints.
    pub(crate) fn announce(&self, places: &[(&str, &str)]) {
        let member =
            |(name, address): &(&str, &str)| ((*name).into(), Member { address: (*address).into(), ready: true });
        self.shared.members.send_replace(Some(Arc::new(places.iter().map(member).collect())));
    }

    pub(crate) fn set_up(&self, name: &str, up: bool) {
        self.shared.known.lock().get_mut(name).unwrap().down = !up;
    }

    pub(crate) fn tries(&self, name: &str) -> usize {
        self.shared.known.lock()[name].tries
    }

    pub(crate) fn received(&self, name: &str) -> Vec<Copy> {
        self.shared.known.lock()[name].received.clone()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    pub(crate) fn hold(&self) -> Gate {
        self.shared.gate.forget_permits(OPEN);
        Gate(self.shared.clone())
    }

    /// The snapshots.
    pub(crate) fn members(&self) -> watch::Receiver<Option<Arc<Members>>> {
        self.shared.members.subscribe()
    }

    pub(crate) fn run(&self, redelivery: &Redelivery) -> Running {
        let (drain, drained) = oneshot::channel();
        let (endpoints, redelivery) = (self.clone(), redelivery.clone());
        let task = tokio::spawn(async move {
            let members = endpoints.members();
            redelivery.run(&endpoints, members, async { drained.await.unwrap_or(()) }).await;
        });
        Running { drain, task }
    }
}

impl Sender for Endpoints {
    fn send(&self, copy: Copy) -> impl Future<Output = Verdict> + Send {
        let shared = self.shared.clone();
        let now = shared.now.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(now, Ordering::SeqCst);
        async move {
            shared.known.lock().get_mut(&*copy.whom.key).unwrap().tries += 1;
            drop(shared.gate.acquire().await.unwrap());
            // Long enough for copies to be in flight at the same time.
            tokio::time::sleep(Duration::from_millis(2)).await;
            shared.now.fetch_sub(1, Ordering::SeqCst);
            if &*copy.request.target == "/panic" && shared.panicked.fetch_add(1, Ordering::SeqCst) == 0 {
                panic!("as it was told");
            }
            let mut known = shared.known.lock();
            let endpoint = known.get_mut(&*copy.whom.key).unwrap();
            let last = |outcome, status| Last { outcome, status, at: 0, error: None };
            if endpoint.down {
                return Verdict::Missed(last("connect", None));
            }
            endpoint.received.push(copy);
            Verdict::Delivered(last("ok", Some(200)))
        }
    }
}

impl Running {
    pub(crate) async fn drain(self) {
        self.begin_drain().await.unwrap();
    }

    /// The signal is there before anything else happens.
    pub(crate) fn begin_drain(self) -> JoinHandle<()> {
        let _ = self.drain.send(());
        self.task
    }

    /// Ends the driver without a drain.
    pub(crate) fn abort(self) {
        self.task.abort();
    }
}

impl Gate {
    pub(crate) fn open(self) {
        self.0.gate.add_permits(OPEN);
    }
}

pub(crate) fn missed_at(at: u64) -> Leg {
    let last = Last { outcome: "connect", status: None, at, error: Some("connection refused".into()) };
    Leg::Missed { last, attempts: 1 }
}
