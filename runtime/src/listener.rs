//! HTTP listeners beside the data path: any router, with limits on connections, bodies and time. Long polls and event streams have a
//! limit of their own, and an idle or slow connection gives way to a new one, so that a probe is always answered.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, header};
use axum::middleware;
use tokio::net::TcpListener;

mod connection;
mod guard;
mod room;
mod transport;

use connection::{ConnectionInfo, GuardedListener};
pub use guard::Guard;
pub use room::{Full, Waiter, WaitingRoom};

use crate::tls::ServerTls;

/// What a listener allows its clients. The defaults fit scrapers, probes and people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at a time beside those with long polls and event streams, 128 by default. One more replaces the one that
    /// has been longest without a whole request; where all are being answered it waits in the listen queue.
    pub connections: usize,
    /// The most requests at a time that wait for something to happen (long polls, event streams), 1024 by default; one more gets 503.
    pub waiting: usize,
    /// The largest body that the extractors of merged routes read, in bytes, 64 KiB by default.
    pub body: usize,
    /// How long the head of a request may take from its first byte (on a new connection: from the start), 10 s by default.
    pub read_timeout: Duration,
    /// How long a kept connection may be idle, and how long a client may leave an answer unread, 60 s by default.
    pub idle_timeout: Duration,
}

/// The client's address: an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// A router on its listener, not yet answering: connections wait in the listen queue until [`run`](Self::run).
pub struct Bound {
    listener: GuardedListener,
    router: Router,
    addr: SocketAddr,
}

// === impl Peer ===

impl Peer {
    /// Whether the request comes from this machine, but not from a web page in a browser on it: browsers send `Origin`.
    #[must_use]
    pub fn is_local(&self, headers: &HeaderMap) -> bool {
        self.0.ip().to_canonical().is_loopback() && !headers.contains_key(header::ORIGIN)
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            waiting: 1024,
            body: 64 << 10,
            read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

// === impl Bound ===

impl Bound {
    /// Binds the listener that logs and errors call `name`. Port 0 takes a free port: [`addr`](Self::addr) tells which. A
    /// handler may take its time (long polls, event streams): the connection's time-outs rest while it runs and while its
    /// body streams. One that waits before it answers enters the [`WaitingRoom`], which every request has as an extension.
    ///
    /// # Errors
    /// The address cannot be bound; the error names it.
    pub async fn bind(name: &'static str, addr: SocketAddr, router: Router, limits: Limits) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot bind the {name} listener to {addr}: {error}"))
        };
        let listener = TcpListener::bind(addr).await.map_err(named)?;
        Self::with(name, listener, router, limits)
    }

    /// Listens on a socket that was passed to this process, and is bound.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn listen(
        name: &'static str,
        socket: std::net::TcpListener,
        router: Router,
        limits: Limits,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::with(name, TcpListener::from_std(socket)?, router, limits)
    }

    fn with(name: &'static str, listener: TcpListener, router: Router, limits: Limits) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let router = router.layer(DefaultBodyLimit::max(limits.body)).layer(middleware::from_fn(connection::track));
        Ok(Self { listener: GuardedListener::new(name, listener, addr, limits), router, addr })
    }

    /// Speaks TLS, where it is configured.
    #[must_use]
    pub fn tls(mut self, tls: Option<ServerTls>) -> Self {
        if let Some(tls) = tls {
            self.listener.secure(tls);
        }
        self
    }

    /// The address that is listened on, with the real port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL of that address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.listener.is_secure() { "https" } else { "http" }, self.addr)
    }

    /// Answers requests until `shutdown` resolves, then finishes those under way. A kept connection may bring one more for a second,
    /// because it may be on its way; its answer says that the connection ends.
    ///
    /// # Errors
    /// None today; the signature leaves room for a listener that fails for good.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let service = self.router.into_make_service_with_connect_info::<ConnectionInfo>();
        let room = self.listener.room().clone();
        let over = async move {
            shutdown.await;
            room.close();
            room.empty().await;
        };
        axum::serve(self.listener, service).with_graceful_shutdown(over).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_local_on_the_loopback_address_and_without_an_origin() {
        let none = HeaderMap::new();
        for (address, local) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("[::ffff:127.0.0.1]:1", true), ("192.0.2.1:1", false)]
        {
            let peer = Peer(address.parse().expect("an address"));
            assert_eq!(peer.is_local(&none), local, "{address}");
            let page = HeaderMap::from_iter([(header::ORIGIN, "http://192.0.2.1".parse().expect("a value"))]);
            assert!(!peer.is_local(&page), "{address}");
        }
    }
}
