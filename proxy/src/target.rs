//! A target: an endpoint together with what the proxy keeps for it, its idle connections and its numbers.
//!
//! Targets outlive snapshots as long as their endpoint stays; when it goes, its idle connections are closed with it.

mod counts;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
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

/// A connection that has been idle for longer than this may well have been closed by its endpoint just now.
const LONG_IDLE: Duration = Duration::from_secs(1);

/// An endpoint and what is kept for it.
#[derive(Debug)]
pub struct Target {
    /// The endpoint.
    pub endpoint: Endpoint<Place>,
    /// What people call it: the pod's or host's name, else the address.
    pub label: Box<str>,
    /// Its address, or its name and port, as an authority: what it is called by, also for requests without Host.
    pub authority: Box<str>,
    /// What it is by its pod, where it has one: the same at another address.
    pub(crate) pod_key: Option<Arc<str>>,
    /// What it is by its address.
    pub(crate) address_key: Arc<str>,
    /// What is spoken to it.
    pub protocol: WireProtocol,
    /// Idle connections, a shard for each worker: a connection lives and dies on one thread.
    idle: Box<[Mutex<Vec<Idle>>]>,
    /// Connections that several exchanges share, likewise.
    multiplexed: Box<[Arc<Multiplexed>]>,
    retired: AtomicBool,
    reach: Reach,
    dial: Dial,
    /// On what it is spoken to.
    pub channel: Channel,
    secure: Secure,
    /// What it has agreed to last, where that is negotiated.
    agreed_http1: AtomicBool,
    inflight: AtomicUsize,
    /// How its legs ended.
    pub counts: Arc<LegCounts>,
}

/// What is spoken to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by prior knowledge, or as the only thing that is offered by TLS.
    Http2,
    /// What it agrees to by TLS.
    Negotiated,
}

/// A connection on which an exchange can begin.
#[derive(Debug)]
pub(crate) enum Opened {
    /// One of its own, which speaks HTTP/1.1.
    Http1(Io),
    /// A stream of one that speaks HTTP/2.
    Http2(StreamSlot),
}

/// A connection that is coming about.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = io::Result<Opened>> + Send>>;

/// How a target is spoken to.
#[derive(Debug)]
enum Secure {
    Clear,
    Tls(tls::Target),
    /// By TLS, were it not for this.
    Broken(String),
}

#[derive(Debug)]
struct Idle {
    io: Io,
    since: Instant,
    /// How long it is kept.
    until: Instant,
}

impl WireProtocol {
    /// As it is configured.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "h2",
            Self::Negotiated => "auto",
        }
    }
}

impl Target {
    /// A target with nothing kept yet; `workers` threads will use it.
    #[must_use]
    pub fn new(endpoint: Endpoint<Place>, protocol: WireProtocol, workers: usize) -> Self {
        let visible = |label: &str| label.bytes().all(|b| b.is_ascii_graphic());
        let authority = endpoint.address.to_string();
        let label = endpoint.label().filter(|label| visible(label)).unwrap_or(&authority).into();
        let port = endpoint.address.addresses().first().map_or(0, |address| address.port());
        let pod_key = endpoint.pod.as_ref().map(|pod| format!("{}/{}:{port}", pod.namespace, pod.name).into());
        Self {
            label,
            pod_key,
            address_key: authority.as_str().into(),
            authority: authority.into(),
            protocol,
            idle: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            multiplexed: match protocol {
                WireProtocol::Http1 => Box::default(),
                WireProtocol::Http2 | WireProtocol::Negotiated => (0..workers.max(1)).map(|_| Arc::default()).collect(),
            },
            retired: AtomicBool::new(false),
            reach: Reach::default(),
            dial: Dial::default(),
            channel: Channel::Clear,
            secure: Secure::Clear,
            agreed_http1: AtomicBool::new(false),
            inflight: AtomicUsize::new(0),
            counts: Arc::default(),
            endpoint,
        }
    }

    /// A target that is spoken to as this policy says.
    #[must_use]
    pub fn reached_by(policy: &Policy, endpoint: Endpoint<Place>, workers: usize, secured: &Secured) -> Self {
        let Manner { protocol, channel } = policy.manner(endpoint.spoken);
        let mut target = Self::new(endpoint, protocol, workers);
        target.secure = match &channel {
            Channel::Clear => Secure::Clear,
            Channel::Contradicted(why) => Secure::Broken((*why).to_owned()),
            Channel::Tls(upstream) => {
                match (upstream.name_of(&target.endpoint), secured.endpoints(&policy.client_tls(upstream))) {
                    (Ok(name), Ok(tls)) => Secure::Tls(tls.target(name)),
                    (Err(why), _) => Secure::Broken(format!("there is no name for its certificate: {why}")),
                    (_, Err(why)) => Secure::Broken(format!("TLS to it cannot be set up: {why}")),
                }
            }
        };
        target.channel = channel;
        target
    }

    /// Whether it is spoken to as this policy says.
    #[must_use]
    pub fn is_reached_by(&self, policy: &Policy) -> bool {
        let Manner { protocol, channel } = policy.manner(self.endpoint.spoken);
        self.protocol == protocol && self.channel == channel
    }

    /// Counts a leg as in flight, unless `cap` legs are already; whether it did. Who was counted must
    /// [`leave`](Self::leave).
    #[must_use]
    pub fn admit(&self, cap: usize) -> bool {
        let admitted = self.inflight.fetch_add(1, Ordering::Relaxed) < cap;
        if !admitted {
            self.leave();
        }
        admitted
    }

    /// A leg that was counted is no longer in flight.
    pub fn leave(&self) {
        self.inflight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Legs in flight now.
    #[must_use]
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Begins to connect, or to wait for its turn where earlier connects got no answer. `limit` is the time that it may
    /// take; who asks watches over it, and says so when it [has passed](Self::connect_timed_out).
    /// Where exchanges share connections there are at most `cap` of them for the worker; past that it waits for a stream.
    #[must_use]
    pub(crate) fn connect(self: &Arc<Self>, worker: usize, limit: Duration, cap: usize) -> Connecting {
        let target = self.clone();
        Box::pin(async move {
            match target.multiplexed.get(worker) {
                None => target.connect_once(limit).await.map(|(io, _)| Opened::Http1(io)),
                Some(multiplexed) => multiplexed.open(cap, || target.connect_once(limit), || target.may_share()).await,
            }
        })
    }

    /// Connects, and finds out what is spoken.
    async fn connect_once(&self, limit: Duration) -> io::Result<(Io, Protocol)> {
        let place = &self.endpoint.address;
        let connecting = async {
            let io = self.dial.connect(place.addresses(), limit).await?;
            match (&self.secure, io) {
                (Secure::Clear, io) => Ok((io, self.known_protocol())),
                // Boxed, because it is large and most connections are in clear.
                (Secure::Tls(tls), Io::Tcp(stream)) => Box::pin(transport::secure(stream, tls, limit)).await,
                (Secure::Tls(_), Io::Tls(_)) => Err(io::ErrorKind::AlreadyExists.into()),
                (Secure::Broken(why), _) => Err(io::Error::other(why.clone())),
            }
        };
        let connected = self.reach.connect(connecting).await;
        match &connected {
            Ok((_, protocol)) => self.agreed_http1.store(*protocol == Protocol::Http1, Ordering::Relaxed),
            Err(_) => place.recheck(),
        }
        connected
    }

    /// What is spoken in clear.
    fn known_protocol(&self) -> Protocol {
        match self.protocol {
            WireProtocol::Http1 | WireProtocol::Negotiated => Protocol::Http1,
            WireProtocol::Http2 => Protocol::Http2,
        }
    }

    /// Whether exchanges can share connections to it, as far as is known.
    fn may_share(&self) -> bool {
        self.protocol == WireProtocol::Http2 || !self.agreed_http1.load(Ordering::Relaxed)
    }

    /// A connect got no answer in the time that it had.
    pub fn connect_timed_out(&self) {
        self.reach.doubt();
        self.endpoint.address.recheck();
    }

    /// What becomes of a leg to it that cannot even be tried: because its name does not resolve, which somebody is then
    /// asked to look at again, or because it is not ready.
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

    /// Takes an idle connection that can carry a request. Those that cannot are closed on the way. For a request that must
    /// not be sent twice (`once`), one that has been idle for long is looked at more closely.
    #[must_use]
    pub(crate) fn checkout(&self, worker: usize, now: Instant, once: bool) -> Option<Opened> {
        if let Some(multiplexed) = self.multiplexed.get(worker) {
            let slot = multiplexed.take();
            if slot.is_some() || self.protocol == WireProtocol::Http2 {
                return slot.map(Opened::Http2);
            }
        }
        let mut idle = self.idle[worker].lock();
        while let Some(mut candidate) = idle.pop() {
            let closely = once && now.saturating_duration_since(candidate.since) > LONG_IDLE;
            if now < candidate.until && candidate.io.is_quiet() && (!closely || candidate.io.is_still_quiet()) {
                return Some(Opened::Http1(candidate.io));
            }
        }
        None
    }

    /// Keeps a connection for the next request; closes it where there are `cap` already or the endpoint is gone.
    pub fn checkin(&self, worker: usize, io: Io, since: Instant, keep: Duration, cap: usize) {
        let mut idle = self.idle[worker].lock();
        if idle.len() < cap && !self.retired.load(Ordering::Acquire) {
            idle.push(Idle { io, since, until: since + keep });
        }
    }

    /// Closes what has been idle for too long or was closed by the endpoint. Runs on the worker's own thread.
    pub fn sweep(&self, worker: usize, now: Instant, keep: Duration) {
        if let Some(multiplexed) = self.multiplexed.get(worker) {
            multiplexed.sweep(now, keep);
        }
        self.idle[worker].lock().retain_mut(|idle| now < idle.until && idle.io.is_quiet());
    }

    /// The endpoint is gone: closes its idle connections, and no connection is kept from now on.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        for shard in &self.idle {
            shard.lock().clear();
        }
        self.multiplexed.iter().for_each(|multiplexed| multiplexed.clear());
    }

    /// Idle connections kept now.
    #[must_use]
    pub fn idle(&self) -> usize {
        let own: usize = self.idle.iter().map(|shard| shard.lock().len()).sum();
        own + self.multiplexed.iter().map(|multiplexed| multiplexed.idle()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Arc<Target> {
        Arc::new(Target::new(Endpoint::ready("[2001:db8::1]:80".parse().unwrap()).into(), WireProtocol::Http1, 1))
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
    async fn what_must_not_be_sent_twice_gets_no_rested_connection_that_was_closed_a_moment_ago() {
        for (rested, once, want) in [(true, true, false), (true, false, true), (false, true, true)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let target =
                Arc::new(Target::new(Endpoint::ready(listener.local_addr().unwrap()).into(), WireProtocol::Http1, 1));
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
    fn an_endpoint_without_a_name_is_called_by_its_address() {
        assert_eq!((&*target().label, &*target().authority), ("[2001:db8::1]:80", "[2001:db8::1]:80"));
    }
}
