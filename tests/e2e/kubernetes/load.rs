//! Continuous requests while the pods change, and the proof that each request reached the right pods.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::{
    client::{RawClient, request_bytes},
    eventually::{scaled, within},
    origin::Origin,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::bed::Addresses;

/// Clients that send at a time.
const CLIENTS: usize = 4;

/// The interval between two requests of a client, which keeps the pods' records small.
const PACE: Duration = Duration::from_millis(10);

/// The time for which a removed pod may still get requests, after the API server has acknowledged the change.
pub(crate) const LATE: Duration = Duration::from_secs(1);

/// Clients that send until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Sent>>>,
    /// For each client, when its last answered request was sent.
    answered: Vec<watch::Receiver<Instant>>,
}

/// One request and its answer.
#[derive(Debug)]
pub(crate) struct Sent {
    target: String,
    at: Instant,
    answered: Instant,
    /// The status, or the error.
    status: Result<u16, String>,
}

/// The sets of pods over time.
pub(crate) struct Timeline(Vec<Step>);

struct Step {
    /// When the change was requested, and when the API server had acknowledged it.
    asked: Instant,
    known: Instant,
    pods: Addresses,
    /// Whether it may be over before a request was sent.
    brief: bool,
}

// === impl Load ===

impl Load {
    /// Starts to send.
    pub(crate) fn start(to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (clients, answered) = (0..CLIENTS)
            .map(|number| {
                let (sender, receiver) = watch::channel(Instant::now());
                (tokio::spawn(client(to, number, stop.clone(), sender)), receiver)
            })
            .unzip();
        Self { stop, clients, answered }
    }

    /// Waits until every client has an answer to a request that it sends from now on.
    pub(crate) async fn beyond(&mut self, moment: Instant) {
        for answered in &mut self.answered {
            let later = within("the load to go on", answered.wait_for(|at| *at > moment)).await;
            later.expect("a client sends until it is stopped");
        }
    }

    /// Stops, and returns every request that was sent.
    pub(crate) async fn stop(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for client in self.clients {
            sent.extend(within("a client to stop", client).await.expect("a client does not panic"));
        }
        sent
    }
}

/// One client on a persistent connection.
async fn client(to: SocketAddr, number: usize, stop: Arc<AtomicBool>, answered: watch::Sender<Instant>) -> Vec<Sent> {
    let mut connection = None;
    let mut sent = Vec::new();
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let target = format!("/load/{number}/{}", sent.len());
        // Half of the requests are not idempotent.
        let method = if sent.len() % 2 == 0 { "GET" } else { "POST" };
        let body: &[u8] = if method == "POST" { b"body" } else { b"" };
        let at = Instant::now();
        let status = exchange(&mut connection, to, method, &request_bytes("h", method, &target, &[], body)).await;
        sent.push(Sent { target, at, answered: Instant::now(), status });
        answered.send_replace(at);
    }
    sent
}

async fn exchange(
    connection: &mut Option<RawClient>,
    to: SocketAddr,
    method: &str,
    request: &[u8],
) -> Result<u16, String> {
    let mut client = match connection.take() {
        Some(client) => client,
        None => RawClient::try_connect(to).await.map_err(|error| format!("cannot connect: {error}"))?,
    };
    client.try_send(request).await.map_err(|error| format!("cannot send: {error}"))?;
    let answer = client.try_read_response(method).await.map_err(|error| error.to_string())?;
    if !answer.end.is_complete() {
        return Err(format!("a cut answer: {answer}"));
    }
    if answer.keeps_alive {
        *connection = Some(client);
    }
    Ok(answer.status)
}

/// Asserts that every request had an answer of success. Returns how many there were.
pub(crate) fn assert_all_ok(sent: &[Sent]) -> usize {
    let failed: Vec<_> = sent.iter().filter(|sent| sent.status != Ok(200)).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:#?}", failed.len(), sent.len(), &failed[..failed.len().min(5)]);
    sent.len()
}

// === impl Timeline ===

impl Timeline {
    /// A timeline that begins with these pods, before the load starts.
    pub(crate) fn new(pods: Addresses) -> Self {
        let now = Instant::now();
        Self(vec![Step { asked: now, known: now, pods, brief: false }])
    }

    /// Changes the pods to these; `change` returns when the API server has acknowledged it. Returns when the load has continued for
    /// [`LATE`] after that.
    pub(crate) async fn step(&mut self, load: &mut Load, pods: Addresses, change: impl Future<Output = Instant>) {
        let known = self.brief_step(pods, change).await;
        self.0.last_mut().expect("it was just added").brief = false;
        load.beyond(known + scaled(LATE)).await;
    }

    /// Like [`Timeline::step`], but does not wait, so that the step may be over before a request is sent.
    pub(crate) async fn brief_step(&mut self, pods: Addresses, change: impl Future<Output = Instant>) -> Instant {
        let asked = Instant::now();
        let known = change.await;
        self.0.push(Step { asked, known, pods, brief: true });
        known
    }

    /// Asserts that every request reached all pods of one step, each once, and nobody else, and of no step that was
    /// over for longer than [`LATE`] when it was sent; and that it was answered with 200, or 503 where there was no pod.
    pub(crate) fn check(&self, sent: &[Sent], pods: &[Origin]) {
        let mut reached: HashMap<String, Addresses> = HashMap::new();
        for pod in pods {
            for request in pod.requests().into_iter().filter(|request| request.target.starts_with("/load/")) {
                let expected: &[u8] = if request.method == "POST" { b"body" } else { b"" };
                assert_eq!(request.body, expected, "what {} got of {}", pod.address(), request.target);
                let first = reached.entry(request.target.clone()).or_default().insert(pod.address());
                assert!(first, "{} got {} twice", pod.address(), request.target);
            }
        }
        let mut seen = vec![0; self.0.len()];
        for request in sent {
            let to = reached.remove(&request.target).unwrap_or_default();
            let wanted = if to.is_empty() { 503 } else { 200 };
            assert_eq!(request.status, Ok(wanted), "{request:?} reached {to:?}");
            let step = (0..self.0.len()).find(|step| self.allows(*step, request) && self.0[*step].pods == to);
            let step = step.unwrap_or_else(|| panic!("{request:?} reached {to:?}:\n{}", self.told(request)));
            seen[step] += 1;
        }
        assert!(reached.is_empty(), "requests that nobody sent: {reached:?}");
        let unseen = seen.iter().zip(&self.0).find(|(count, step)| **count == 0 && !step.brief);
        assert!(unseen.is_none(), "requests in each step: {seen:?}");
    }

    /// Asserts that a pod that a step removed for good got its last request not later than [`LATE`] after the API server's
    /// acknowledgement.
    pub(crate) fn check_removed(&self, step: usize, pod: &Origin) {
        let last = pod.requests().iter().map(|request| request.head_at).max().expect("it had requests");
        let after = last.saturating_duration_since(self.0[step].known);
        assert!(after <= scaled(LATE), "{} got a request {after:?} after the API server knew", pod.address());
    }

    fn allows(&self, step: usize, request: &Sent) -> bool {
        let begun = request.answered >= self.0[step].asked;
        begun && self.0.get(step + 1).is_none_or(|next| request.at <= next.known + scaled(LATE))
    }

    /// The steps during a request.
    fn told(&self, request: &Sent) -> String {
        let steps = self.0.iter().map(|step| {
            let since = request.at.saturating_duration_since(step.known);
            format!("{:?} for {since:?}, allowed {}\n", step.pods, request.answered >= step.asked)
        });
        steps.collect()
    }
}
