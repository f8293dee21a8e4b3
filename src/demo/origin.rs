//! An origin of the demo: a small HTTP server on loopback that records its requests, and can be made slow, failing or down.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::post,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// A running origin.
pub(super) struct Origin {
    name: &'static str,
    address: SocketAddr,
    shared: Arc<OriginState>,
    server: Option<Server>,
}

/// How an origin behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Answers 200 at once.
    Healthy,
    /// Answers 500 at once.
    Failing,
    /// Answers 200 after this time.
    Slow(Duration),
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Its method.
    pub(super) method: Method,
    /// Its target.
    pub(super) target: String,
    /// Its body.
    pub(super) body: Bytes,
}

struct OriginState {
    name: &'static str,
    mode: watch::Sender<Mode>,
    arrived: watch::Sender<VecDeque<Arrived>>,
}

struct Server {
    stop: watch::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

/// The most recorded requests.
const MAX_RECORDED: usize = 256;

/// The delay of an origin after `/-/slow`.
pub(super) const SLOW: Duration = Duration::from_secs(2);

// === impl Origin ===

impl Origin {
    /// Starts one origin per name, in the order of their addresses, which is the order of the broadcaster.
    pub(super) async fn start<const N: usize>(names: [&'static str; N]) -> std::io::Result<[Self; N]> {
        let mut listeners = Vec::new();
        for _ in names {
            listeners.push(TcpListener::bind(("127.0.0.1", 0)).await?);
        }
        let port = |listener: &TcpListener| listener.local_addr().map_or(0, |address| address.port());
        listeners.sort_by_key(port);
        let mut origins = Vec::new();
        for (name, listener) in names.into_iter().zip(listeners) {
            let (mode, arrived) = (watch::Sender::new(Mode::Healthy), watch::Sender::default());
            let shared = Arc::new(OriginState { name, mode, arrived });
            let address = listener.local_addr()?;
            origins.push(Self { name, address, server: Some(serve(listener, shared.clone())), shared });
        }
        Ok(origins.try_into().unwrap_or_else(|_| unreachable!("one origin was made per name")))
    }

    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Its address, also while it is down.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets its behaviour from the next request on.
    pub(super) fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Stops listening and closes every connection.
    pub(super) async fn go_down(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop.send_replace(());
            let _ = server.task.await;
        }
    }

    /// Listens on the same address again.
    pub(super) async fn come_up(&mut self) -> std::io::Result<()> {
        if self.server.is_none() {
            self.server = Some(serve(TcpListener::bind(self.address).await?, self.shared.clone()));
        }
        Ok(())
    }

    /// Waits until `at_least` equal requests have arrived, for at most `patience`. Returns how many have.
    pub(super) async fn received(&self, what: &Arrived, at_least: usize, patience: Duration) -> usize {
        let count = |arrived: &VecDeque<Arrived>| arrived.iter().filter(|one| *one == what).count();
        let mut arrived = self.shared.arrived.subscribe();
        let _ = tokio::time::timeout(patience, arrived.wait_for(|all| count(all) >= at_least)).await;
        count(&arrived.borrow())
    }
}

fn serve(listener: TcpListener, shared: Arc<OriginState>) -> Server {
    let router = Router::new().route("/-/{mode}", post(set_mode)).fallback(answer).with_state(shared);
    let (stop, mut stopped) = watch::channel(());
    let stopped = async move {
        // Returns as well when the sender is dropped.
        let _ = stopped.changed().await;
    };
    let serve = axum::serve(listener, router).with_graceful_shutdown(stopped);
    Server { stop, task: tokio::spawn(async move { serve.await }) }
}

async fn set_mode(State(shared): State<Arc<OriginState>>, Path(mode): Path<String>) -> Response {
    let mode = match &*mode {
        "healthy" => Mode::Healthy,
        "failing" => Mode::Failing,
        "slow" => Mode::Slow(SLOW),
        _ => return (StatusCode::NOT_FOUND, "the paths are /-/healthy, /-/failing and /-/slow\n").into_response(),
    };
    shared.mode.send_replace(mode);
    format!("{} is {} now\n", shared.name, mode.describe()).into_response()
}

async fn answer(State(shared): State<Arc<OriginState>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let arrived = Arrived { method, target: uri.to_string(), body };
    let Arrived { method, target, body } = &arrived;
    let got = format!("{} got {method} {target} with {} bytes of body", shared.name, body.len());
    shared.arrived.send_modify(|all| {
        all.push_back(arrived);
        let excess = all.len().saturating_sub(MAX_RECORDED);
        all.drain(..excess);
    });
    let mode = *shared.mode.borrow();
    match mode {
        Mode::Healthy => format!("{got}\n").into_response(),
        Mode::Failing => (StatusCode::INTERNAL_SERVER_ERROR, format!("{got}, and failed\n")).into_response(),
        Mode::Slow(delay) => {
            tokio::time::sleep(delay).await;
            format!("{got}, and took {} ms\n", delay.as_millis()).into_response()
        }
    }
}

// === impl Mode ===

impl Mode {
    fn describe(self) -> String {
        match self {
            Self::Healthy => "healthy".to_owned(),
            Self::Failing => "failing".to_owned(),
            Self::Slow(delay) => format!("slow ({})", runtime::duration::format(delay)),
        }
    }
}
