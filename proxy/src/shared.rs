//! What all connections of a server share, and what those of one worker do.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use access::{
    clients::{self, Clients},
    sources::Sources,
};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use runtime::drain::{Drain, DrainWatch};
use snapshot::{Reader, Version};
use tokio::sync::watch;

use crate::{
    access_log::{Log, LogRecord},
    clock,
    config::{Config, Limits},
    connection::Place,
    events::Events,
    exchange::{Exchange, alarm::Alarm, budget::Budget},
    http2::{ahead::SendAhead, resets::AddressResets},
    metrics::{RefusedRequests, RequestResult},
    owed::Stores,
    report,
    seats::{Seat, Seats},
    secured::Secured,
    table::Table,
};

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// What requests look up.
    pub table: ArcSwap<Table>,
    /// Says that there is another table; readers of it look at the table themselves.
    pub(crate) tables: watch::Sender<Version>,
    /// How many tables there were before the one in force.
    made: AtomicU64,
    /// Held while a new table is made, never by requests.
    building: Mutex<()>,
    reader: Reader,
    /// What listeners authenticate callers with.
    access: Arc<Sources>,
    /// The addresses the listeners really have, in the order of the configuration.
    pub bound: Vec<SocketAddr>,
    /// Bounds of the process.
    pub limits: Limits,
    /// What is kept in memory of bodies.
    pub budget: Arc<Budget>,
    /// What clients of HTTP/2 may send beyond that.
    pub(crate) ahead: Arc<SendAhead>,
    /// The access log.
    pub log: Log,
    /// Those who watch what happens.
    pub(crate) events: Arc<Events>,
    /// Requests that never had a route.
    pub refused: RefusedRequests,
    /// Client connections.
    pub connections: AtomicUsize,
    /// How many there may be.
    connections_cap: usize,
    /// How many of them each client address has.
    pub clients: Arc<Clients>,
    /// Which of them makes room for another.
    seats: Seats,
    /// How many streams of HTTP/2 clients have reset, by their addresses.
    pub(crate) resets: AddressResets,
    /// Requests in flight.
    pub inflight: AtomicUsize,
    /// Requests of which only stragglers are left.
    pub straggling: AtomicUsize,
    /// Counts what a drain waits for.
    pub work: DrainWatch,
    /// What endpoints missed.
    pub(crate) owed: Stores,
}

/// One thread with its connections.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its number, which is also its shard of every pool.
    pub index: usize,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
}

/// A request in flight; ends with it.
#[derive(Debug)]
pub struct InflightGuard<'a>(&'a AtomicUsize);

/// A client connection; ends with it.
#[derive(Debug)]
pub struct Connected {
    shared: Arc<Shared>,
    pub(crate) seat: Arc<Seat>,
    /// None where its client has as many as it may, or is not known yet.
    of_client: Option<clients::Connected>,
}

/// Whether there is room for a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// There is.
    Room,
    /// There are as many as may be.
    Full,
    /// Its client address has as many as it may.
    ClientFull,
}

impl Shared {
    /// State for these listeners, with a table made from the snapshot in force.
    #[must_use]
    pub fn new(
        config: Config,
        secured: Arc<Secured>,
        reader: Reader,
        access: Arc<Sources>,
        bound: Vec<SocketAddr>,
        drain: &Drain,
        owed: Stores,
    ) -> Self {
        let (config, events) = (Arc::new(config), Events::new());
        secured.show_handshakes(&bound);
        let snapshot = reader.load().clone();
        let table = Table::build_owing(None, &config, &snapshot, &bound, &access, &secured, &owed);
        owed.publish(&table, |route| snapshot.cluster(route.cluster.as_str()).is_some());
        let budget = Budget::new(config.limits.buffered);
        Self {
            tables: watch::Sender::new(table.version),
            table: ArcSwap::from_pointee(table),
            made: AtomicU64::new(0),
            building: Mutex::new(()),
            reader,
            access,
            clients: Arc::default(),
            bound,
            limits: config.limits.clone(),
            ahead: SendAhead::new(config.limits.buffered, budget.clone()),
            budget,
            log: Log::start(config.access_log, events.clone()),
            events,
            refused: RefusedRequests::default(),
            connections: AtomicUsize::new(0),
            connections_cap: connections_cap(config.limits.connections),
            seats: Seats::default(),
            resets: AddressResets::default(),
            inflight: AtomicUsize::new(0),
            straggling: AtomicUsize::new(0),
            work: drain.watch(),
            owed,
        }
    }

    /// Makes and publishes a table from the snapshot in force and, where given, another configuration.
    pub fn rebuild(&self, config: Option<(Arc<Config>, Arc<Secured>)>) {
        let _building = self.building.lock();
        let current = self.table.load_full();
        if let Some((_, secured)) = &config {
            secured.show_handshakes(&self.bound);
        }
        let (config, secured) = config.unwrap_or_else(|| (current.config.clone(), current.secured.clone()));
        let snapshot = self.reader.load().clone();
        let (bound, access) = (&self.bound, &self.access);
        let next = Table::build_owing(Some(&current), &config, &snapshot, bound, access, &secured, &self.owed);
        let next = Arc::new(next);
        self.owed.publish(&next, |route| snapshot.cluster(route.cluster.as_str()).is_some());
        self.table.store(next.clone());
        self.made.fetch_add(1, Ordering::Release);
        self.tables.send_replace(next.version);
        self.events.table(&current, &next);
        current.retire_unless_in(&next);
    }

    /// A number that changes with every table: to see that there is no other costs less than to load it.
    #[must_use]
    pub fn tables_made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// A reader of the snapshots, to wait for newer ones.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Counts a request, unless there are as many as may be.
    #[must_use]
    pub fn admit(&self) -> Option<InflightGuard<'_>> {
        let before = self.inflight.fetch_add(1, Ordering::Relaxed);
        let admitted = InflightGuard(&self.inflight);
        (before < self.limits.inflight).then_some(admitted)
    }

    /// Counts a client connection; whether there is room for it. Where there is none, the one that has been longest without a whole
    /// request makes it. Without an address it is not known yet [whose it is](Connected::is_of).
    #[must_use]
    pub fn connect(self: &Arc<Self>, client: Option<IpAddr>) -> (Connected, Welcome) {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let of_client = client.and_then(|client| self.connect_client(client));
        let welcome = match &of_client {
            // Nobody else makes room for a client that has more than its share.
            None if client.is_some() => Welcome::ClientFull,
            _ if before < self.connections_cap || self.seats.make_room() => Welcome::Room,
            _ => Welcome::Full,
        };
        (Connected { shared: self.clone(), seat: self.seats.enter(), of_client }, welcome)
    }

    fn connect_client(&self, client: IpAddr) -> Option<clients::Connected> {
        self.clients.connect(client, self.limits.connections_per_client)
    }

    /// The answer is out: runs what is left of the legs, then does what comes last. Until then the request occupies its place.
    pub(crate) fn conclude(
        self: &Arc<Self>,
        mut exchange: Box<Exchange>,
        answered: RequestResult,
        record: Option<LogRecord>,
        place: Option<Place>,
    ) {
        if exchange.is_over() {
            self.last_leg_ended(exchange, answered, record.as_ref());
            return;
        }
        let (shared, work) = (self.clone(), self.work.begin_work());
        self.straggling.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let mut alarm = Alarm::default();
            clock::per_wake_up(std::future::poll_fn(|cx| exchange.poll_rest(cx, &mut alarm))).await;
            shared.last_leg_ended(exchange, answered, record.as_ref());
            shared.straggling.fetch_sub(1, Ordering::Relaxed);
            drop((work, place));
        });
    }

    fn last_leg_ended(&self, exchange: Box<Exchange>, answered: RequestResult, record: Option<&LogRecord>) {
        let now = clock::now();
        let completed = report::completed(&exchange, answered);
        exchange.route().metrics.completed(completed);
        for leg in exchange.legs() {
            exchange.route().metrics.legs.observe(leg.elapsed(now));
            if let Some(code) = leg.code() {
                exchange.route().metrics.grpc_leg_ended(code);
            }
        }
        let comparison = exchange.comparison();
        if comparison.is_some_and(|comparison| comparison.divergent > 0) {
            exchange.route().metrics.divergent.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(record) = record {
            record.write(&self.log, &exchange.route().config.name, completed, Some((&exchange, comparison)));
        }
        exchange.put_aside();
    }
}

/// Takes the file descriptors that the system gives, and tells the limit of client connections: at most three quarters of
/// them, so that some are left to tell one client too many so, and for the connections to endpoints.
fn connections_cap(configured: usize) -> usize {
    let limit = runtime::limits::raise_open_files();
    runtime::limits::make_room_for_open_files();
    let Some(descriptors) = limit.now else { return configured };
    let most = usize::try_from(descriptors / 4 * 3).unwrap_or(configured).max(1);
    if most < configured {
        tracing::warn!(
            descriptors,
            configured,
            "at most {most} client connections at a time: the limit of file descriptors (ulimit -n) allows no more"
        );
    }
    configured.min(most)
}

impl Drop for InflightGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected {
    /// Counts it as one of this client, of which nothing was known before.
    pub(crate) fn is_of(&mut self, client: IpAddr) {
        self.of_client = self.shared.connect_client(client);
    }

    /// Whether it is counted as one of its client.
    pub(crate) fn is_counted(&self) -> bool {
        self.of_client.is_some()
    }

    /// What counts its requests; none where its client has as many connections as it may.
    pub(crate) fn requests(&self) -> Option<clients::Requests> {
        self.of_client.as_ref().map(clients::Connected::requests)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shared.seats.leave(&self.seat);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
