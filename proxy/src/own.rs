//! Which endpoints are this process itself: those at the addresses of its own listeners.

use std::{
    cell::OnceCell,
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// The addresses of a host.
pub(crate) type HostAddresses = Arc<BTreeSet<IpAddr>>;

/// The addresses of this process's listeners, for one table. Where a listener accepts connections to every address of the host, the
/// system is asked for these, at most once, and only if an endpoint has the listener's port.
#[derive(Debug)]
pub(crate) struct OwnAddresses<'a> {
    bound: &'a [SocketAddr],
    /// The host's addresses when the previous table was made, which stay in force while the system cannot be asked.
    before: Option<HostAddresses>,
    ask: fn() -> io::Result<BTreeSet<IpAddr>>,
    host: OnceCell<HostAddresses>,
}

// === impl OwnAddresses ===

impl<'a> OwnAddresses<'a> {
    /// Those of listeners that are bound to these addresses.
    pub(crate) fn new(bound: &'a [SocketAddr], before: Option<HostAddresses>) -> Self {
        Self::asking(bound, before, host_addresses)
    }

    fn asking(
        bound: &'a [SocketAddr],
        before: Option<HostAddresses>,
        ask: fn() -> io::Result<BTreeSet<IpAddr>>,
    ) -> Self {
        Self { bound, before, ask, host: OnceCell::new() }
    }

    /// Whether a listener of this process has the address.
    pub(crate) fn contains(&self, address: SocketAddr) -> bool {
        self.bound.iter().filter(|bound| bound.port() == address.port()).any(|bound| {
            bound.ip().to_canonical() == address.ip() || (bound.ip().is_unspecified() && self.host_has(address.ip()))
        })
    }

    /// The host's addresses, if they have mattered to this table.
    pub(crate) fn asked(&self) -> Option<&HostAddresses> {
        self.host.get()
    }

    /// Whether the host has the same addresses as before.
    pub(crate) fn is_still(&self, before: &HostAddresses) -> bool {
        self.host() == before
    }

    fn host_has(&self, address: IpAddr) -> bool {
        // Interfaces name one loopback address, but every one of them leads here.
        address.is_loopback() || self.host().contains(&address)
    }

    fn host(&self) -> &HostAddresses {
        self.host.get_or_init(|| match (self.ask)() {
            Ok(addresses) => Arc::new(addresses),
            Err(error) => {
                tracing::warn!(
                    "the system does not say which addresses this host has ({error}): endpoints that are this process itself are \
                     recognised by the addresses that it had before"
                );
                self.before.clone().unwrap_or_default()
            }
        })
    }
}

/// The addresses of this host, as its network namespace has them.
fn host_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let v4 = fs::read_to_string("/proc/net/fib_trie")?;
    let v6 = match fs::read_to_string("/proc/net/if_inet6") {
        // A kernel without IPv6 has none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        v6 => v6?,
    };
    Ok(local_v4(&v4).map(IpAddr::V4).chain(local_v6(&v6).map(IpAddr::V6)).map(|ip| ip.to_canonical()).collect())
}

/// The local addresses in the text of the routing table: each stands in a line of its own, above the lines with its kinds.
fn local_v4(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut address = None;
    table.lines().filter_map(move |line| {
        if let Some((_, text)) = line.split_once("|-- ") {
            address = text.trim().parse().ok();
        }
        if line.ends_with("/32 host LOCAL") { address } else { None }
    })
}

/// The addresses in the text of the interfaces' IPv6 addresses: 32 hexadecimal digits at the start of each line.
fn local_v6(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(|line| {
        let digits = line.split_whitespace().next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from_bits)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local!(static ASKED: Cell<usize> = const { Cell::new(0) });

    fn one_interface() -> io::Result<BTreeSet<IpAddr>> {
        ASKED.set(ASKED.get() + 1);
        Ok(BTreeSet::from(["192.0.2.1".parse().unwrap()]))
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_system_is_asked_once_for_all_endpoints_and_only_where_a_listener_takes_every_address() {
        let bound = [address("0.0.0.0:8080"), address("192.0.2.9:8081")];
        let own = OwnAddresses::asking(&bound, None, one_interface);
        for (endpoint, is_own) in [("192.0.2.2:80", false), ("192.0.2.9:8081", true), ("192.0.2.1:8081", false)] {
            assert_eq!(own.contains(address(endpoint)), is_own, "{endpoint}");
        }
        assert_eq!((ASKED.get(), own.asked()), (0, None), "no endpoint has the port of the listener on every address");
        for (endpoint, is_own) in [("192.0.2.1:8080", true), ("192.0.2.2:8080", false), ("127.0.0.2:8080", true)] {
            for _ in 0..3 {
                assert_eq!(own.contains(address(endpoint)), is_own, "{endpoint}");
            }
        }
        assert_eq!(ASKED.get(), 1);
    }

    #[test]
    fn a_system_that_does_not_answer_leaves_what_was_known() {
        let bound = [address("[::]:8080")];
        let before = Arc::new(BTreeSet::from(["192.0.2.1".parse().unwrap()]));
        let own = OwnAddresses::asking(&bound, Some(before), || Err(io::ErrorKind::OutOfMemory.into()));
        assert!(own.contains(address("192.0.2.1:8080")) && !own.contains(address("192.0.2.2:8080")));
    }

    #[test]
    fn local_addresses_are_read_from_the_tables_of_the_system() {
        let table = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.7\n        /32 host LOCAL\n     \
                     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(local_v4(table).collect::<Vec<_>>(), [Ipv4Addr::new(192, 0, 2, 7)]);
        let table = "20010db8000000000000000000000001 02 40 00 80 eth0\nbroken\n\n";
        assert_eq!(local_v6(table).collect::<Vec<_>>(), ["2001:db8::1".parse::<Ipv6Addr>().unwrap()]);
    }

    #[test]
    fn this_host_has_the_loopback_address() {
        assert!(host_addresses().unwrap().iter().any(IpAddr::is_loopback));
    }
}
