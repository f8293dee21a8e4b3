//! From an accepted socket to a client that can be served: the PROXY header and the TLS handshake. Both count into the time for the
//! first head, and both end when the connection is evicted or the proxy drains.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use runtime::tls::{self, AcceptError, Accepted, ServerTls};
use tokio::{net::TcpStream, sync::watch, time::Instant};

use crate::{
    clock,
    config::{Listener, ProxyProtocol},
    connection::MIN_DRAIN_IDLE,
    downstream::Downstream,
    headers,
    proxy_protocol::{self, Front, MAX_HEADER},
    seats::Seat,
    shared::Connected,
    transport,
};

/// An accepted connection.
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) config: Arc<Listener>,
    pub(crate) tls: Option<ServerTls>,
    /// The address of the listener, which is its name in logs and metrics.
    pub(crate) listener: SocketAddr,
}

/// The result of reading a PROXY header, and the bytes that were read after it.
struct Introduced {
    peer: SocketAddr,
    rest: BytesMut,
}

// === impl Arrival ===

impl Arrival {
    /// The client's address; none if a PROXY header is expected to give it.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        let peer = self.peer.ip();
        let is_told = self.config.proxy_protocol != ProxyProtocol::Off && headers::is_trusted(&self.config, peer);
        (!is_told).then_some(peer)
    }

    /// Whether there is anything to do before the first head.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none() && self.config.proxy_protocol == ProxyProtocol::Off
    }

    /// Reads the PROXY header and does the handshake, and counts the connection for the client. None if it is not to be served.
    pub(crate) async fn arrive(
        self,
        connected: &mut Connected,
        shutdown: &watch::Receiver<Duration>,
    ) -> Option<Downstream> {
        let deadline = clock::now() + self.config.timeouts.head;
        let seat = connected.seat.clone();
        tokio::select! {
            arrived = self.go(connected, deadline) => arrived,
            () = has_to_go(&seat) => None,
            () = drained(shutdown.clone()) => None,
        }
    }

    async fn go(self, connected: &mut Connected, deadline: Instant) -> Option<Downstream> {
        let is_told = self.client().is_none();
        let Self { stream, peer, config, tls, listener } = self;
        let mut introduced = Introduced { peer, rest: BytesMut::new() };
        if config.proxy_protocol != ProxyProtocol::Off {
            let reading = introduce(&stream, peer, &config);
            match tokio::time::timeout_at(deadline, reading).await {
                Ok(Ok(told)) => introduced = told,
                Ok(Err(why)) => {
                    tracing::debug!(%peer, %listener, "a connection is closed: {why}");
                    return None;
                }
                Err(_) => return None,
            }
        }
        if is_told {
            connected.is_of(introduced.peer.ip());
        }
        let Some(tls) = tls else {
            let mut client = Downstream::new(stream, introduced.peer);
            client.buffer = introduced.rest;
            return Some(client.due(deadline));
        };
        let config = tls.config(stream.local_addr().ok().map(|local| local.ip()));
        let accepted = tls::accept(stream, &introduced.rest, config, &transport::turns(), deadline).await;
        tls::count_handshake(&listener.to_string(), &accepted);
        match accepted {
            Ok(Accepted { stream, certificate, .. }) => {
                Some(Downstream::secured(stream, introduced.peer, certificate).due(deadline))
            }
            Err(error) => {
                tracing::debug!(peer = %introduced.peer, %listener, "a TLS handshake has failed: {error}");
                if let AcceptError::NotTls { stream, read } = error {
                    tls::refuse_plain(stream, &read).await;
                }
                None
            }
        }
    }
}

/// An IPv4-mapped address, as a listener of both versions has it, as that of IPv4: everywhere a client has one address.
pub(crate) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Reads the PROXY header of a connection.
async fn introduce(stream: &TcpStream, peer: SocketAddr, config: &Listener) -> Result<Introduced, String> {
    let trusted = headers::is_trusted(config, peer.ip());
    let required = config.proxy_protocol == ProxyProtocol::Require;
    if required && !trusted {
        return Err("PROXY headers are required, and only trust-forwarded may send them".to_owned());
    }
    let mut read = BytesMut::with_capacity(512);
    loop {
        match proxy_protocol::parse(&read).map_err(|error| error.to_string())? {
            Front::Header(_) if !trusted => return Err("only trust-forwarded may send a PROXY header".to_owned()),
            Front::Header(header) => {
                let rest = read.split_off(header.length);
                let peer = header.addresses.map_or(peer, |addresses| canonical(addresses.source));
                return Ok(Introduced { peer, rest });
            }
            Front::Absent if required => return Err("there is no PROXY header, and one is required".to_owned()),
            Front::Absent => return Ok(Introduced { peer, rest: read }),
            Front::Partial => {}
        }
        // Room for one byte more than the longest header, so that a longer one is recognised.
        read.reserve(MAX_HEADER);
        loop {
            stream.readable().await.map_err(|error| error.to_string())?;
            match stream.try_read_buf(&mut read) {
                Ok(0) => return Err("the client has gone".to_owned()),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// Waits until the connection is evicted to make room for another.
async fn has_to_go(seat: &Seat) {
    poll_fn(|cx| {
        seat.register(cx);
        if seat.is_cut() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Waits until the proxy drains, and then for the time in which a new connection may still bring a request.
async fn drained(mut shutdown: watch::Receiver<Duration>) {
    // Without a sender the worker ends as well.
    let _ = shutdown.changed().await;
    let idle = *shutdown.borrow();
    tokio::time::sleep(idle.max(MIN_DRAIN_IDLE)).await;
}
