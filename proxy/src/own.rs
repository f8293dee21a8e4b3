//! Which endpoints are this process itself: those at the addresses of its own listeners.

use std::{
    cell::OnceCell,
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
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
    ask: fn() -> std::io::Result<BTreeSet<IpAddr>>,
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
        ask: fn() -> std::io::Result<BTreeSet<IpAddr>>,
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

/// The addresses of all interfaces of this host.
fn host_addresses() -> std::io::Result<BTreeSet<IpAddr>> {
    let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    Ok(addresses.map(|address| address.to_canonical()).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local!(static ASKED: Cell<usize> = const { Cell::new(0) });

    fn one_interface() -> std::io::Result<BTreeSet<IpAddr>> {
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
        let own = OwnAddresses::asking(&bound, Some(before), || Err(std::io::ErrorKind::OutOfMemory.into()));
        assert!(own.contains(address("192.0.2.1:8080")) && !own.contains(address("192.0.2.2:8080")));
    }

    #[test]
    fn this_host_has_the_loopback_address() {
        assert!(host_addresses().unwrap().iter().any(IpAddr::is_loopback));
    }
}
