//! The server: binds the listeners, runs a thread per worker, follows snapshots and reloads, and drains.
//!
//! `Server::bind` → `start` → `drain`. Every worker is one thread with a runtime, `SO_REUSEPORT` listeners and
//! connections to endpoints of its own; nothing of a request ever moves to another thread.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use access::sources::Sources;
use runtime::{
    accept::{After, Errors, PAUSE},
    drain::Drain,
};
use snapshot::{ClusterName, Reader, Version};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, sync::watch, time::Instant};

use crate::{
    access_log::AtExit,
    arrival::Arrival,
    clock,
    config::{Config, Problem},
    connection::Connection,
    downstream::Downstream,
    exchange::spare,
    seats::Seat,
    secured::{Secured, TlsProblem},
    shared::{Shared, Welcome, Worker},
    table::RouteEntry,
};

/// How often idle connections to endpoints are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Bound listeners, not served yet: connections wait in the backlog.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    drain: Drain,
    /// A listener for each worker, for each listener of the configuration.
    listeners: Vec<Vec<TcpListener>>,
    /// A thread for each worker, waiting for its work, and one that makes tables.
    workers: Vec<Thread>,
    tables: Thread,
}

/// A server whose workers run.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    drain: Drain,
    /// Ends accepting, keep-alive, and following snapshots. Changes once, to how long an idle connection may then still bring a
    /// request.
    shutdown: watch::Sender<Duration>,
    /// Ends the workers, whatever they are doing.
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    /// Last, when nothing is there any more that could log.
    log: AtExit,
}

/// What the rest of the process may ask of a running server, and tell it.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// A route, as far as its readiness goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteState {
    /// Its name.
    pub name: Arc<str>,
    /// The cluster that it leads to.
    pub cluster: ClusterName,
    /// Whether an endpoint of that is ready.
    pub has_endpoint: bool,
    /// Why there is none that could be, where that is known.
    pub why_none: String,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections and stragglers that were cut because their time was up.
    pub cut: usize,
}

/// Why the listeners cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration contradicts itself.
    #[error("{}", list(.0))]
    Config(Vec<Problem>),
    /// Files of certificates or keys cannot be used.
    #[error("{}", list(.0))]
    Tls(Vec<TlsProblem>),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {why}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system reports.
        why: io::Error,
    },
    /// A thread or its runtime cannot be had.
    #[error("cannot start a worker: {0}; raise the limit of file descriptors (ulimit -n) or of processes")]
    Thread(io::Error),
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration contradicts itself.
    #[error("{}", list(.0))]
    Config(Vec<Problem>),
    /// Files of certificates or keys cannot be used.
    #[error("{}", list(.0))]
    Tls(Vec<TlsProblem>),
    /// Something changed that only a new process can take.
    #[error("{0} cannot change while the process runs: restart it, or put the old value back")]
    Restart(&'static str),
}

fn list(problems: &[impl ToString]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

// === impl Server ===

impl Server {
    /// Binds every listener; port 0 takes a free port. Requests will see the endpoints that `reader` has.
    ///
    /// # Errors
    /// [`BindError`] where the configuration contradicts itself or an address cannot be had.
    pub fn bind(config: Config, reader: Reader) -> Result<Self, BindError> {
        Self::bind_with(config, reader, Arc::default())
    }

    /// The same, for listeners that authenticate callers with what is there. Token files must be followed already.
    ///
    /// # Errors
    /// Like [`bind`](Self::bind).
    pub fn bind_with(config: Config, reader: Reader, access: Arc<Sources>) -> Result<Self, BindError> {
        let problems = config.check();
        if !problems.is_empty() {
            return Err(BindError::Config(problems));
        }
        let secured = Secured::load(&config, None).map_err(BindError::Tls)?;
        let mut listeners = Vec::new();
        let mut bound = Vec::new();
        for listener in &config.listeners {
            let listen = |address| listen(address).map_err(|why| BindError::Listen { address, why });
            let first = listen(listener.address)?;
            let address = first.local_addr().map_err(|why| BindError::Listen { address: listener.address, why })?;
            let mut sockets = vec![first];
            while sockets.len() < config.threads {
                sockets.push(listen(address)?);
            }
            bound.push(address);
            listeners.push(sockets);
        }
        let worker = |index| Thread::new(format!("worker-{index}")).map_err(BindError::Thread);
        let workers = (0..config.threads).map(worker).collect::<Result<_, _>>()?;
        let tables = Thread::new("tables".into()).map_err(BindError::Thread)?;
        let drain = Drain::new();
        let shared = Arc::new(Shared::new(config, secured, reader, access, bound, &drain));
        Ok(Self { shared, drain, listeners, workers, tables })
    }

    /// The addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.bound
    }

    /// Starts the workers.
    #[must_use]
    pub fn start(self) -> Running {
        let (shutdown, shut) = watch::channel(Duration::ZERO);
        let (stop, stopped) = watch::channel(false);
        let mut listeners: Vec<_> =
            self.shared.bound.iter().copied().zip(self.listeners.into_iter().map(Vec::into_iter)).collect();
        let mut threads = Vec::new();
        for (index, thread) in self.workers.into_iter().enumerate() {
            let worker = Arc::new(Worker { index, shared: self.shared.clone() });
            let sockets = listeners.iter_mut().filter_map(|(address, sockets)| Some((*address, sockets.next()?)));
            threads.push(thread.run(serve(worker, sockets.collect(), shut.clone(), stopped.clone())));
        }
        threads.push(self.tables.run(follow(self.shared.clone(), shut)));
        let log = AtExit(self.shared.log.clone());
        Running { handle: Handle { shared: self.shared }, drain: self.drain, shutdown, stop, threads, log }
    }
}

/// A listening socket that shares its address with those of the other workers.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A thread with a runtime of its own, waiting for what to run. It ends with that, or when it is dropped.
#[derive(Debug)]
struct Thread {
    work: mpsc::SyncSender<Work>,
    join: JoinHandle<()>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Thread {
    /// Starts the thread. Whatever may be short is taken here, so that no worker is missing later.
    fn new(name: String) -> io::Result<Self> {
        let (work, taken) = mpsc::sync_channel::<Work>(1);
        let (ready, started) = mpsc::sync_channel(1);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (outcome, runtime) = match runtime {
                Ok(runtime) => (Ok(()), Some(runtime)),
                Err(error) => (Err(error), None),
            };
            // Where nobody listens any more, no work comes either.
            let _ = ready.send(outcome);
            if let (Some(runtime), Ok(work)) = (runtime, taken.recv()) {
                runtime.block_on(work);
            }
        };
        let join = std::thread::Builder::new().name(name).spawn(run)?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { work, join })
    }

    fn run(self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        // The thread waits for exactly this.
        let _ = self.work.send(Box::pin(work));
        self.join
    }
}

/// The life of a worker: its listeners until the shutdown, its connections until they end or are stopped.
async fn serve(
    worker: Arc<Worker>,
    sockets: Vec<(SocketAddr, TcpListener)>,
    shutdown: watch::Receiver<Duration>,
    mut stop: watch::Receiver<bool>,
) {
    let sweeper = tokio::spawn(sweep(worker.clone()));
    let services = sockets.into_iter().enumerate().map(|(listener, (address, socket))| {
        let app = Arc::new(App { worker: worker.clone(), listener });
        accept(app, address, socket, shutdown.clone())
    });
    futures::future::join_all(services).await;
    // The sender is dropped only after it has said so.
    let _ = stop.wait_for(|stop| *stop).await;
    sweeper.abort();
}

/// Accepts connections until the shutdown, and then those that had come in before it.
async fn accept(app: Arc<App>, address: SocketAddr, socket: TcpListener, flag: watch::Receiver<Duration>) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            return tracing::error!(%address, %error, "a worker cannot accept connections; restart the process");
        }
    };
    // The flag itself is never marked as seen: that is how connections learn of the shutdown, whenever they come.
    let (mut shutdown, mut errors) = (flag.clone(), Errors::default());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown.changed() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                errors.accepted();
                app.take(stream, peer, &flag);
            }
            Err(error) => {
                let After::Pause { tell } = errors.after(&error) else { continue };
                if tell {
                    tracing::error!(%address, %error, "cannot accept connections, trying again; raise the limit (ulimit -n)");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // To close the socket would reset what waits to be accepted.
    let Ok(rest) = listener.into_std() else { return };
    while let Ok((stream, peer)) = rest.accept() {
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            app.take(stream, peer, &flag);
        }
    }
}

/// Closes idle connections to endpoints that have been idle for too long or were closed by the endpoint, and lets go of
/// memory that no request needs.
async fn sweep(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let (table, now) = (worker.shared.table.load_full(), Instant::now());
        for target in table.targets() {
            target.sweep(worker.index, now, worker.shared.limits.pool_idle);
        }
        spare::forget();
    }
}

/// Keeps the table in step with the snapshot.
async fn follow(shared: Arc<Shared>, mut shutdown: watch::Receiver<Duration>) {
    let mut reader = shared.reader();
    let mut seen = shared.table.load().version.sequence;
    loop {
        let newer = tokio::select! {
            newer = reader.newer_than(seen) => newer,
            _ = shutdown.changed() => return,
        };
        let Ok(newer) = newer else {
            // No newer snapshot will ever come: what there is stays in force.
            return;
        };
        seen = newer.version().sequence;
        shared.rebuild(None);
    }
}

/// One listener of one worker.
struct App {
    worker: Arc<Worker>,
    listener: usize,
}

impl App {
    /// Takes a connection that was accepted, and serves it in a task of its own.
    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, shutdown: &watch::Receiver<Duration>) {
        // What is written is whole heads and bodies: waiting for more would only delay it. A socket that cannot is gone.
        let _ = stream.set_nodelay(true);
        let (app, shutdown) = (self.clone(), shutdown.clone());
        // Registered before anyone can see that nothing is left to wait for.
        let work = self.worker.shared.work.begin_work();
        tokio::spawn(async move {
            app.serve(stream, peer, shutdown).await;
            drop(work);
        });
    }

    /// What is done before the first head; none where the connection is not to be served.
    async fn arrive(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        seat: &Seat,
        shutdown: &watch::Receiver<Duration>,
    ) -> Option<Downstream> {
        let shared = &self.worker.shared;
        let (config, tls) = {
            let table = shared.table.load();
            let config = table.listeners.get(self.listener)?.config.clone();
            (config, table.secured.listener(self.listener).cloned())
        };
        let listener = shared.bound.get(self.listener).copied().unwrap_or(config.address);
        let arrival = Arrival { stream, peer, config: &config, tls, listener };
        if arrival.is_plain() {
            return Some(Downstream::new(arrival.stream, peer));
        }
        // Boxed, because it is large and most connections are in clear.
        Box::pin(arrival.arrive(seat, shutdown)).await
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, shutdown: watch::Receiver<Duration>) {
        let (connected, welcome) = self.worker.shared.connect(peer.ip());
        let seat = connected.seat.clone();
        let Some(client) = self.arrive(stream, peer, &seat, &shutdown).await else { return };
        let connection = Connection::new(&self.worker.shared, self.listener, client, shutdown, &connected);
        let Some(connection) = connection else { return };
        match welcome {
            Welcome::Room => clock::per_wake_up(connection.serve(&self.worker)).await,
            Welcome::Full | Welcome::ClientFull => {
                clock::per_wake_up(connection.refuse(&self.worker.shared, welcome)).await;
            }
        }
    }
}

// === impl Running ===

impl Running {
    /// What the rest of the process may ask.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends in order: no new connections, what is in flight finishes, and each kept connection may bring one more request, which
    /// may be on its way: it is closed when it has brought none for so long as `idle` says. What has not ended at the
    /// time-out is cut, and what is to be logged is written.
    pub async fn drain(self, idle: Duration, timeout: Duration) -> Drained {
        self.shutdown.send_replace(idle);
        self.drain.start();
        let cut = self.drain.wait_idle(timeout).await;
        self.stop.send_replace(true);
        for target in self.handle.shared.table.load().targets() {
            target.retire();
        }
        let (threads, log) = (self.threads, self.log);
        // Threads end at once now; joining them must not block the runtime this is called from.
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            drop(log);
        });
        let _ = joined.await;
        Drained { cut }
    }
}

// === impl Handle ===

impl Handle {
    /// Takes another configuration for the requests to come. Those under way keep what they began with.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing has changed then.
    pub fn reload(&self, config: Config) -> Result<(), ReloadError> {
        let problems = config.check();
        if !problems.is_empty() {
            return Err(ReloadError::Config(problems));
        }
        let current = self.config();
        let addresses = |config: &Config| config.listeners.iter().map(|l| l.address).collect::<Vec<_>>();
        let restart = [
            ("the addresses of the listeners", addresses(&config) != addresses(&current)),
            ("the number of threads", config.threads != current.threads),
            ("the limits of the process", config.limits != current.limits),
            ("the format of the access log", config.access_log != current.access_log),
        ];
        if let Some((what, _)) = restart.into_iter().find(|(_, changed)| *changed) {
            return Err(ReloadError::Restart(what));
        }
        let secured = Secured::load(&config, Some(&self.shared.table.load().secured)).map_err(ReloadError::Tls)?;
        self.shared.rebuild(Some((Arc::new(config), secured)));
        Ok(())
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.shared.table.load().config.clone()
    }

    /// The version of the snapshot that requests are served from. It changes after the table has: whoever sees a version
    /// here knows that requests see its endpoints.
    #[must_use]
    pub fn in_service(&self) -> watch::Receiver<Version> {
        self.shared.tables.subscribe()
    }

    /// Every route with the cluster that it leads to, and whether it has an endpoint that is ready.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteState> {
        let table = self.shared.table.load();
        let state = |route: &Arc<RouteEntry>| RouteState {
            name: route.config.name.clone(),
            cluster: route.config.cluster.clone(),
            has_endpoint: route.members.iter().any(|member| member.ready),
            why_none: route.without_endpoint().unwrap_or_default().into_owned(),
        };
        table.routes().map(state).collect()
    }

    /// The endpoints of every route, with how their last legs ended.
    #[must_use]
    pub fn endpoints(&self) -> serde_json::Value {
        crate::introspect::endpoints(&self.shared.table.load())
    }

    /// The clients with most connections as JSON, for `/-/clients`.
    #[must_use]
    pub fn clients(&self) -> serde_json::Value {
        crate::introspect::clients(&self.shared.clients)
    }

    /// The numbers of the data plane in the Prometheus text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        crate::metrics::render(&self.shared)
    }

    /// Requests in flight, stragglers included.
    #[must_use]
    pub fn inflight(&self) -> usize {
        self.shared.inflight.load(Ordering::Relaxed) + self.shared.straggling.load(Ordering::Relaxed)
    }
}
