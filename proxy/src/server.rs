//! The server: binds the listeners, runs a thread per worker, follows snapshots and reloads, and drains.
//!
//! `Server::bind` → `start` → `drain`. Every worker is one thread with a runtime, `SO_REUSEPORT` listeners and
//! connections to endpoints of its own; nothing of a request ever moves to another thread.

mod accept;
mod handle;
mod sockets;
mod thread;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use access::sources::Sources;
use runtime::drain::Drain;
use snapshot::Reader;
use spans::Tracer;
use tokio::{sync::watch, time::Instant};

pub use self::handle::{ChangedRoutes, Handle, ReloadError, RouteState, SeenRoutes};
use self::{
    accept::{App, Listening, accept},
    sockets::{Claim, Sockets},
    thread::Thread,
};
use crate::{
    access_log::AtExit,
    config::{Config, Contradiction},
    exchange::spare,
    owed::Stores,
    request,
    secured::{Secured, TlsProblem},
    shared::{Services, Shared, Worker},
};

/// The interval at which idle connections to endpoints are checked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The time limit of the export of spans at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Bound listeners, not served yet: connections wait in the backlog.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    drain: Drain,
    /// A listener for each worker, for each listener of the configuration, and whether others share its address.
    listeners: Vec<(Vec<TcpListener>, bool)>,
    /// That their addresses are not shared.
    claims: Vec<Claim>,
    /// A thread for each worker, waiting for its work, and one that makes tables.
    workers: Vec<Thread>,
    tables: Thread,
    /// The thread for redelivery, if some route has it.
    owed: Option<Thread>,
}

/// A server whose workers run.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    drain: Drain,
    /// Ends accepting, keep-alive, and following snapshots. Changes once, to the time for which an idle connection may still bring
    /// a request.
    shutdown: watch::Sender<Duration>,
    /// Ends the workers at once.
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    /// The last field, so that it is dropped after everything that logs.
    log: AtExit,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections and stragglers that were cut off at the deadline.
    pub cut: usize,
}

/// Why the listeners cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration contradicts itself.
    #[error("{}", list(.0))]
    Config(Vec<Contradiction>),
    /// Files of certificates or keys cannot be used.
    #[error("{}", list(.0))]
    Tls(Vec<TlsProblem>),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system reports.
        why: io::Error,
    },
    /// The export of spans cannot be started.
    #[error("cannot trace requests: {0}")]
    Tracing(#[from] spans::StartError),
    /// A thread or its runtime cannot be created.
    #[error("cannot start a worker: {0}; raise the limit of file descriptors (ulimit -n) or of processes")]
    Thread(io::Error),
}

fn list(problems: &[impl ToString]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

// === impl Server ===

impl Server {
    /// Binds every listener; port 0 takes a free port. Endpoints come from `reader`.
    ///
    /// # Errors
    /// [`BindError`] if the configuration contradicts itself or an address cannot be bound.
    pub fn bind(config: impl Into<Arc<Config>>, reader: Reader) -> Result<Self, BindError> {
        Self::bind_with(config, reader, Arc::default())
    }

    /// The same, with sources for authenticating callers. Token files must be followed already.
    ///
    /// # Errors
    /// Like [`bind`](Self::bind).
    pub fn bind_with(config: impl Into<Arc<Config>>, reader: Reader, access: Arc<Sources>) -> Result<Self, BindError> {
        Self::bind_passed(config.into(), reader, access, &[])
    }

    /// The same with sockets that were passed to this process, for those listeners that have one at their place.
    ///
    /// # Errors
    /// Like [`bind`](Self::bind).
    pub fn bind_passed(
        config: Arc<Config>,
        reader: Reader,
        access: Arc<Sources>,
        passed: &[Option<TcpListener>],
    ) -> Result<Self, BindError> {
        let problems = config.check();
        if !problems.is_empty() {
            return Err(BindError::Config(problems));
        }
        let secured = Secured::load(&config, None).map_err(BindError::Tls)?;
        let (mut listeners, mut bound, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        for (index, listener) in config.listeners.iter().enumerate() {
            let sockets = match passed.get(index).and_then(Option::as_ref) {
                Some(socket) => Sockets::passed(socket, config.threads),
                None => Sockets::bind(listener.address, config.threads, config.reuse_port),
            };
            let sockets = sockets.map_err(|why| BindError::Listen { address: listener.address, why })?;
            bound.push(sockets.address);
            listeners.push((sockets.listeners, sockets.is_shared));
            claims.extend(sockets.claim);
        }
        let worker = |index| Thread::new(format!("worker-{index}")).map_err(BindError::Thread);
        let workers = (0..config.threads).map(worker).collect::<Result<_, _>>()?;
        let tables = Thread::new("tables".into()).map_err(BindError::Thread)?;
        let stores = Stores::start(&config).map_err(BindError::Thread)?;
        let owed = (!stores.is_empty()).then(|| Thread::new("owed".into()).map_err(BindError::Thread)).transpose()?;
        let instance = request::id::random();
        let tracer = config.tracing.as_ref().map(|tracing| Tracer::start(tracing, instance.as_str())).transpose()?;
        let drain = Drain::new();
        let shared =
            Arc::new(Shared::new(config, secured, reader, access, bound, &drain, Services { owed: stores, tracer }));
        Ok(Self { shared, drain, listeners, claims, workers, tables, owed })
    }

    /// The addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.bound
    }

    /// Waits until every journal of redelivery was read, or cannot be for now. Until then requests that need it are refused.
    pub async fn journals_read(&self) {
        self.shared.owed.until_read().await;
    }

    /// Starts the workers.
    #[must_use]
    pub fn start(self) -> Running {
        // The table has the known endpoints before the first request.
        self.shared.rebuild(None);
        let (shutdown, shut) = watch::channel(Duration::ZERO);
        let (stop, stopped) = watch::channel(false);
        let listeners = self.listeners.into_iter().map(|(sockets, is_shared)| (sockets.into_iter(), is_shared));
        let mut listeners: Vec<_> = self.shared.bound.iter().copied().zip(listeners).collect();
        let mut claims = Some(self.claims);
        let mut threads = Vec::new();
        for (index, thread) in self.workers.into_iter().enumerate() {
            let worker = Arc::new(Worker { index, shared: self.shared.clone() });
            let sockets = listeners.iter_mut().filter_map(|(address, (sockets, is_shared))| {
                Some(Listening { address: *address, socket: sockets.next()?, is_shared: *is_shared })
            });
            // The first worker has them: they end with the listening, and not with the last request.
            let claims = claims.take().unwrap_or_default();
            threads.push(thread.run(serve(worker, sockets.collect(), claims, shut.clone(), stopped.clone())));
        }
        threads.push(self.tables.run(follow(self.shared.clone(), shut)));
        if let Some(thread) = self.owed {
            threads.push(thread.run(Stores::run(self.shared.clone(), stopped)));
        }
        let log = AtExit(self.shared.log.clone());
        Running { handle: Handle { shared: self.shared }, drain: self.drain, shutdown, stop, threads, log }
    }
}

/// Runs a worker: its listeners until the shutdown, its connections until they end or are stopped.
async fn serve(
    worker: Arc<Worker>,
    sockets: Vec<Listening>,
    claims: Vec<Claim>,
    shutdown: watch::Receiver<Duration>,
    mut stop: watch::Receiver<bool>,
) {
    let sweeper = tokio::spawn(sweep(worker.clone()));
    let services = sockets.into_iter().enumerate().map(|(listener, socket)| {
        let app = Arc::new(App { worker: worker.clone(), listener });
        accept(app, socket, shutdown.clone())
    });
    futures::future::join_all(services).await;
    drop(claims);
    // The sender is dropped only after it has said so.
    let _ = stop.wait_for(|stop| *stop).await;
    sweeper.abort();
}

/// Closes connections to endpoints that have been idle for too long or were closed by the endpoint, and frees unused memory.
async fn sweep(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let (table, now) = (worker.shared.table.load_full(), Instant::now());
        for target in table.routes().flat_map(|route| &route.known) {
            target.sweep(worker.index, now, worker.shared.limits.pool_idle);
        }
        spare::forget();
    }
}

/// Rebuilds the table for every new snapshot.
async fn follow(shared: Arc<Shared>, mut shutdown: watch::Receiver<Duration>) {
    let mut reader = shared.reader();
    let mut seen = shared.table.load().version.sequence;
    loop {
        let newer = tokio::select! {
            newer = reader.newer_than(seen) => newer,
            _ = shutdown.changed() => return,
        };
        let Ok(newer) = newer else {
            // No newer snapshot will come: the current one stays in use.
            return;
        };
        seen = newer.version().sequence;
        shared.rebuild(None);
    }
}

// === impl Running ===

impl Running {
    /// A handle for the rest of the process.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends in order: accepts no connections and lets requests in flight finish. Each idle connection may bring one more request
    /// within `idle`, because one may be in flight. At the time-out the rest is cut off, and the access log is flushed.
    pub async fn drain(self, idle: Duration, timeout: Duration) -> Drained {
        self.shutdown.send_replace(idle);
        self.drain.start();
        let cut = self.drain.wait_idle(timeout).await;
        self.stop.send_replace(true);
        let table = self.handle.shared.table.load_full();
        table.routes().flat_map(|route| &route.known).for_each(|target| target.retire());
        let (threads, log, tracer) = (self.threads, self.log, self.handle.shared.tracer.clone());
        // Threads end at once now; joining them must not block the caller's runtime.
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            drop(log);
            if let Some(tracer) = tracer {
                tracer.flush(FLUSH_TIMEOUT);
            }
        });
        let _ = joined.await;
        Drained { cut }
    }
}
