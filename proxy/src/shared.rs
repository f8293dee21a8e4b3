//! The state that all connections of a server share, and that of one worker.

use std::{
    hint::cold_path,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
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
use spans::{RemoteParent, RequestTrace, Tracer};
use tokio::sync::watch;

use crate::{
    access_log::{Log, LogRecord},
    clock,
    config::{Config, Limits},
    connection::Place,
    events::Events,
    exchange::{Exchange, Leg, alarm::Alarm, budget::Budget},
    http::{Class, request::RequestHead},
    http2::{ahead::SendAhead, resets::AddressResets},
    metrics::{RefusedRequests, RequestResult},
    owed::Stores,
    report,
    seats::{Seat, Seats},
    secured::Secured,
    table::{Built, Inputs, Table, TableBuilder},
    traces::RequestSpan,
};

/// The state that all connections share.
#[derive(Debug)]
pub struct Shared {
    /// The current table.
    pub table: ArcSwap<Table>,
    /// Notifies of a new table, which receivers load themselves.
    pub(crate) tables: watch::Sender<Version>,
    /// The number of tables before the current one.
    made: AtomicU64,
    /// Builds the tables, never for requests.
    building: Mutex<TableBuilder>,
    reader: Reader,
    /// The sources for authenticating callers.
    access: Arc<Sources>,
    /// The bound addresses of the listeners, in the order of the configuration.
    pub bound: Vec<SocketAddr>,
    /// Bounds of the process.
    pub limits: Limits,
    /// The budget for bodies in memory.
    pub budget: Arc<Budget>,
    /// The flow-control credit that HTTP/2 clients have beyond that.
    pub(crate) ahead: Arc<SendAhead>,
    /// The access log.
    pub log: Log,
    /// The tracer, if tracing is configured.
    pub(crate) tracer: Option<Tracer>,
    /// Those who watch what happens.
    pub(crate) events: Arc<Events>,
    /// Requests that never had a route.
    pub refused: RefusedRequests,
    /// Whether there have been so many endpoints that metrics are by route.
    pub(crate) many_endpoints: AtomicBool,
    /// Client connections.
    pub connections: AtomicUsize,
    /// The limit of client connections.
    connections_cap: usize,
    /// The connections of each client address.
    pub clients: Arc<Clients>,
    /// Finds the connection to evict for another one.
    seats: Seats,
    /// The reset streams of HTTP/2 clients, by address.
    pub(crate) resets: AddressResets,
    /// Requests in flight.
    pub inflight: AtomicUsize,
    /// Requests of which only stragglers are left.
    pub straggling: AtomicUsize,
    /// Counts the work that a drain waits for.
    pub work: DrainWatch,
    /// The redelivery of missed requests.
    pub(crate) owed: Stores,
}

/// What runs beside the workers.
pub struct Services {
    /// The redelivery of missed requests.
    pub(crate) owed: Stores,
    /// The tracer, if tracing is configured.
    pub(crate) tracer: Option<Tracer>,
}

/// One thread with its connections.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its number, which is also its shard of every pool.
    pub index: usize,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
}

/// An answered request, with the records to be completed when its last leg has ended.
#[derive(Debug)]
pub(crate) struct Concluded {
    pub(crate) answered: RequestResult,
    /// Its log record, if it is logged.
    pub(crate) record: Option<LogRecord>,
    /// Its span, if its trace is recorded.
    pub(crate) span: Option<Box<RequestSpan>>,
}

/// Counts a request in flight until it is dropped.
#[derive(Debug)]
pub struct InflightGuard<'a>(&'a AtomicUsize);

/// Counts a client connection until it is dropped.
#[derive(Debug)]
pub struct Connected {
    shared: Arc<Shared>,
    pub(crate) seat: Arc<Seat>,
    /// None if its client is at its limit, or not known yet.
    of_client: Option<clients::Connected>,
}

/// Whether there is room for a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// There is.
    Room,
    /// The limit of all connections is reached.
    Full,
    /// The limit of its client address is reached.
    ClientFull,
}

impl Shared {
    /// The state for these listeners, with a table of the current snapshot.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        secured: Arc<Secured>,
        reader: Reader,
        access: Arc<Sources>,
        bound: Vec<SocketAddr>,
        drain: &Drain,
        Services { owed, tracer }: Services,
    ) -> Self {
        let events = Events::new();
        secured.show_handshakes(&bound);
        let snapshot = reader.load().clone();
        let mut builder = TableBuilder::default();
        let inputs = Inputs {
            config: &config,
            secured: &secured,
            snapshot: &snapshot,
            bound: &bound,
            access: &access,
            owed: &owed,
        };
        let Built { table, gone: _ } = builder.next(None, inputs);
        owed.publish(None, &table);
        let budget = Budget::new(config.limits.buffered);
        Self {
            tables: watch::Sender::new(table.version),
            table: ArcSwap::from_pointee(table),
            made: AtomicU64::new(0),
            building: Mutex::new(builder),
            reader,
            access,
            clients: Arc::default(),
            bound,
            limits: config.limits.clone(),
            ahead: SendAhead::new(config.limits.buffered, budget.clone()),
            budget,
            log: Log::start(config.access_log, events.clone()),
            events,
            tracer,
            refused: RefusedRequests::default(),
            many_endpoints: AtomicBool::new(false),
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

    /// Builds and publishes a table of the current snapshot and, if given, another configuration.
    pub fn rebuild(&self, config: Option<(Arc<Config>, Arc<Secured>)>) {
        let mut builder = self.building.lock();
        let current = self.table.load_full();
        if let Some((_, secured)) = &config {
            secured.show_handshakes(&self.bound);
        }
        let (config, secured) = config.unwrap_or_else(|| (current.config.clone(), current.secured.clone()));
        let snapshot = self.reader.load().clone();
        let inputs = Inputs {
            config: &config,
            secured: &secured,
            snapshot: &snapshot,
            bound: &self.bound,
            access: &self.access,
            owed: &self.owed,
        };
        let Built { table, gone } = builder.next(Some(&current), inputs);
        let next = Arc::new(table);
        self.owed.publish(Some(&current), &next);
        self.table.store(next.clone());
        self.made.fetch_add(1, Ordering::Release);
        self.tables.send_replace(next.version);
        self.events.table(&current, &next);
        gone.iter().for_each(|target| target.retire());
    }

    /// A number that changes with every table; reading it is cheaper than loading the table.
    #[must_use]
    pub fn tables_made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// A reader of the snapshots, to wait for newer ones.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The trace of a request, if tracing is configured.
    #[inline]
    pub(crate) fn begin_trace(&self, head: &RequestHead) -> Option<RequestTrace> {
        let tracer = self.tracer.as_ref()?;
        cold_path();
        Some(tracer.begin(RemoteParent::of(head.fields.of(Class::TraceParent))))
    }

    /// Counts a request, unless the limit is reached.
    #[must_use]
    pub fn admit(&self) -> Option<InflightGuard<'_>> {
        let before = self.inflight.fetch_add(1, Ordering::Relaxed);
        let admitted = InflightGuard(&self.inflight);
        (before < self.limits.inflight).then_some(admitted)
    }

    /// Counts a client connection, and returns whether there is room for it. At the limit the connection that has been idle longest
    /// is evicted. Without an address, the client is [set later](Connected::is_of).
    #[must_use]
    pub fn connect(self: &Arc<Self>, client: Option<IpAddr>) -> (Connected, Capacity) {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let of_client = client.and_then(|client| self.connect_client(client));
        let welcome = match &of_client {
            // Nobody else makes room for a client that has more than its share.
            None if client.is_some() => Capacity::ClientFull,
            _ if before < self.connections_cap || self.seats.make_room() => Capacity::Room,
            _ => Capacity::Full,
        };
        (Connected { shared: self.clone(), seat: self.seats.enter(), of_client }, welcome)
    }

    fn connect_client(&self, client: IpAddr) -> Option<clients::Connected> {
        self.clients.connect(client, self.limits.connections_per_client)
    }

    /// Runs the stragglers after the answer was sent, and then completes the request. Until then the request keeps its place.
    pub(crate) fn conclude(
        self: &Arc<Self>,
        mut exchange: Box<Exchange>,
        mut concluded: Concluded,
        place: Option<Place>,
    ) {
        if exchange.is_over() {
            return self.last_leg_ended(exchange, &mut concluded);
        }
        let (shared, work) = (self.clone(), self.work.begin_work());
        self.straggling.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let mut alarm = Alarm::default();
            clock::per_wake_up(std::future::poll_fn(|cx| exchange.poll_rest(cx, &mut alarm))).await;
            shared.last_leg_ended(exchange, &mut concluded);
            shared.straggling.fetch_sub(1, Ordering::Relaxed);
            drop((work, place));
        });
    }

    fn last_leg_ended(&self, exchange: Box<Exchange>, Concluded { answered, record, span }: &mut Concluded) {
        let now = clock::now();
        let completed = report::completed(&exchange, *answered);
        let (metrics, legs) = (&exchange.route().metrics, exchange.legs());
        metrics.completed(completed);
        metrics.legs.observe_all(legs.iter().map(|leg| leg.elapsed(now)));
        metrics.legs_have_ended(legs.iter().filter_map(Leg::result).map(|result| result.outcome));
        legs.iter().filter_map(Leg::code).for_each(|code| metrics.grpc_leg_ended(code));
        let comparison = exchange.comparison();
        if comparison.is_some_and(|comparison| comparison.divergent > 0) {
            cold_path();
            exchange.route().metrics.divergent.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(record) = record {
            record.write(&self.log, &exchange.route().config.name, completed, Some((&exchange, comparison)));
        }
        if let (Some(tracer), Some(span)) = (&self.tracer, span.take()) {
            cold_path();
            tracer.record(span.end(Some(&exchange), completed).into_iter());
        }
        exchange.put_aside();
    }
}

/// Raises the limit of file descriptors, and returns the limit of client connections: at most three quarters of them, so that some
/// are left for refusing further clients, and for connections to endpoints.
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
    /// Sets the client of the connection, and counts it.
    pub(crate) fn is_of(&mut self, client: IpAddr) {
        self.of_client = self.shared.connect_client(client);
    }

    /// Whether it is counted as one of its client.
    pub(crate) fn is_counted(&self) -> bool {
        self.of_client.is_some()
    }

    /// The counter for its requests; none if its client is at its limit of connections.
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
