//! A target: an endpoint with its idle connections and metrics.
//!
//! Targets outlive snapshots as long as their endpoint stays; when it goes, its idle connections are closed with it.

mod counts;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use runtime::tls::{self, Protocol};
use snapshot::{Endpoint, Place};
use tokio::time::Instant;

pub use self::counts::LegCounts;
use crate::{
    config::{Channel, Manner, Policy},
    dial::Dial,
    multiplex::{Multiplexed, StreamSlot},
    outcome::{LegError, Outcome},
    proxy_error::ProxyError,
    reach::Reach,
    secured::Secured,
    transport::{self, Io},
};

/// The idle time after which a connection may have just been closed by its endpoint.
const LONG_IDLE: Duration = Duration::from_secs(1);

/// An endpoint with its connections and metrics.
#[derive(Debug)]
pub struct Target {
    /// The endpoint, shared with the snapshot.
    pub endpoint: Arc<Endpoint<Place>>,
    /// Whether requests may be sent to it. Otherwise (it is not ready, or its name does not resolve) its leg counts as failed at once.
    pub is_ready: bool,
    /// Whether its pod or host has a name by which it can be called.
    is_named: bool,
    /// Its protocol.
    pub protocol: WireProtocol,
    /// How many threads have connections of their own to it.
    workers: u32,
    /// Idle connections, a shard for each worker: a connection lives and dies on one thread. Made for the first one.
    idle: OnceLock<Box<[Mutex<Vec<Idle>>]>>,
    retired: AtomicBool,
    /// Made when it is first needed: most endpoints of a large table are idle.
    seldom: OnceLock<Box<Seldom>>,
    secure: Secure,
    /// Whether the last negotiation resulted in HTTP/1.1.
    agreed_http1: AtomicBool,
    inflight: AtomicUsize,
    /// How its legs ended.
    pub counts: LegCounts,
}

/// What a request over a kept HTTP/1.1 connection does not need, nor a target without requests.
#[derive(Debug)]
struct Seldom {
    reach: Reach,
    dial: Dial,
    /// Shared HTTP/2 connections, a shard for each worker; none if it does not speak HTTP/2.
    multiplexed: Box<[Arc<Multiplexed>]>,
    /// Its authority, made when it is first asked for.
    authority: OnceLock<Arc<str>>,
    /// Its key by its pod.
    pod_key: OnceLock<Arc<str>>,
}

/// The protocol of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: with prior knowledge, or as the only protocol in ALPN.
    Http2,
    /// Negotiated by ALPN.
    Negotiated,
}

/// A connection for an exchange.
#[derive(Debug)]
pub(crate) enum Opened {
    /// An HTTP/1.1 connection of its own.
    Http1(Io),
    /// A stream of an HTTP/2 connection.
    Http2(StreamSlot),
}

/// A connection attempt.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = io::Result<Opened>> + Send>>;

/// The TLS of a target, with the channel that it was made for.
#[derive(Debug)]
enum Secure {
    Clear,
    /// Boxed like the one below, because most targets use clear text.
    Tls(Box<(Channel, tls::Target)>),
    /// TLS that cannot be set up, and why.
    Broken(Box<(Channel, String)>),
}

#[derive(Debug)]
struct Idle {
    io: Io,
    since: Instant,
    /// When it is closed.
    until: Instant,
}

impl WireProtocol {
    /// Its name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "h2",
            Self::Negotiated => "auto",
        }
    }
}

impl Secure {
    fn broken(channel: Channel, why: impl Into<String>) -> Self {
        Self::Broken(Box::new((channel, why.into())))
    }
}

impl Target {
    /// A new target for `workers` threads.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint<Place>>, protocol: WireProtocol, workers: usize) -> Self {
        let visible = |name: &Arc<str>| name.bytes().all(|b| b.is_ascii_graphic());
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        Self {
            is_ready: endpoint.conditions.ready && endpoint.address.problem().is_none(),
            is_named: name(&endpoint).is_some_and(visible),
            protocol,
            workers,
            idle: OnceLock::new(),
            retired: AtomicBool::new(false),
            seldom: OnceLock::new(),
            secure: Secure::Clear,
            agreed_http1: AtomicBool::new(false),
            inflight: AtomicUsize::new(0),
            counts: LegCounts::default(),
            endpoint,
        }
    }

    /// A new target with the protocol and TLS of this policy.
    #[must_use]
    pub fn reached_by(policy: &Policy, endpoint: Arc<Endpoint<Place>>, workers: usize, secured: &Secured) -> Self {
        let Manner { protocol, channel } = policy.manner(endpoint.spoken);
        let mut target = Self::new(endpoint, protocol, workers);
        target.secure = match &channel {
            Channel::Clear => Secure::Clear,
            Channel::Contradicted(why) => Secure::broken(channel.clone(), *why),
            Channel::Tls(upstream) => {
                match (upstream.name_of(&target.endpoint), secured.endpoints(&policy.client_tls(upstream))) {
                    (Ok(name), Ok(tls)) => Secure::Tls(Box::new((channel, tls.target(name)))),
                    (Err(why), _) => Secure::broken(channel, format!("there is no name for its certificate: {why}")),
                    (_, Err(why)) => Secure::broken(channel, format!("TLS to it cannot be set up: {why}")),
                }
            }
        };
        target
    }

    /// Its readable name: the pod's or host's name, else the address.
    #[must_use]
    pub fn label(&self) -> &Arc<str> {
        name(&self.endpoint).filter(|_| self.is_named).unwrap_or_else(|| self.authority())
    }

    /// Its channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        match &self.secure {
            Secure::Clear => &Channel::Clear,
            Secure::Tls(tls) => &tls.0,
            Secure::Broken(broken) => &broken.0,
        }
    }

    /// Its address, or its name and port, as an authority; also the `Host` of requests without one, and its key by its address.
    #[must_use]
    pub fn authority(&self) -> &Arc<str> {
        self.seldom().authority.get_or_init(|| self.endpoint.address.to_string().into())
    }

    fn seldom(&self) -> &Seldom {
        self.seldom.get_or_init(|| {
            let shards = if self.protocol == WireProtocol::Http1 { 0 } else { self.workers };
            Box::new(Seldom {
                reach: Reach::default(),
                dial: Dial::default(),
                multiplexed: (0..shards).map(|_| Arc::default()).collect(),
                authority: OnceLock::new(),
                pod_key: OnceLock::new(),
            })
        })
    }

    /// Its shared HTTP/2 connections.
    fn multiplexed(&self) -> &[Arc<Multiplexed>] {
        if self.protocol == WireProtocol::Http1 { &[] } else { &self.seldom().multiplexed }
    }

    /// The same, without making them.
    fn made_multiplexed(&self) -> &[Arc<Multiplexed>] {
        self.seldom.get().map_or(&[], |made| &made.multiplexed)
    }

    /// Its key by its pod, if it has one, which stays the same at another address.
    pub(crate) fn pod_key(&self) -> Option<&Arc<str>> {
        let pod = self.endpoint.pod.as_ref()?;
        let port = || self.endpoint.address.addresses().first().map_or(0, |address| address.port());
        Some(self.seldom().pod_key.get_or_init(|| format!("{}/{}:{}", pod.namespace, pod.name, port()).into()))
    }

    fn shards(&self) -> &[Mutex<Vec<Idle>>] {
        self.idle.get_or_init(|| (0..self.workers).map(|_| Mutex::default()).collect())
    }

    /// Whether it has the protocol and TLS of this policy.
    #[must_use]
    pub fn is_reached_by(&self, policy: &Policy) -> bool {
        let Manner { protocol, channel } = policy.manner(self.endpoint.spoken);
        self.protocol == protocol && *self.channel() == channel
    }

    /// Counts a leg as in flight, unless `cap` legs are already. Returns whether it did; a counted leg must [`leave`](Self::leave).
    #[must_use]
    pub fn admit(&self, cap: usize) -> bool {
        let admitted = self.inflight.fetch_add(1, Ordering::Relaxed) < cap;
        if !admitted {
            self.leave();
        }
        admitted
    }

    /// Marks a counted leg as no longer in flight.
    pub fn leave(&self) {
        self.inflight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Legs in flight now.
    #[must_use]
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Connects, or waits for its turn while the endpoint is silent. The caller enforces the time-out `limit`, and reports when it
    /// [has passed](Self::connect_timed_out). With shared connections there are at most `cap` per worker; beyond that it waits for
    /// a stream.
    #[must_use]
    pub(crate) fn connect(self: &Arc<Self>, worker: usize, limit: Duration, cap: usize) -> Connecting {
        let target = self.clone();
        Box::pin(async move {
            match target.multiplexed().get(worker) {
                None => target.connect_once(limit).await.map(|(io, _)| Opened::Http1(io)),
                Some(multiplexed) => multiplexed.open(cap, || target.connect_once(limit), || target.may_share()).await,
            }
        })
    }

    /// Connects, and determines the protocol.
    async fn connect_once(&self, limit: Duration) -> io::Result<(Io, Protocol)> {
        let place = &self.endpoint.address;
        let connecting = async {
            let io = self.seldom().dial.connect(place.addresses(), limit).await?;
            match (&self.secure, io) {
                (Secure::Clear, io) => Ok((io, self.known_protocol())),
                // Boxed, because it is large and most connections use clear text.
                (Secure::Tls(tls), Io::Tcp(stream)) => Box::pin(transport::secure(stream, &tls.1, limit)).await,
                (Secure::Tls(_), Io::Tls(_)) => Err(io::ErrorKind::AlreadyExists.into()),
                (Secure::Broken(broken), _) => Err(io::Error::other(broken.1.clone())),
            }
        };
        let connected = self.seldom().reach.connect(connecting).await;
        match &connected {
            Ok((_, protocol)) => self.agreed_http1.store(*protocol == Protocol::Http1, Ordering::Relaxed),
            Err(_) => place.recheck(),
        }
        connected
    }

    /// The protocol in clear text.
    fn known_protocol(&self) -> Protocol {
        match self.protocol {
            WireProtocol::Http1 | WireProtocol::Negotiated => Protocol::Http1,
            WireProtocol::Http2 => Protocol::Http2,
        }
    }

    /// Its version of HTTP: the configured one, or else the last negotiated one.
    pub(crate) fn version(&self) -> &'static str {
        match self.protocol {
            WireProtocol::Http1 => "1.1",
            WireProtocol::Negotiated if self.agreed_http1.load(Ordering::Relaxed) => "1.1",
            WireProtocol::Http2 | WireProtocol::Negotiated => "2",
        }
    }

    /// Whether exchanges may share connections to it.
    fn may_share(&self) -> bool {
        self.protocol == WireProtocol::Http2 || !self.agreed_http1.load(Ordering::Relaxed)
    }

    /// Notes that a connect timed out.
    pub fn connect_timed_out(&self) {
        self.seldom().reach.doubt();
        self.endpoint.address.recheck();
    }

    /// The outcome of a leg that is not attempted: its name does not resolve, which requests another lookup, or it is not ready.
    #[must_use]
    pub fn unavailable(&self) -> (Outcome, LegError) {
        match self.endpoint.address.problem() {
            Some(why) => {
                self.endpoint.address.recheck();
                (Outcome::Connect, LegError::new(ProxyError::DnsError, format!("the name does not resolve: {why}")))
            }
            None => (Outcome::Rejected, LegError::new(ProxyError::DestinationUnavailable, "the endpoint is not ready")),
        }
    }

    /// Takes a usable idle connection, and closes unusable ones. For a request that must not be sent twice (`once`), a connection
    /// that has been idle for long is checked with a system call.
    #[must_use]
    pub(crate) fn checkout(&self, worker: usize, now: Instant, once: bool) -> Option<Opened> {
        if let Some(multiplexed) = self.multiplexed().get(worker) {
            let slot = multiplexed.take();
            if slot.is_some() || self.protocol == WireProtocol::Http2 {
                return slot.map(Opened::Http2);
            }
        }
        let mut idle = self.idle.get()?[worker].lock();
        while let Some(mut candidate) = idle.pop() {
            let closely = once && now.saturating_duration_since(candidate.since) > LONG_IDLE;
            if now < candidate.until && candidate.io.is_quiet() && (!closely || candidate.io.is_still_quiet()) {
                return Some(Opened::Http1(candidate.io));
            }
        }
        None
    }

    /// Keeps a connection for reuse, or closes it if there are `cap` already or the target is retired.
    pub fn checkin(&self, worker: usize, io: Io, since: Instant, keep: Duration, cap: usize) {
        let mut idle = self.shards()[worker].lock();
        if idle.len() < cap && !self.retired.load(Ordering::Acquire) {
            idle.push(Idle { io, since, until: since + keep });
        }
    }

    /// Closes connections that have been idle for too long or were closed by the endpoint. Runs on the worker's own thread.
    pub fn sweep(&self, worker: usize, now: Instant, keep: Duration) {
        if let Some(multiplexed) = self.made_multiplexed().get(worker) {
            multiplexed.sweep(now, keep);
        }
        if let Some(shards) = self.idle.get() {
            shards[worker].lock().retain_mut(|idle| now < idle.until && idle.io.is_quiet());
        }
    }

    /// Retires the target: closes its idle connections, and keeps none from now on.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        // Made if need be: whoever keeps a connection at this moment then has the lock before this, or sees that the target is retired.
        for shard in self.shards() {
            shard.lock().clear();
        }
        self.multiplexed().iter().for_each(|multiplexed| multiplexed.clear());
    }

    /// The number of idle connections.
    #[must_use]
    pub fn idle(&self) -> usize {
        let own: usize = self.idle.get().into_iter().flatten().map(|shard| shard.lock().len()).sum();
        own + self.made_multiplexed().iter().map(|multiplexed| multiplexed.idle()).sum::<usize>()
    }
}

/// The name of its pod or host, if there is one.
fn name(endpoint: &Endpoint<Place>) -> Option<&Arc<str>> {
    endpoint.pod.as_ref().map(|pod| &pod.name).or(endpoint.hostname.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_at(address: std::net::SocketAddr) -> Arc<Target> {
        Arc::new(Target::new(Arc::new(Endpoint::ready(address).into()), WireProtocol::Http1, 1))
    }

    fn target() -> Arc<Target> {
        target_at("[2001:db8::1]:80".parse().unwrap())
    }

    #[test]
    fn the_cap_on_legs_in_flight_holds() {
        let target = target();
        assert!(target.admit(2) && target.admit(2));
        assert!(!target.admit(2));
        assert_eq!(target.inflight(), 2, "a refused leg is not counted");
        target.leave();
        assert!(target.admit(2));
    }

    #[tokio::test]
    async fn a_request_that_must_not_be_repeated_gets_no_idle_connection_that_was_just_closed() {
        for (rested, once, want) in [(true, true, false), (true, false, true), (false, true, true)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let target = target_at(listener.local_addr().unwrap());
            let (io, _) = target.connect_once(Duration::from_secs(60)).await.unwrap();
            let (peer, _) = listener.accept().unwrap();
            let since = Instant::now();
            target.checkin(0, io, since, Duration::from_secs(60), 1);
            // Closed after the runtime has last asked the system: it learns of that only when this task waits.
            drop(peer);
            let now = since + if rested { LONG_IDLE * 2 } else { LONG_IDLE / 2 };
            assert_eq!(target.checkout(0, now, once).is_some(), want, "rested: {rested}, once: {once}");
        }
    }

    #[test]
    fn a_target_without_connections_takes_little_memory() {
        let target = target();
        // With its reference counts, 128 bytes, which is a size that the allocator has.
        assert!(size_of::<Target>() <= 112, "{}", size_of::<Target>());
        assert!(target.idle.get().is_none() && target.seldom.get().is_none());
        assert_eq!(target.label().as_ptr(), target.authority().as_ptr(), "they are one text");
    }

    #[test]
    fn an_endpoint_without_a_name_is_called_by_its_address() {
        assert_eq!((&**target().label(), &**target().authority()), ("[2001:db8::1]:80", "[2001:db8::1]:80"));
    }
}
