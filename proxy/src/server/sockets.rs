//! The listening sockets of a listener, one for each worker, and a guard against sharing their address with another process by accident.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

/// The length of the accept queue.
const BACKLOG: i32 = 4096;

/// The time for handshakes that have begun when a process leaves an address to those that share it. Connections of clients with longer round trips
/// are reset, unless the kernel hands them over.
const HANDSHAKES: Duration = Duration::from_millis(500);

/// The advice for an address that is in use.
const IN_USE: &str = "already in use: another process listens there. Two may share the address, as for an upgrade, if both have --reuse-port";

/// Whether the kernel hands connections that a closed socket had not accepted to sockets that share its address (Linux 5.14 and later).
const MIGRATES: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

/// A classic BPF program, which sees a segment from its TCP header on. It drops those with SYN and without ACK.
const NO_SYN: [SockFilter; 5] = [
    // The byte with the flags, and of them SYN and ACK.
    SockFilter::new(0x30, 0, 0, 13),
    SockFilter::new(0x54, 0, 0, 0x12),
    // SYN alone goes on to "keep nothing", all others to "keep everything".
    SockFilter::new(0x15, 0, 1, 0x02),
    SockFilter::new(0x06, 0, 0, 0),
    SockFilter::new(0x06, 0, 0, u32::MAX),
];

/// The sockets of one listener.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) address: SocketAddr,
    pub(super) listeners: Vec<TcpListener>,
    /// Whether other processes may have sockets of their own at the address.
    pub(super) is_shared: bool,
    /// Held as long as the address must not be shared with another process.
    pub(super) claim: Option<Claim>,
}

/// Workers share their address by `SO_REUSEPORT`, and the kernel then permits any process of the same user to share it as well: half of
/// the requests would go to a forgotten process. A process that does not share its address therefore holds a name (an abstract socket),
/// which only one process of a network namespace can hold. A process that shares it checks that no process holds the name.
#[derive(Debug)]
pub(super) struct Claim {
    _name: UnixListener,
}

// === impl Sockets ===

impl Sockets {
    /// Binds an address for this number of workers; port 0 selects a free port.
    pub(super) fn bind(address: SocketAddr, workers: usize, reuse_port: bool) -> io::Result<Self> {
        let in_use = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => io::Error::new(io::ErrorKind::AddrInUse, IN_USE),
            _ => error,
        };
        // A free port is not in use by any other process.
        let mut claim = (address.port() != 0).then(|| Claim::of(address)).transpose().map_err(in_use)?;
        if address.port() != 0 && !reuse_port {
            // Fails if another process listens there, whether it shares its address or not.
            socket(address, false).map_err(in_use)?;
        }
        let mut listeners = Vec::new();
        let mut actual = address;
        for _ in 0..workers {
            let socket = socket(actual, true).map_err(in_use)?;
            socket.listen(BACKLOG).map_err(in_use)?;
            let listener = TcpListener::from(socket);
            actual = listener.local_addr()?;
            listeners.push(listener);
        }
        if reuse_port {
            claim = None;
        } else if claim.is_none() {
            claim = Some(Claim::of(actual).map_err(in_use)?);
        }
        Ok(Self { address: actual, listeners, is_shared: reuse_port, claim })
    }

    /// Uses a passed listening socket, from which all workers accept.
    pub(super) fn passed(socket: &TcpListener, workers: usize) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let listeners = (0..workers).map(|_| socket.try_clone()).collect::<io::Result<_>>()?;
        // It stays open in the process that has passed it, which gives it to the next one.
        Ok(Self { address: socket.local_addr()?, listeners, is_shared: false, claim: None })
    }
}

/// Leaves the address of a listening socket to the processes that share it: from now on it accepts only connections whose handshake has begun.
/// Returns the time for these.
///
/// The kernel assigns each connection to one of the sockets that share an address, and resets those that a socket has not accepted when it is
/// closed, unless it hands them over (`tcp_migrate_req`). If not, segments that begin a connection are dropped here, without an answer: the client
/// repeats them a second later, and another process gets them.
pub(super) fn leave_address(listener: &tokio::net::TcpListener) -> Duration {
    if std::fs::read_to_string(MIGRATES).is_ok_and(|text| text.trim() != "0") {
        return Duration::ZERO;
    }
    match SockRef::from(listener).attach_filter(&NO_SYN) {
        Ok(()) => HANDSHAKES,
        Err(error) => {
            tracing::warn!(%error, "connections that arrive now may be reset: the kernel does not accept a filter for them");
            Duration::ZERO
        }
    }
}

// === impl Claim ===

impl Claim {
    fn of(address: SocketAddr) -> io::Result<Self> {
        let name = UnixAddr::from_abstract_name(format!("fanfare/listener/{address}"))?;
        Ok(Self { _name: UnixListener::bind_addr(&name)? })
    }
}

/// A bound socket. With `shares`, other sockets with that option may be bound to the address as well.
fn socket(address: SocketAddr, shares: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    fn kind(sockets: io::Result<Sockets>) -> io::ErrorKind {
        sockets.expect_err("it is refused").kind()
    }

    #[test]
    fn an_address_is_shared_by_workers_and_with_no_other_process_by_accident() {
        let first = Sockets::bind(loopback(), 3, false).unwrap();
        assert_eq!(first.listeners.len(), 3);
        let address = first.address;
        for reuse_port in [false, true] {
            let refused = Sockets::bind(address, 1, reuse_port);
            assert!(refused.as_ref().unwrap_err().to_string().contains("--reuse-port"), "{refused:?}");
            assert_eq!(kind(refused), io::ErrorKind::AddrInUse);
        }
        drop(first);
        Sockets::bind(address, 1, false).expect("it is free again");
    }

    #[test]
    fn an_address_is_shared_where_both_processes_say_so() {
        let first = Sockets::bind(loopback(), 2, true).unwrap();
        let second = Sockets::bind(first.address, 2, true).expect("both say so");
        assert_eq!(kind(Sockets::bind(first.address, 2, false)), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(kind(Sockets::bind(second.address, 2, false)), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_address_of_another_process_is_refused() {
        let other = TcpListener::bind(loopback()).unwrap();
        for reuse_port in [false, true] {
            assert_eq!(kind(Sockets::bind(other.local_addr().unwrap(), 1, reuse_port)), io::ErrorKind::AddrInUse);
        }
    }
}
