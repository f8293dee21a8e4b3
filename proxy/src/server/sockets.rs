//! The listening sockets of a listener, one for each worker, and a guard against sharing their address with another process by accident.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
};

use socket2::{Domain, Protocol, Socket, Type};

/// The length of the accept queue.
const BACKLOG: i32 = 4096;

/// The advice for an address that is in use.
const IN_USE: &str = "already in use: another process listens there. Two may share the address, as for an upgrade, if both have --reuse-port";

/// Whether the kernel hands connections that a closed socket had not accepted to sockets that share its address (Linux 5.14 and later).
const MIGRATES: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

/// The sockets of one listener.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) address: SocketAddr,
    pub(super) listeners: Vec<TcpListener>,
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
        Ok(Self { address: actual, listeners, claim })
    }

    /// Uses a passed listening socket, from which all workers accept.
    pub(super) fn passed(socket: &TcpListener, workers: usize) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let listeners = (0..workers).map(|_| socket.try_clone()).collect::<io::Result<_>>()?;
        Ok(Self { address: socket.local_addr()?, listeners, claim: None })
    }
}

/// Warns if the kernel resets connections that were not accepted when a process that shares its address ends.
pub(super) fn check_migration() {
    let migrates = std::fs::read_to_string(MIGRATES).is_ok_and(|text| text.trim() != "0");
    if !migrates {
        tracing::warn!(
            "connections that come in the moment in which a process that shares its address ends are reset by the system, unless it is told \
             otherwise: sysctl -w net.ipv4.tcp_migrate_req=1"
        );
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
