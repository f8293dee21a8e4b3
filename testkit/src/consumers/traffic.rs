//! Steady traffic through a consumer: which endpoints answer, and whether a request fails.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{client::RawClient, eventually, eventually::scaled, origin::Origin};

/// Time in which a consumer must follow a change. It takes a moment; the rest is for a busy machine.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of connections that send requests.
const CLIENTS: usize = 4;
/// An endpoint counts as left out after this many answers in a row from others.
const ANSWERS_IN_A_ROW: usize = 200;

/// Requests that go on until this is dropped.
pub struct Traffic {
    seen: Arc<Mutex<TrafficRecord>>,
    _clients: JoinSet<()>,
}

#[derive(Default)]
struct TrafficRecord {
    answers: usize,
    /// The last answer of each endpoint, by its name: when, and its number among all answers.
    last: HashMap<String, (Instant, usize)>,
    failures: Vec<String>,
}

impl Traffic {
    /// Sends this request again and again, on connections that stay open.
    pub fn start(to: SocketAddr, request: &str) -> Self {
        let seen: Arc<Mutex<TrafficRecord>> = Arc::default();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(send(to, request.to_owned(), seen.clone()));
        }
        Self { seen, _clients: clients }
    }

    /// Waits until all of these have answered since `changed`, and checks that it was soon enough.
    ///
    /// # Panics
    /// Where it was not, or one request has failed.
    pub async fn reaches(&self, names: &[&str], changed: Instant) {
        let missing = || {
            let seen = self.seen.lock();
            let since = |name: &&&str| seen.last.get(**name).is_none_or(|(at, _)| *at < changed);
            names.iter().filter(since).map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        eventually!("all endpoints to answer", missing(), |missing: &Vec<String>| missing.is_empty());
        assert!(
            changed.elapsed() <= scaled(FOLLOW_TIMEOUT),
            "it took {:?} to reach all of {names:?}",
            changed.elapsed()
        );
        self.check();
    }

    /// Waits until none of these answers any more, and checks that it was soon enough after `changed`.
    ///
    /// # Panics
    /// As [`Self::reaches`].
    pub async fn leaves(&self, names: &[&str], changed: Instant) {
        let lately = || {
            let seen = self.seen.lock();
            let last = names.iter().filter_map(|name| seen.last.get(*name));
            let (at, number) = last.max_by_key(|(at, _)| *at).copied().expect("they have answered before");
            (seen.answers - number, at)
        };
        let (_, at) = eventually!("only others to answer", lately(), |(since, _)| *since >= ANSWERS_IN_A_ROW);
        let took = at.saturating_duration_since(changed);
        assert!(took <= scaled(FOLLOW_TIMEOUT), "it took {took:?} until none of {names:?} answered");
        self.check();
    }

    /// Checks that no request has failed so far.
    ///
    /// # Panics
    /// If one has.
    pub fn check(&self) {
        let seen = self.seen.lock();
        assert!(
            seen.failures.is_empty(),
            "{} of {} requests failed: {:?}",
            seen.failures.len(),
            seen.answers,
            seen.failures
        );
    }
}

/// Uses `write` to scale up from the first endpoint to all three, and down to the first again; then the others close.
/// The endpoints must answer with `first`, `second` and `third`.
///
/// # Panics
/// Where the consumer is later than 10 s after `write` has returned, or one request has failed.
pub async fn follows(
    through: SocketAddr,
    request: &str,
    [first, second, third]: [Origin; 3],
    mut write: impl AsyncFnMut(&[&Origin]),
) {
    eventually!("the first to answer", status(through, request).await, |status| *status == Some(200));
    let traffic = Traffic::start(through, request);
    traffic.reaches(&["first"], Instant::now()).await;
    let changed = Instant::now();
    write(&[&first, &second, &third]).await;
    traffic.reaches(&["first", "second", "third"], changed).await;
    let changed = Instant::now();
    write(&[&first]).await;
    traffic.leaves(&["second", "third"], changed).await;
    drop((second, third));
    traffic.reaches(&["first"], Instant::now()).await;
}

/// The status of one request; `None` where there is no answer.
pub async fn status(to: SocketAddr, request: &str) -> Option<u16> {
    let mut client = RawClient::try_connect(to).await.ok()?;
    client.try_send(request.as_bytes()).await.ok()?;
    client.try_read_response("GET").await.ok().map(|answer| answer.status)
}

/// The endpoint that answers a request: the text of its answer, or the status if that is not 200.
pub async fn who(to: SocketAddr, request: &str) -> String {
    let mut client = RawClient::connect(to).await;
    client.send(request).await;
    let answer = client.read_response("GET").await;
    if answer.status == 200 { answer.text() } else { answer.status.to_string() }
}

/// A request with this host and these further fields.
pub fn get(host: &str, path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

async fn send(to: SocketAddr, request: String, seen: Arc<Mutex<TrafficRecord>>) {
    // Each task sends until `Traffic` is dropped.
    loop {
        let mut client = RawClient::connect(to).await;
        loop {
            let outcome = match client.try_send(request.as_bytes()).await {
                Ok(()) => client.try_read_response("GET").await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let mut seen = seen.lock();
            seen.answers += 1;
            let number = seen.answers;
            match outcome {
                Ok(answer) if answer.status == 200 => {
                    seen.last.insert(answer.text(), (Instant::now(), number));
                    if !answer.keeps_alive {
                        break;
                    }
                }
                Ok(answer) => seen.failures.push(format!("answer {}: {}", answer.status, answer.text())),
                Err(error) => {
                    seen.failures.push(error);
                    break;
                }
            }
        }
    }
}
