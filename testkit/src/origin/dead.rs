//! Addresses that never answer: one refuses connections, one never completes them, one stays silent.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// How long a loopback connect is given before it counts as stalled. The kernel completes the
/// handshake on loopback within the call itself, so time plays no part in a healthy one.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// An address that refuses connections (RST to a SYN) as long as this value lives: a socket is bound
/// to it but does not listen, so that no other process can take the port.
#[derive(Debug)]
pub struct Refusing {
    socket: Socket,
    address: SocketAddr,
}

/// An address that never answers, as long as this value lives: connects stall, or succeed and stay silent.
#[derive(Debug)]
pub struct BlackHole {
    listener: Socket,
    _filling: Vec<TcpStream>,
    address: SocketAddr,
}

impl Refusing {
    /// Reserves a port on 127.0.0.1.
    ///
    /// # Panics
    /// If the system has no port.
    #[must_use]
    pub fn new() -> Self {
        Self::at(loopback())
    }

    /// Reserves that address; port 0 takes any.
    ///
    /// # Panics
    /// If it cannot be bound.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let bound = bound(address).and_then(|socket| {
            let address = local(&socket)?;
            Ok(Self { socket, address })
        });
        bound.unwrap_or_else(|e| panic!("cannot bind {address}: {e}"))
    }

    /// The address that refuses.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to listen there, without ever accepting: from now on connections succeed, and nothing
    /// answers (as [`BlackHole::silent`]).
    ///
    /// # Panics
    /// If the system refuses to listen.
    #[must_use]
    pub fn into_silent(self) -> BlackHole {
        BlackHole { listener: self.socket, _filling: Vec::new(), address: self.address }.into_silent()
    }
}

impl Default for Refusing {
    fn default() -> Self {
        Self::new()
    }
}

impl BlackHole {
    /// A connect to it never completes: the listener's queue is full, so the kernel drops each SYN,
    /// as a dead host or a dropping firewall does. Blocks for 200 ms.
    ///
    /// # Panics
    /// If the queue cannot be filled, which would be a kernel that ignores the backlog.
    #[must_use]
    pub fn unconnectable() -> Self {
        Self::unconnectable_at(loopback())
    }

    /// [`BlackHole::unconnectable`] at that address; port 0 takes any.
    ///
    /// # Panics
    /// As [`BlackHole::unconnectable`], or if the address cannot be bound.
    #[must_use]
    pub fn unconnectable_at(address: SocketAddr) -> Self {
        let Refusing { socket, address } = Refusing::at(address);
        let listening = socket.listen(0);
        listening.unwrap_or_else(|e| panic!("cannot listen at {address}: {e}"));
        let mut filling = Vec::new();
        for _ in 0..16 {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => filling.push(stream),
                Err(_) => {
                    return Self { listener: socket, _filling: filling, address };
                }
            }
        }
        panic!("{address} still accepts connections with 16 in a queue for none");
    }

    /// A connect to it succeeds (the kernel completes it), bytes are taken until the kernel's buffers
    /// are full, and nothing is ever answered or closed, as a process that hangs does. Up to 1,024
    /// connections.
    ///
    /// # Panics
    /// If the system has no port.
    #[must_use]
    pub fn silent() -> Self {
        Refusing::new().into_silent()
    }

    /// Makes room in the queue: from now on connections succeed, and nothing answers (as [`BlackHole::silent`]).
    ///
    /// # Panics
    /// If the system refuses to listen.
    #[must_use]
    pub fn into_silent(self) -> Self {
        let listening = self.listener.listen(1024);
        listening.unwrap_or_else(|e| panic!("cannot listen at {}: {e}", self.address));
        self
    }

    /// How many sockets of this network namespace are connecting to it and have no answer yet (`SYN_SENT`).
    ///
    /// # Panics
    /// If it has no IPv4 address, or the system does not tell.
    #[must_use]
    pub fn connecting(&self) -> usize {
        let SocketAddr::V4(address) = self.address else { panic!("{} is no IPv4 address", self.address) };
        let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells its sockets");
        // Number, local address, remote address, state: proc_net_tcp.txt of the kernel's documentation.
        let sockets = table.lines().map(|line| line.split_whitespace().skip(2));
        sockets.filter(|columns| columns.clone().take(2).eq([&*remote, "02"])).count()
    }

    /// The address that never answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A socket bound to the address that does not listen. Reusable, so that a listener can be bound
/// beside it later.
pub(super) fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

pub(super) fn local(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?;
    address.as_socket().ok_or_else(|| io::Error::other("bound to something that is no IP address"))
}
